"""A node whose shards are frozen already, by hand and without a server: what FREEZE leaves, for all steps after it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.agent.small_restore import PLACE
from tests.places import place_of

from weaviate_backup.agent.access import KEPT_FILE, Access, _keep
from weaviate_backup.agent.durability import boot_id
from weaviate_backup.agent.journal import JOURNAL, Journal
from weaviate_backup.agent.workspace import FROZEN, SCHEMA, Workspace, operation_directory
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.session import (
    DATA_DIRECTORY,
    BackupOrder,
    Claimant,
    Frozen,
    SessionOrder,
    WeaviateEndpoint,
)
from weaviate_backup.settings import AgentSettings

COLLECTION = "Article"
STARTED_AT = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Node:
    """`shards`: shard -> file -> content. `name` is the operation's, in namespace `tenant-<uid>`."""

    base: Path
    store: Path
    uid: str
    shards: Mapping[str, Mapping[str, bytes]]
    name: str = "weaviate-0"
    nodes: tuple[str, ...] = ("weaviate-0",)
    backup_id: str = "nightly"
    location: LocationSpec = field(default_factory=lambda: LocationSpec.model_validate(PLACE))
    credentials: Mapping[str, str] = field(default_factory=dict)
    chunk_size_bytes: int = 1 << 20

    @property
    def claimant(self) -> Claimant:
        return Claimant(cluster=f"cluster-{self.uid}", namespace=f"tenant-{self.uid}", name=self.backup_id)

    def workspace(self) -> Workspace:
        """As an agent that starts finds it; the caller closes its journal."""
        secrets = self.base / "credentials"
        secrets.mkdir(parents=True, exist_ok=True)
        for key, value in self.credentials.items():
            (secrets / key).write_text(value)
        work = BackupOrder(
            started_at=STARTED_AT,
            leader=self.nodes[0],
            nodes=self.nodes,
            collections=(COLLECTION,),
            chunk_size_bytes=self.chunk_size_bytes,
            compression_level="NoCompression",
        )
        order = SessionOrder(
            operation_uid=self.uid,
            node=self.name,
            backup_id=self.backup_id,
            location=self.location,
            server_version="1.39.1",
            weaviate=WeaviateEndpoint(host="127.0.0.1", data_path=str(self.data)),
            claimant=self.claimant,
            work=work,
        )
        settings = AgentSettings(
            operation_uid=self.uid,
            node=self.name,
            data_path=self.data,
            credentials_directory=secrets,
            ca_directory=self.base / "nowhere",
            signing_directory=self.base / "nowhere",
            filesystem_root=self.store,
        )
        self.directory.mkdir(parents=True, exist_ok=True)
        return Workspace(settings, order, Journal(operation_directory(place_of(self.data), self.uid) / JOURNAL))

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def directory(self) -> Path:
        return self.data / DATA_DIRECTORY / self.uid

    def file(self, shard: str, name: str) -> Path:
        return self.directory / FROZEN / COLLECTION.lower() / shard / name

    def freeze(self, *, frozen: bool = True) -> None:
        """Files, schema and journal; without `frozen` as an agent leaves them that died before the end."""
        workspace = self.workspace()
        with workspace.journal as journal:
            for shard, files in self.shards.items():
                for name, content in files.items():
                    path = self.file(shard, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                journal.append("shard", **self._record(shard))
            (self.directory / SCHEMA).mkdir(exist_ok=True)
            (self.directory / SCHEMA / f"{COLLECTION}.json").write_text(json.dumps(self._schema()))
            _keep(workspace.directory / KEPT_FILE, Access())
            if frozen:
                journal.append("frozen", result=self._frozen().model_dump(mode="json"))

    def _record(self, shard: str) -> dict[str, Any]:
        at = STARTED_AT.isoformat()
        return {
            "collection": COLLECTION,
            "shard": shard,
            "driver": "hand",
            "boot": boot_id(),
            "halt_seconds": 0.0,
            "object_count": None,
            "bytes": sum(map(len, self.shards[shard].values())),
            "files": len(self.shards[shard]),
            "started_at": at,
            "ended_at": at,
        }

    def _schema(self) -> dict[str, object]:
        physical = {shard: {"name": shard, "belongsToNodes": [self.name]} for shard in self.shards}
        state = {"indexID": COLLECTION, "physical": physical}
        return {"class": {"class": COLLECTION, "properties": []}, "state": state, "aliases": {}, "version": 1}

    def _frozen(self) -> Frozen:
        files = [content for of in self.shards.values() for content in of.values()]
        return Frozen(
            collections=(COLLECTION,),
            shards=len(self.shards),
            bytes_total=sum(map(len, files)),
            files_total=len(files),
            longest_halt_seconds=0.0,
        )


def shard_of(mark: str, *, size_bytes: int = 1000) -> dict[str, bytes]:
    """A shard's files, of the same sizes whatever the mark."""
    return {
        "indexcount": (7).to_bytes(8, "little"),
        "proplengths": b"{}",
        "version": b"\x02\x00",
        "lsm/objects/segment-1.db": (mark * size_bytes).encode()[:size_bytes],
    }
