"""CONFIRM: prove that this node's Weaviate took the very files we placed, and lists their shards.

A failed move is only logged by the server, which then goes on with empty shards. So the proof is of inodes: the
directories that were placed must be the ones in the data root now.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from weaviate_backup.agent.access_restore import confirm_access
from weaviate_backup.agent.brought import refuse_unplaced
from weaviate_backup.agent.expansion import LocalShards, TenantStatus
from weaviate_backup.agent.identity import is_same
from weaviate_backup.agent.journal import Record
from weaviate_backup.agent.placed_records import placed_of
from weaviate_backup.agent.replays import LateWrites, Outcome, local_if_there
from weaviate_backup.agent.sweep import BACKUP_TEMPORARY, lies_at
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import Confirmed, StepCommand
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.rest import NodeClient, ShardStatus

TAKEN_SECONDS = 600.0
"""A node that lags behind raft takes its files late; later than this something is wrong."""
POLL_SECONDS = 0.5
ROUNDS = 6
"""So many times a restore waits as long before it ends: an hour, in which a node may be made anew."""
WAITED = "waited"
"""The journal's record of one such time."""
LEFT_NAMES = 16
"""So many shards are named whose late writes are not replayed."""

log = logging.getLogger(__name__)


async def confirm(workspace: Workspace, command: StepCommand, meter: Meter) -> Confirmed:
    """The step."""
    endpoint = workspace.weaviate
    if workspace.journal.last("all-placed") is None:
        raise Permanent("JournalLost", f"the journal of {workspace.node} does not say what was placed there")
    placed = placed_of(workspace.journal)
    refuse_unplaced(workspace.journal, command.collections, placed)
    shards, counts, outcome = 0, list[int | None](), Outcome()
    late = LateWrites(workspace, workspace.uid, workspace.journal)
    async with (
        workspace.watched(RaftClient(endpoint.host, endpoint.raft_port)) as raft,
        NodeClient(endpoint.host, endpoint.data_port, workspace.cluster_credentials()) as node,
    ):
        proof = Proof(workspace, raft, node, meter)
        for collection in command.collections:
            record = placed.get(collection)
            local = await (proof.of_local(collection) if record is None else proof.of_files(record))
            listed = await proof.of_listing(collection, set(local.of(TenantStatus.ACTIVE)))
            if record is not None:
                await late.replay(raft, record, outcome, meter=meter)
            shards += len(local.statuses)
            counts.append(object_count(listed))
    await confirm_access(workspace, command, meter)
    if outcome.unreadable is not None:
        raise outcome.unreadable
    outcome.refuse_unfinished()
    known = [count for count in counts if count is not None]
    return Confirmed(
        collections=command.collections,
        shards=shards,
        files=sum(int(placed[name]["files"]) for name in command.collections if name in placed),
        objects=sum(known) if len(known) == len(counts) else None,
        late_writes_left=len(outcome.left),
        late_writes_left_names=tuple(map(str, outcome.left[:LEFT_NAMES])),
    )


@dataclass(frozen=True)
class Proof:
    """Of collections on this node. Each part raises while it does not hold, or because it never will."""

    workspace: Workspace
    raft: RaftClient
    node: NodeClient
    meter: Meter

    async def of_local(self, collection: str) -> LocalShards:
        """This node's shards, as raft has them. `CollectionDeleted` when it has none: APPLY is done."""
        local = await local_if_there(self.raft, self.workspace.node, collection)
        if local is None:
            raise Permanent(
                "CollectionDeleted",
                f"collection {collection} was restored, and deleted before that was proven; restore it again if it is "
                "still wanted",
            )
        return local

    async def of_files(self, record: Record) -> LocalShards:
        """Weaviate took what was placed. Raft is asked after the look, so that it knows whatever the volume shows."""
        collection, data_root = record["collection"], self.workspace.data_root
        try:
            await _wait_until_taken(data_root, record, self.meter)
            lost = await in_thread(lost_shards, data_root, record)
        except BackupError as error:
            await self.of_local(collection)
            raise self._ended(error) from error
        local = await self.of_local(collection)
        refuse_lost(collection, lost, local)
        return local

    async def of_listing(self, collection: str, expected: set[str]) -> tuple[ShardStatus, ...]:
        """Those that were made inactive or deleted while they were waited for need not be listed."""
        try:
            return await _wait_until_listed(self.node, collection, expected, self.meter)
        except Transient as error:
            left = expected & set((await self.of_local(collection)).of(TenantStatus.ACTIVE))
            if left == expected:
                raise self._ended(error) from error
        return await self.of_listing(collection, left)

    def _ended(self, error: BackupError) -> BackupError:
        """What was waited for in vain for some rounds, by any process, is not about to come."""
        if not isinstance(error, Transient):
            return error
        self.workspace.journal.append(WAITED, reason=error.reason)
        rounds = sum(1 for _ in self.workspace.journal.of(WAITED))
        if rounds < ROUNDS:
            return error
        waited = f"after {rounds} waits of {TAKEN_SECONDS / 60:.0f} min"
        return Permanent(error.reason, f"{error.message} {waited}; look for the collection in the log of Weaviate")


async def _wait_until_taken(data_root: Place, record: Record, meter: Meter) -> None:
    """`FilesNotTaken` once another directory has the place: Weaviate then deletes what was placed, or leaves it."""
    collection, deadline = record["collection"], asyncio.get_running_loop().time() + TAKEN_SECONDS
    waits, taken = lies_at(data_root, record)
    while waits.place.exists():
        meter.check()
        in_use = taken.place.exists()
        if in_use:
            await in_thread(_refuse_other, data_root, record)
        if asyncio.get_running_loop().time() > deadline:
            if in_use:
                log.warning("%s is taken, and its place in %s is left", collection, BACKUP_TEMPORARY)
                return
            raise Transient("NotTaken", f"Weaviate has not taken collection {collection} yet")
        await asyncio.sleep(POLL_SECONDS)


def lost_shards(data_root: Place, record: Record) -> list[str]:
    """Those whose directories are not the ones that were placed. `FilesNotTaken` when the collection's is not."""
    _refuse_other(data_root, record)
    directory = lies_at(data_root, record)[1].place
    return [shard for shard, inode in record["shards"].items() if not is_same(directory / shard, inode, None)]


def _refuse_other(data_root: Place, record: Record) -> None:
    if not lies_at(data_root, record)[1].is_same():
        raise Permanent(
            "FilesNotTaken",
            f"Weaviate made collection {record['collection']} without the restored files; look for 'restore' in its "
            "log, delete the collection and restore it again",
        )


def refuse_lost(collection: str, lost: Sequence[str], local: LocalShards) -> None:
    """Of tenants it is no failure that the application deleted or offloaded them since, or that they were moved to
    another node."""
    here = (TenantStatus.ACTIVE, TenantStatus.INACTIVE)
    failed = [shard for shard in lost if not local.multi_tenant or local.statuses.get(shard) in here]
    if failed:
        raise Permanent(
            "FilesNotTaken", f"{len(failed)} shards of {collection} are not the restored ones, first {failed[0]!r}"
        )
    if lost:
        log.warning("%d tenants of %s were deleted or offloaded since, first %s", len(lost), collection, lost[0])


async def _wait_until_listed(
    node: NodeClient, collection: str, expected: set[str], meter: Meter
) -> tuple[ShardStatus, ...]:
    """This node's shards of the collection, once all active ones are there."""
    deadline = asyncio.get_running_loop().time() + TAKEN_SECONDS
    while True:
        meter.check()
        listed = await _listed(node, collection)
        missing = expected - {each.shard for each in listed}
        if not missing:
            return listed
        if asyncio.get_running_loop().time() > deadline:
            raise Transient("ShardsMissing", f"Weaviate does not list {len(missing)} shards of {collection}")
        await asyncio.sleep(POLL_SECONDS)


async def _listed(node: NodeClient, collection: str) -> tuple[ShardStatus, ...]:
    """None of them while the node does not know the collection yet."""
    try:
        shards = await node.shards(collection)
    except (Permanent, Transient) as error:
        if error.reason in ("AuthenticationFailed", "PermissionDenied"):
            raise
        log.info("shards of %s are not listed yet: %s", collection, error)
        return ()
    return tuple(each for each in shards if each.collection == collection)


def object_count(listed: tuple[ShardStatus, ...]) -> int | None:
    """What the server counts; unknown while a shard is not loaded."""
    return sum(each.object_count for each in listed) if all(each.loaded for each in listed) else None
