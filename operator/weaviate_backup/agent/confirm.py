"""CONFIRM: prove that this node's Weaviate took the very files we placed, and lists their shards.

A failed move is only logged by the server, which then goes on with empty shards. So the proof is of inodes: the
directories that were placed must be the ones in the data root now.
"""

import asyncio
import logging

from weaviate_backup.agent.access_restore import confirm_access
from weaviate_backup.agent.brought import refuse_unplaced
from weaviate_backup.agent.expansion import TenantStatus, local_shards
from weaviate_backup.agent.identity import born_of, is_same
from weaviate_backup.agent.journal import Record
from weaviate_backup.agent.placed_records import placed_of
from weaviate_backup.agent.release import replay_late_writes
from weaviate_backup.agent.sweep import BACKUP_TEMPORARY
from weaviate_backup.agent.workspace import LATE, Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import Confirmed, StepCommand
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.rest import NodeClient, ShardStatus

TAKEN_SECONDS = 600.0
"""A node that lags behind raft takes its files late; later than this something is wrong."""
POLL_SECONDS = 0.5

log = logging.getLogger(__name__)


async def confirm(workspace: Workspace, command: StepCommand, meter: Meter) -> Confirmed:
    """The step."""
    endpoint = workspace.weaviate
    if workspace.journal.last("all-placed") is None:
        raise Permanent("JournalLost", f"the journal of {workspace.node} does not say what was placed there")
    placed = placed_of(workspace.journal)
    refuse_unplaced(workspace.journal, command.collections, placed)
    shards, counts = 0, list[int | None]()
    async with (
        RaftClient(endpoint.host, endpoint.raft_port) as raft,
        NodeClient(endpoint.host, endpoint.data_port, workspace.cluster_credentials()) as node,
    ):
        for collection in command.collections:
            record = placed.get(collection)
            if record is not None:
                await _wait_until_taken(workspace.data_root, record, meter)
            state, _ = await raft.sharding_state(collection)
            local = local_shards(state, workspace.node, collection=collection)
            listed = await _wait_until_listed(node, collection, set(local.of(TenantStatus.ACTIVE)), meter)
            await _replay(workspace, collection, set(local.of(TenantStatus.ACTIVE)))
            shards += len(local.statuses)
            counts.append(object_count(listed))
    await confirm_access(workspace, command, meter)
    known = [count for count in counts if count is not None]
    return Confirmed(
        collections=command.collections,
        shards=shards,
        files=sum(int(placed[name]["files"]) for name in command.collections if name in placed),
        objects=sum(known) if len(known) == len(counts) else None,
    )


async def _replay(workspace: Workspace, collection: str, active: set[str]) -> None:
    """Apply what was written while shards were cut, once; without it some updates would be there and never found."""
    directory = workspace.directory / LATE / collection
    captured = directory.names() if directory.is_directory() else []
    if not captured:
        return
    done = {record["shard"] for record in workspace.journal.of("replayed") if record["collection"] == collection}
    for shard in captured:
        if shard in done:
            continue
        if shard not in active:
            log.warning("%s/%s is not active: its late writes are not replayed", collection, shard)
            continue
        workspace.journal.append("replaying", collection=collection, shard=shard)
        touched = await replay_late_writes(workspace, directory / shard, collection=collection, shard=shard)
        workspace.journal.append("replayed", collection=collection, shard=shard)
        log.info("replayed late writes of %d objects in %s/%s", touched, collection, shard)


async def _wait_until_taken(data_root: Place, record: Record, meter: Meter) -> None:
    deadline = asyncio.get_running_loop().time() + TAKEN_SECONDS
    while (data_root / BACKUP_TEMPORARY / record["collection"]).exists():
        meter.check()
        if asyncio.get_running_loop().time() > deadline:
            raise Transient("NotTaken", f"Weaviate has not taken collection {record['collection']} yet")
        await asyncio.sleep(POLL_SECONDS)
    await in_thread(check_taken, data_root, record)


def check_taken(data_root: Place, record: Record) -> None:
    """Whether the collection's and every shard's directory is the one that was placed."""
    collection = record["collection"]
    directory = data_root / collection.lower()
    if not is_same(directory, record["data_inode"], born_of(record, "data")):
        raise Permanent(
            "FilesNotTaken",
            f"Weaviate made collection {collection} without the restored files; look for 'restore' in its log, delete "
            "the collection and restore it again",
        )
    lost = [shard for shard, inode in record["shards"].items() if not is_same(directory / shard, inode, None)]
    if lost:
        raise Permanent(
            "FilesNotTaken", f"{len(lost)} shards of {collection} are not the restored ones, first {lost[0]!r}"
        )


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
