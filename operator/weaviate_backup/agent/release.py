"""RELEASE: everything of this operation leaves the volume, and the server is let go of. Also sweeps dead operations.

Idempotent, and the same whether the operator orders it or the lease ran out.
"""

from datetime import UTC, datetime

from weaviate_backup.agent.journal import cuts_left_over
from weaviate_backup.agent.probe import remove_marks
from weaviate_backup.agent.sweep import remove_operation, sweep_others
from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import StepCommand
from weaviate_backup.errors import BackupError
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.shard_source import ShardCut


async def release(workspace: Workspace, _: StepCommand, meter: Meter) -> None:
    """The step. A store worker holds nothing but what its probe left in the store."""
    if workspace.settings.data_path is None or workspace.order.weaviate is None:
        await in_thread(remove_marks, workspace)
        return
    await _release_cuts(workspace)
    records = [*workspace.journal.of("placed")]
    collections: frozenset[str] = frozenset()
    if records:
        endpoint = workspace.weaviate
        async with RaftClient(endpoint.host, endpoint.raft_port) as raft:
            collections = frozenset(await raft.class_names())
    await in_thread(remove_operation, workspace.data_root, workspace.uid, records, collections=collections)


async def sweep(workspace: Workspace, raft: RaftClient) -> None:
    """Clear the volume of dead operations before a new one uses it."""
    collections = frozenset(await raft.class_names())
    await in_thread(sweep_others, workspace.data_root, workspace.uid, datetime.now(UTC), collections=collections)


async def _release_cuts(workspace: Workspace) -> None:
    """Cuts begun and perhaps never let go of. A server that does not answer has lost them, or loses the directory."""
    pending = cuts_left_over(workspace.journal)
    if not pending:
        return
    try:
        driver = await workspace.open_driver()
    except BackupError:
        return
    try:
        for collection, shard in pending:
            await driver.release(ShardCut(collection, shard, driver="", files=(), halt_seconds=0.0))
    finally:
        await driver.close()
