"""RELEASE: everything of this operation leaves the volume, and the server is let go of. Also sweeps dead operations.

Only an order takes anything off the volume: what was placed there may be about to be taken by raft, and what is frozen
is what a backup goes on from.
"""

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from weaviate_backup.agent.journal import CUTS, JOURNAL, Journal, Record, cuts_left_over
from weaviate_backup.agent.placed_records import last_of, placed_of
from weaviate_backup.agent.probe import remove_marks
from weaviate_backup.agent.replays import LateWrites, Outcome
from weaviate_backup.agent.sweep import OtherOperation, find_dead
from weaviate_backup.agent.taking_back import remove_operation, take_back
from weaviate_backup.agent.workspace import LATE, Workspace, operation_directory
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import StepCommand
from weaviate_backup.errors import BackupError, Permanent
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.shard_source import ShardCut

REPLAY_SECONDS = 600.0
"""For so long one release, or one sweep, begins to replay late writes; what is left then is for the next."""

log = logging.getLogger(__name__)


async def release(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    """The step. A store worker holds nothing but what its probe left in the store."""
    if workspace.settings.data_path is None or workspace.order.weaviate is None:
        await in_thread(remove_marks, workspace)
        return
    journal = workspace.journal
    await let_go(workspace, workspace.uid, cuts_left_over(journal.of(*CUTS)))
    placed, endpoint = [*placed_of(journal).values()], workspace.weaviate
    if not placed:
        await in_thread(remove_operation, workspace.data_root, workspace.uid, placed, collections=())
        return
    async with workspace.watched(RaftClient(endpoint.host, endpoint.raft_port)) as raft:
        await _complete_own(workspace, raft, placed, meter, keep_placed=command.keep_placed)
        if command.keep_placed:
            log.warning("what was placed stays until the next operation: whoever applies it may still be at work")
        else:
            await take_back_and_remove(workspace, raft, workspace.uid, placed)


async def take_back_and_remove(
    workspace: Workspace, raft: RaftClient, operation_uid: str, placed: Sequence[Record]
) -> None:
    """Raft may be told of a collection while what was placed for it is taken back, so it is asked before and after."""
    collections: Sequence[str] = await raft.class_names()
    if await in_thread(take_back, workspace.data_root, operation_uid, placed, collections=collections):
        collections = await raft.class_names()
    stays = await in_thread(remove_operation, workspace.data_root, operation_uid, placed, collections=collections)
    if stays:
        log.warning(
            "what operation %s placed of %s stays until a later operation: Weaviate may still take it",
            operation_uid,
            ", ".join(stays),
        )


async def end_of_lease(workspace: Workspace) -> None:
    """Nobody asks any more: nothing stays held in the server, nor a probe's mark in the store."""
    if workspace.settings.data_path is None or workspace.order.weaviate is None:
        await in_thread(remove_marks, workspace)
        return
    await let_go(workspace, workspace.uid, cuts_left_over(workspace.journal.of(*CUTS)))


async def sweep(workspace: Workspace, raft: RaftClient) -> None:
    """Clear the server and the volume of dead operations before a new one uses them. One whose replay cannot be
    completed, of a tenant that sleeps by now, stays for a later one: it harms nobody."""
    ends_at, raft = _ends_at(), workspace.watched(raft)
    for dead in await in_thread(find_dead, workspace.data_root, workspace.uid, datetime.now(UTC)):
        await let_go(workspace, dead.uid, dead.cuts)
        try:
            await _complete_dead(workspace, raft, dead, ends_at)
        except BackupError as error:
            log.warning("what operation %s left behind stays: %s", dead.uid, error)
            continue
        await take_back_and_remove(workspace, raft, dead.uid, dead.placed)
        log.info("swept what operation %s left behind", dead.uid)


async def _complete_own(
    workspace: Workspace, raft: RaftClient, placed: Sequence[Record], meter: Meter, *, keep_placed: bool
) -> None:
    """What stays on the volume with its journal can be completed by the next operation, too."""
    uid, journal = workspace.uid, workspace.journal
    try:
        await complete_replays(workspace, raft, uid, journal, placed, meter=meter, ends_at=_ends_at())
    except BackupError as error:
        if not keep_placed:
            raise
        log.warning("late writes are left for the next operation: %s", error)


async def _complete_dead(workspace: Workspace, raft: RaftClient, dead: OtherOperation, ends_at: float) -> None:
    """Its journal is told what is replayed, for whoever comes after us. It stays as old as it was: it is still dead."""
    directory = operation_directory(workspace.data_root, dead.uid)
    if not dead.placed or not (directory / LATE).is_directory():
        return
    place = directory / JOURNAL
    last_sign = place.stat()
    with Journal(place) as journal:
        try:
            await complete_replays(workspace, raft, dead.uid, journal, dead.placed, meter=Meter(), ends_at=ends_at)
        finally:
            _set_times(place, (last_sign.st_atime_ns, last_sign.st_mtime_ns))


def _set_times(place: Place, times_nanoseconds: tuple[int, int]) -> None:
    file = place.descriptor(os.O_RDWR)
    try:
        os.utime(file, ns=times_nanoseconds)
    finally:
        os.close(file)


def _ends_at() -> float:
    return asyncio.get_running_loop().time() + REPLAY_SECONDS


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
    workspace: Workspace,
    raft: RaftClient,
    operation_uid: str,
    journal: Journal,
    placed: Iterable[Record],
    *,
    meter: Meter,
    ends_at: float,
) -> None:
    """Of late writes that are not replayed yet, before what knows them is removed: what a replay deleted is put there
    again. Raises while one that was begun is not completed, or one could be tried again.

    What sleeps, and what cannot be read, is left with a word when it was never begun.
    """
    late, outcome = LateWrites(workspace, operation_uid, journal), Outcome()
    for record in last_of(placed).values():
        await late.replay(raft, record, outcome, meter=meter, ends_at=ends_at)
    outcome.refuse_unfinished()
