"""RELEASE: everything of this operation leaves the volume, and the server is let go of. Also sweeps dead operations.

Only an order takes anything off the volume: what was placed there may be about to be taken by raft, and what is frozen
is what a backup goes on from.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from weaviate_backup.agent.identity import born_of, is_same
from weaviate_backup.agent.journal import CUTS, REPLAYS, Record, cuts_left_over, replays_left_over
from weaviate_backup.agent.probe import remove_marks
from weaviate_backup.agent.sweep import find_dead, remove_operation
from weaviate_backup.agent.workspace import LATE, Workspace, operation_directory
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import StepCommand
from weaviate_backup.errors import BackupError, Permanent
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate.late_writes import replay
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.shard_source import ShardCut

log = logging.getLogger(__name__)


async def release(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    """The step. A store worker holds nothing but what its probe left in the store."""
    if workspace.settings.data_path is None or workspace.order.weaviate is None:
        await in_thread(remove_marks, workspace)
        return
    journal = workspace.journal
    await let_go(workspace, workspace.uid, cuts_left_over(journal.of(*CUTS)))
    placed = [*journal.of("placed")]
    await complete_replays(workspace, workspace.uid, placed, replays_left_over(journal.of(*REPLAYS)))
    if command.keep_placed and placed:
        log.warning("what was placed stays until the next operation: whoever applies it may still be at work")
        return
    collections: frozenset[str] = frozenset()
    if placed:
        endpoint = workspace.weaviate
        async with RaftClient(endpoint.host, endpoint.raft_port) as raft:
            collections = frozenset(await workspace.watched(raft).class_names())
    await in_thread(remove_operation, workspace.data_root, workspace.uid, placed, collections=collections)


async def end_of_lease(workspace: Workspace) -> None:
    """Nobody asks any more: nothing stays held in the server, nor a probe's mark in the store."""
    if workspace.settings.data_path is None or workspace.order.weaviate is None:
        await in_thread(remove_marks, workspace)
        return
    await let_go(workspace, workspace.uid, cuts_left_over(workspace.journal.of(*CUTS)))


async def sweep(workspace: Workspace, raft: RaftClient) -> None:
    """Clear the server and the volume of dead operations before a new one uses them. One whose replay cannot be
    completed, of a tenant that sleeps by now, stays for a later one: it harms nobody."""
    collections = frozenset(await workspace.watched(raft).class_names())
    for dead in await in_thread(find_dead, workspace.data_root, workspace.uid, datetime.now(UTC)):
        await let_go(workspace, dead.uid, dead.cuts)
        try:
            await complete_replays(workspace, dead.uid, dead.placed, dead.replays)
        except BackupError as error:
            log.warning("what operation %s left behind stays: %s", dead.uid, error)
            continue
        await in_thread(remove_operation, workspace.data_root, dead.uid, dead.placed, collections=collections)
        log.info("removed what operation %s left behind", dead.uid)


async def let_go(workspace: Workspace, operation_uid: str, cuts: list[tuple[str, str]]) -> None:
    """Of cuts that were begun and perhaps never let go of, whosever they were.

    The journal that knows them stays until the server was told: a capture that nobody stops writes everything twice.
    """
    if not cuts:
        return
    try:
        driver = await workspace.open_driver(operation_uid)
    except Permanent as error:
        if error.reason != "DriverUnsupported":
            raise
        return  # another server by now, which never could hold anything
    failed: BackupError | None = None
    try:
        for collection, shard in cuts:
            try:
                await driver.release(ShardCut(collection, shard, driver="", files=(), halt_seconds=0.0))
            except BackupError as error:
                failed = failed or error
    finally:
        await driver.close()
    if failed is not None:
        raise failed


async def complete_replays(
    workspace: Workspace, operation_uid: str, placed: Iterable[Record], replays: Iterable[tuple[str, str]]
) -> None:
    """Of late writes that were being replayed when their agent died: what it deleted is put there again.

    Only into the very shards that the operation placed: a collection of that name which was made since is another.
    """
    inodes_of = {record["collection"]: record for record in placed}
    for collection, shard in replays:
        captured = operation_directory(workspace.data_root, operation_uid) / LATE / collection / shard
        record = inodes_of.get(collection)
        if record is None or not captured.is_file() or not is_still_there(workspace.data_root, record, shard):
            log.info("%s/%s is not what was restored any more: its late writes are not replayed", collection, shard)
            continue
        await replay_late_writes(workspace, captured, collection=collection, shard=shard)
        log.info("completed the replay of late writes in %s/%s", collection, shard)


def is_still_there(data_root: Place, record: Record, shard: str) -> bool:
    """Whether the collection's and the shard's directory are those that were placed."""
    directory = data_root / record["collection"].lower()
    same = is_same(directory, record["data_inode"], born_of(record, "data"))
    return same and is_same(directory / shard, record["shards"].get(shard), born_of(record, "late", shard))


async def replay_late_writes(workspace: Workspace, captured: Place, *, collection: str, shard: str) -> int:
    """How many objects were touched."""
    endpoint = workspace.weaviate
    return await replay(
        endpoint.host,
        endpoint.data_port,
        collection=collection,
        shard=shard,
        captured=captured,
        credentials=workspace.cluster_credentials(),
    )
