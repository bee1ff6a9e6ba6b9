"""A restore whose collection of tenants Weaviate has taken, beside a raft and a node that say what they are told to."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.agent.foreign_backup import COLLECTION
from tests.agent.small_restore import UID, Restore, stock

from weaviate_backup.agent import confirm as confirming
from weaviate_backup.agent import release as releasing
from weaviate_backup.agent import replays
from weaviate_backup.agent.confirm import confirm
from weaviate_backup.agent.journal import JOURNAL, Journal
from weaviate_backup.agent.place import _place_all
from weaviate_backup.agent.release import release
from weaviate_backup.agent.workspace import RESTORE, Workspace
from weaviate_backup.beneath import Root
from weaviate_backup.core.session import Confirmed, Step, StepCommand
from weaviate_backup.errors import BackupError, Permanent
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.late_writes import MAGIC, Begun
from weaviate_backup.weaviate.rest import ShardStatus

SHARDS = ("s0", "s1")


class Taken:
    """Raft and the node as CONFIRM and RELEASE see them. `state`: raft's of the collection; empty: it has none.

    `unlisted`: shards that the node does not list. `then_sleeps`: raft says so of that one from its second answer on.
    `failures`: shard -> why its replay fails, behind what it told the journal.
    """

    def __init__(self, directory: Path, *, late: tuple[str, ...] = ()) -> None:
        restore = Restore(directory / "node", stock(directory))
        work = restore.workspace.restore.model_copy(update={"roles": False, "users": False})
        order = restore.workspace.order.model_copy(update={"work": work})
        self.workspace = Workspace(restore.workspace.settings, order, restore.workspace.journal)
        self.data = Path(str(self.workspace.data_root))
        downloaded = Path(str(self.workspace.directory / RESTORE)) / COLLECTION / "article"
        for shard in SHARDS:
            (downloaded / shard).mkdir(parents=True)
            if shard in late:
                (downloaded / shard / ".late-writes").write_bytes(MAGIC)
        _place_all(self.workspace, (COLLECTION,), Meter())
        (self.data / ".backup.tmp" / COLLECTION / "article").rename(self.data / "article")
        (self.data / ".backup.tmp" / COLLECTION).rmdir()
        physical = {shard: {"name": shard, "belongsToNodes": ["n0"], "status": "HOT"} for shard in SHARDS}
        self.state: dict[str, Any] = {"partitioningEnabled": True, "physical": physical}
        self.unlisted: set[str] = set()
        self.then_sleeps = ""
        self.replayed: list[str] = []
        self.begun: list[Begun | None] = []
        self.failures: dict[str, BackupError] = {}

    @property
    def physical(self) -> dict[str, dict[str, Any]]:
        return self.state["physical"]  # type: ignore[no-any-return]

    def seen_by(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (confirming, releasing):
            monkeypatch.setattr(module, "RaftClient", lambda *_: self)
        monkeypatch.setattr(confirming, "NodeClient", lambda *_: self)
        monkeypatch.setattr(replays, "replay", self.replay)

    def lose(self, shard: str) -> None:
        """Its directory is no more the one that was placed."""
        (self.data / "article" / shard).rename(self.data / f"old-{shard}")

    def reopen(self) -> None:
        """Another process goes on."""
        self.workspace.journal.close()
        journal = Journal(Root(self.data).place / ".weaviate-backup" / UID / JOURNAL)
        self.workspace = Workspace(self.workspace.settings, self.workspace.order, journal)

    def confirm(self) -> Confirmed:
        return asyncio.run(confirm(self.workspace, _command(Step.CONFIRM), Meter()))

    def release(self, *, keep_placed: bool = False) -> None:
        asyncio.run(release(self.workspace, _command(Step.RELEASE, keep_placed=keep_placed), Meter()))

    # Raft and the node

    async def __aenter__(self) -> "Taken":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def class_names(self) -> tuple[str, ...]:
        return (COLLECTION,) if self.state else ()

    async def sharding_state(self, name: str) -> tuple[dict[str, Any], int]:
        if not self.state:
            raise Permanent("CollectionNotFound", f"the cluster has no collection {name!r}")
        told = {**self.state, "physical": {name: dict(shard) for name, shard in self.physical.items()}}
        if self.then_sleeps:
            self.physical[self.then_sleeps]["status"] = "COLD"
        return told, 1

    async def shards(self, collection: str) -> tuple[ShardStatus, ...]:
        active = (name for name, shard in self.physical.items() if shard["status"] == "HOT")
        return tuple(ShardStatus(collection, name, 0, True, "READY", 0) for name in active if name not in self.unlisted)

    async def replay(self, *_: object, shard: str, begun: Begun | None, tell: Any, **__: object) -> int:
        self.replayed.append(shard)
        self.begun.append(begun)
        tell(Begun(8, 2))
        if failure := self.failures.get(shard):
            raise failure
        return 1


def _command(step: Step, *, keep_placed: bool = False) -> StepCommand:
    return StepCommand(
        operation_uid=UID, step=step, collections=(COLLECTION,), backup_sha256="x", keep_placed=keep_placed
    )
