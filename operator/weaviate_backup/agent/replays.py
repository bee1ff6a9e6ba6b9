"""Late writes of restored shards: which are still to be replayed, what becomes of each, and the replay.

A replay deletes before it puts. So one that was begun is never passed over while its shard is there: CONFIRM waits for
it, and RELEASE and the next operation's sweep complete it. One that was never begun may be left, with a word. Replays
may wait for hours, and for servers that restart, so the journal says which objects are deleted by us. Only the very
directories that were placed are written to.
"""

import asyncio
import logging
import math
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from weaviate_backup.agent.expansion import LocalShards, TenantStatus, local_shards
from weaviate_backup.agent.identity import born_of, is_same
from weaviate_backup.agent.journal import REPLAYS, Journal, Record
from weaviate_backup.agent.sweep import lies_at
from weaviate_backup.agent.workspace import LATE, Workspace, operation_directory
from weaviate_backup.beneath import Place
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate.late_writes import REFUSED, Begun, read_writes, replay
from weaviate_backup.weaviate.raft import RaftClient

BEGUN, ENDED = REPLAYS
SAID_NAMES = 4
"""So many shards a message names."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pending:
    """Late writes of a shard whose replay did not end. `begun`: some of their objects may be deleted only."""

    collection: str
    shard: str
    begun: bool

    def __str__(self) -> str:
        return f"{self.collection}/{self.shard}"


class Fate(Enum):
    """What the shard is now into which late writes belong."""

    READY = auto()
    ASLEEP = auto()
    """Inactive, or on its way into or out of offloading."""
    OFFLOADED = auto()
    """What comes back from there is another directory."""
    NOT_TAKEN = auto()
    """Weaviate may still take what was placed."""
    GONE = auto()


@dataclass
class Outcome:
    """Of all that were looked at. `left`: never to be replayed by this operation. `waiting`: begun, their shards sleep.

    `failed`: why the first of the others was not replayed. `unreadable`: why the first of those was not that cannot be
    read. `unreached`: how many there was no time for.
    """

    left: list[Pending] = field(default_factory=list)
    waiting: list[Pending] = field(default_factory=list)
    failed: BackupError | None = None
    unreadable: Permanent | None = None
    unreached: int = 0

    @property
    def is_unanswered(self) -> bool:
        """Whether the server refused no shard, but does not answer: it is not asked for each of the others."""
        return self.failed is not None and self.failed.reason != REFUSED

    def refuse_unfinished(self) -> None:
        """Raise while a replay is to be completed, or tried again."""
        if self.failed is not None:
            raise self.failed
        if self.waiting:
            raise Transient(
                "ReplayPending",
                f"late writes of {said(self.waiting)} were replayed in part when the tenant was made inactive, and "
                "objects of it are missing until that is completed: activate the tenant, or delete it",
            )
        if self.unreached:
            raise Transient("ReplayPending", f"late writes of {self.unreached} shards are still to be replayed")


def said(shards: Sequence[Pending]) -> str:
    """The first of them, and how many more there are."""
    more = len(shards) - SAID_NAMES
    return ", ".join(map(str, shards[:SAID_NAMES])) + (f" and {more} more" if more > 0 else "")


class LateWrites:
    """Those that one operation, this one or a dead one, set aside, as its journal tells of them."""

    def __init__(self, workspace: Workspace, operation_uid: str, journal: Journal) -> None:
        self._workspace = workspace
        self._journal = journal
        self._directory = operation_directory(workspace.data_root, operation_uid) / LATE
        self._ended = {(record["collection"], record["shard"]) for record in journal.of(ENDED)}
        self._begun = {
            (record["collection"], record["shard"]): _begun_in(record)
            for record in journal.of(BEGUN)
            if (record["collection"], record["shard"]) not in self._ended
        }

    def pending(self, collection: str) -> list[Pending]:
        """What was begun comes first."""
        directory = self._directory / collection
        captured = directory.names() if directory.is_directory() else []
        shards = {*captured, *(shard for known, shard in self._begun if known == collection)}
        found = [
            Pending(collection, shard, begun=(collection, shard) in self._begun)
            for shard in sorted(shards)
            if (collection, shard) not in self._ended
        ]
        return sorted(found, key=lambda each: not each.begun)

    async def replay(
        self, raft: RaftClient, placed: Record, outcome: Outcome, *, meter: Meter, ends_at: float = math.inf
    ) -> None:
        """All of a collection that may be, whatever becomes of one. After `ends_at`, in the loop's time, no other."""
        pending = self.pending(placed["collection"])
        if not pending:
            return
        local = await local_if_there(raft, self._workspace.node, placed["collection"])
        for each in pending:
            meter.check()
            fate = fate_of(self._workspace.data_root, placed, each.shard, local)
            late = asyncio.get_running_loop().time() > ends_at
            if fate is Fate.READY and (late or outcome.is_unanswered):
                outcome.unreached += 1
            elif fate is Fate.READY:
                await self._try(each, outcome)
            elif fate is Fate.ASLEEP and each.begun:
                outcome.waiting.append(each)
            elif fate in (Fate.ASLEEP, Fate.OFFLOADED):
                log.warning("%s is not active: its late writes are not replayed", each)
                outcome.left.append(each)
            else:
                log.info("%s is not what was restored (%s): its late writes are not replayed", each, fate.name)

    async def _try(self, pending: Pending, outcome: Outcome) -> None:
        captured = self._directory / pending.collection / pending.shard
        try:
            await in_thread(_refuse_lost if pending.begun else _read_through, captured)
        except Permanent as error:
            log.warning("late writes of %s are not replayed: %s", pending, error)
            outcome.unreadable = outcome.unreadable or error
            return
        try:
            await self._replay(pending, captured)
        except BackupError as error:
            log.warning("late writes of %s were not replayed: %s", pending, error)
            outcome.failed = outcome.failed or error

    async def _replay(self, pending: Pending, captured: Place) -> None:
        collection, shard, endpoint = pending.collection, pending.shard, self._workspace.weaviate

        def tell(begun: Begun) -> None:
            self._journal.append(BEGUN, collection=collection, shard=shard, done=begun.done, doing=begun.doing)
            self._begun[collection, shard] = begun

        touched = await replay(
            endpoint.host,
            endpoint.data_port,
            collection=collection,
            shard=shard,
            captured=captured,
            credentials=self._workspace.cluster_credentials(),
            begun=self._begun.get((collection, shard)),
            tell=tell,
        )
        self._journal.append(ENDED, collection=collection, shard=shard)
        self._ended.add((collection, shard))
        log.info("replayed late writes of %d objects in %s", touched, pending)


def _begun_in(record: Record) -> Begun:
    """Older ones do not say how far it came: any object may be deleted by us."""
    done, doing = record.get("done"), record.get("doing")
    if isinstance(done, int) and isinstance(doing, int) and done >= 0 and doing >= 0:
        return Begun(done, doing)
    return Begun(0, sys.maxsize)


def fate_of(data_root: Place, placed: Record, shard: str, local: LocalShards | None) -> Fate:
    """`local`: what raft says of the collection's shards here, read a moment ago; None: there is no such collection."""
    status = local.statuses.get(shard) if local else None
    if status is None:
        return Fate.GONE
    if status is TenantStatus.OFFLOADED:
        return Fate.OFFLOADED
    if is_still_there(data_root, placed, shard):
        return Fate.READY if status is TenantStatus.ACTIVE else Fate.ASLEEP
    waits, _ = lies_at(data_root, placed)
    return Fate.NOT_TAKEN if waits.is_same() else Fate.GONE


def is_still_there(data_root: Place, record: Record, shard: str) -> bool:
    """Whether the collection's and the shard's directory are those that were placed."""
    _, taken = lies_at(data_root, record)
    born = born_of(record, "late", shard)
    return taken.is_same() and is_same(taken.place / shard, record["shards"].get(shard), born)


async def local_if_there(raft: RaftClient, node: str, collection: str) -> LocalShards | None:
    """A node's shards as raft has them; None when there is no such collection."""
    try:
        state, _ = await raft.sharding_state(collection)
    except Permanent as error:
        if error.reason not in ("CollectionNotFound", "NotFound"):
            raise
        return None
    return local_shards(state, node, collection=collection)


def _read_through(captured: Place) -> None:
    """What cannot be read to its end is never begun: it would stay so for ever."""
    deque(read_writes(captured), maxlen=0)


def _refuse_lost(captured: Place) -> None:
    if not captured.exists():
        shard = f"{captured.parent.name}/{captured.name}"
        raise Permanent(
            "LateWritesLost", f"the late writes of {shard} are gone, and were replayed in part; restore the collection"
        )
