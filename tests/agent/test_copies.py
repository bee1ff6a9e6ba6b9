"""A backup goes through all kinds of stores and is at each what it was: we restore it, and so does Weaviate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from tests.agent.conftest import Source, differences, emptied, observed
from tests.agent.surroundings import (
    Surroundings,
    backup_order,
    directory_store,
    restore_order,
    whole_backup,
    whole_restore,
)
from tests.agent.test_backup_and_restore import succeeded
from tests.azure_server import running_azure_server
from tests.gcs_server import running_gcs_server
from tests.stored.conftest import contents
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.copying import copy_backup
from weaviate_backup.stored.passage import Passage

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
BACKUP = "travelled"
PLACE = "copies"


@dataclass(frozen=True)
class Stop:
    """A store on the way, and how Weaviate's own module finds it."""

    backend: str
    store: Surroundings

    def open(self) -> ObjectStore:
        is_directory = self.store.location.filesystem is not None
        return open_store(
            self.store.location,
            credentials=self.store.credentials,
            filesystem_root=self.store.objects if is_directory else None,
        )


@asynccontextmanager
async def stops(directory: Path) -> AsyncIterator[list[Stop]]:
    """Servers of GCS and Azure, and a directory."""
    with ExitStack() as stack:
        gcs = await asyncio.to_thread(stack.enter_context, running_gcs_server(directory))
        azure = await asyncio.to_thread(stack.enter_context, running_azure_server(directory))
        gcs.make_bucket(PLACE)
        azure.make_container(PLACE)
        yield [
            Stop(
                "gcs",
                Surroundings(
                    LocationSpec(gcs=gcs.location(PLACE, "prod")),
                    {},
                    directory,
                    {
                        "BACKUP_GCS_BUCKET": PLACE,
                        "BACKUP_GCS_PATH": "prod",
                        "BACKUP_GCS_USE_AUTH": "false",
                        "STORAGE_EMULATOR_HOST": gcs.endpoint.removeprefix("http://"),
                    },
                ),
            ),
            Stop(
                "azure",
                Surroundings(
                    LocationSpec(azure=azure.location(PLACE, "prod")),
                    azure.credentials,
                    directory,
                    {
                        "BACKUP_AZURE_CONTAINER": PLACE,
                        "BACKUP_AZURE_PATH": "prod",
                        "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{azure.connection_string}",
                    },
                ),
            ),
            filesystem(directory),
        ]


def filesystem(directory: Path) -> Stop:
    store = directory_store(directory)
    return Stop(
        "filesystem",
        Surroundings(store.location, {}, store.objects, {"BACKUP_FILESYSTEM_PATH": str(store.objects)}),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def way(tmp_path_factory: pytest.TempPathFactory, source: Source) -> AsyncIterator[list[Stop]]:
    """A backup of ours on S3, copied from each stop to the next."""
    directory = tmp_path_factory.mktemp("way")
    order = backup_order(source.cluster, source.store, source.collections, backup_id=BACKUP)
    await whole_backup(directory / "backup", source.cluster, source.store, order, source.collections)
    async with stops(directory) as found:
        whole = [Stop("s3", source.store), *found]
        for here, there in zip(whole, found, strict=False):
            (copied,) = await asyncio.to_thread(copy_backup, Passage(here.open(), there.open()), BACKUP)
            assert copied.verifiable
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def elsewhere(tmp_path_factory: pytest.TempPathFactory, way: list[Stop]) -> AsyncIterator[WeaviateCluster]:
    """A server with Weaviate's own backup modules on every stop."""
    modules = {"ENABLE_MODULES": ",".join(f"backup-{stop.backend}" for stop in way)}
    for stop in way:
        modules |= stop.store.weaviate_environment
    async with weaviate_cluster(tmp_path_factory.mktemp("elsewhere"), environment=modules) as cluster:
        yield cluster


async def test_a_copy_of_copies_is_identical(source: Source, way: list[Stop]) -> None:
    last = contents(way[-1].store.objects / BACKUP)
    assert last == contents(source.store.objects / BACKUP)
    assert {"manifest.json", "backup_config.json"} < last.keys()


@pytest.mark.parametrize("number", range(3), ids=["gcs", "azure", "filesystem"])
async def test_we_restore_from_wherever_it_is(
    source: Source, way: list[Stop], elsewhere: WeaviateCluster, tmp_path: Path, number: int
) -> None:
    """Directly: the target's own stores play no part."""
    stop = way[number]
    await emptied(elsewhere, source.dataset)
    if stop.store.location.filesystem is not None:
        (tmp_path / "store").symlink_to(stop.store.objects)
    order = restore_order(elsewhere, stop.store, backup_id=BACKUP)
    report = await whole_restore(tmp_path, elsewhere, stop.store, order, source.collections)
    assert report.inspected is not None
    assert report.inspected.contents.verifiable
    assert differences(source.before, await observed(elsewhere, source.dataset)) == []


@pytest.mark.parametrize("number", range(3), ids=["gcs", "azure", "filesystem"])
async def test_weaviate_restores_from_wherever_it_is(
    source: Source, way: list[Stop], elsewhere: WeaviateCluster, number: int
) -> None:
    path = f"/v1/backups/{way[number].backend}/{BACKUP}/restore"
    await emptied(elsewhere, source.dataset)
    await elsewhere.call("POST", path, {})
    await succeeded(elsewhere, path)
    assert differences(source.before, await observed(elsewhere, source.dataset)) == []


async def test_an_incremental_backup_of_a_server_takes_along_what_it_builds_on(
    source: Source, way: list[Stop], elsewhere: WeaviateCluster
) -> None:
    stop = way[1]
    for backup_id, base in (("full", None), ("changes", "full")):
        wish = {"id": backup_id, "incremental_base_backup_id": base} if base else {"id": backup_id}
        await source.cluster.call("POST", "/v1/backups/s3", wish)
        await succeeded(source.cluster, f"/v1/backups/s3/{backup_id}")
    passage = Passage(Stop("s3", source.store).open(), stop.open())
    copied = await asyncio.to_thread(copy_backup, passage, "changes")
    assert [(each.backup_id, each.verifiable) for each in copied] == [("full", False), ("changes", False)]
    await emptied(elsewhere, source.dataset)
    path = f"/v1/backups/{stop.backend}/changes/restore"
    await elsewhere.call("POST", path, {})
    await succeeded(elsewhere, path)
    assert differences(source.before, await observed(elsewhere, source.dataset)) == []
