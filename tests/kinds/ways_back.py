"""Backs up all kinds of data by us and by the server itself, and looks at what each way back brings."""

from enum import StrEnum
from functools import cached_property
from pathlib import Path

from e2e.bench import server_backup
from e2e.cluster import manifests
from e2e.dataset.comparison import compare, uneven_replicas
from e2e.dataset.kinds import settle
from e2e.dataset.loading import load, remove
from e2e.dataset.observation import Observation, observe, wait_until_answering
from tests.scenarios.world import World

QUEUES_SECONDS = 4.0
UNCOUNTED = "TenantsInLogs"
"""What a server reads out of its logs is in memtables, and its counts of a shard leave those out."""


class Way(StrEnum):
    """Who made the backup and who restored it."""

    OURS = "ours, restored by us"
    OURS_BY_SERVER = "ours, restored by the server"
    SERVERS_BY_US = "the server's own, restored by us"
    SERVERS = "the server's own, restored by the server"


class WaysBack:
    """Each way is gone once, when first asked for. The backups are made before anybody woke an inactive tenant."""

    def __init__(self, world: World, *, asynchronous: bool) -> None:
        self.world = world
        self.asynchronous = asynchronous
        self._brought: dict[Way, Observation] = {}

    @cached_property
    def version(self) -> str:
        return self.world.weaviate.version()

    @cached_property
    def inactive_files(self) -> dict[str, list[str]]:
        """collection/tenant -> files with objects of every inactive tenant, as they were when they were backed up."""
        self._backups  # noqa: B018
        return self._files

    @cached_property
    def warned(self) -> set[str]:
        """Reasons that the status of our backup gives for what it may lack."""
        self._backups  # noqa: B018
        return self._warned

    @cached_property
    def before(self) -> Observation:
        """What was there when both backups were made."""
        self._backups  # noqa: B018
        return self._observe()

    def differences(self, way: Way, collection: str) -> list[str]:
        """In what a collection that came back this way differs from the one that was backed up."""
        before, after = self.before.of(collection), self._after(way).of(collection)
        uneven = [] if collection == UNCOUNTED else uneven_replicas(after)
        return [*compare(before, after), *uneven]

    @cached_property
    def _backups(self) -> tuple[str, str]:
        """Names of ours and of the server's own."""
        world, ours, servers = self.world, self.world.name(), self.world.name()
        load(world.weaviate, world.dataset)
        settle(world.weaviate, world.dataset, switched=self._switched)
        self._files = {
            f"{shape.name}/{tenant}": self._object_files(shape.name, tenant)
            for shape in world.dataset.shapes
            for tenant in shape.inactive_tenants
        }
        world.complete(manifests.backup(ours))
        self._warned = {each["reason"] for each in world.resource("weaviatebackup", ours)["status"].get("warnings", ())}
        server_backup.back_up(world.weaviate, servers, level="ZstdBestSpeed")
        return ours, servers

    def _after(self, way: Way) -> Observation:
        if way not in self._brought:
            self.before  # noqa: B018
            ours, servers = self._backups
            remove(self.world.weaviate, self.world.dataset)
            name = ours if way in (Way.OURS, Way.OURS_BY_SERVER) else servers
            if way in (Way.OURS, Way.SERVERS_BY_US):
                source = {"locationRef": {"name": "s3"}, "backupID": name}
                self.world.complete(manifests.restore(self.world.name(), source=source))
            else:
                server_backup.restore(self.world.weaviate, name)
            self._brought[way] = self._observe()
        return self._brought[way]

    def _observe(self) -> Observation:
        dataset, urls = self.world.dataset, self.world.lab.weaviate_urls
        wait_until_answering(urls, [shape.name for shape in dataset.shapes])
        settle(self.world.weaviate, dataset, switched=lambda _: True)
        return observe(urls, dataset, patience_seconds=QUEUES_SECONDS if self.asynchronous else 0)

    def _switched(self, collection: str) -> bool:
        return all((shard / "main.hnsw.commitlog.d").is_dir() for shard in self._shards(collection))

    def _shards(self, collection: str) -> list[Path]:
        lab = self.world.lab
        roots = [lab.volume(ordinal) / collection.lower() for ordinal in range(len(lab.weaviate_urls))]
        return [shard for root in roots if root.is_dir() for shard in root.iterdir()]

    def _object_files(self, collection: str, tenant: str) -> list[str]:
        directories = [shard / "lsm" / "objects" for shard in self._shards(collection) if shard.name == tenant]
        return [path.name for directory in directories for path in directory.iterdir() if path.stat().st_size]
