"""DISCARD and VACATE: take out of the store what this operation wrote. A committed backup is never touched.

All that lies under the identifier is this operation's, as long as its claim lies there. So a node deletes its own
folder whatever its journal knows, and nothing once the claim is another's. The claim goes last, when all nodes have
done so: until then whoever still has something there finds that the place is ours.
"""

from dataclasses import replace

from weaviate_backup.agent.probe import PATIENCE
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import StepCommand
from weaviate_backup.layout import keys
from weaviate_backup.stored.backup_reading import is_own_manifest
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import abort_unfinished, folder_of, refuse_committed
from weaviate_backup.tasks import in_thread

DELETED_AT_ONCE = 1000
"""Before each such batch the place is looked at again."""


async def discard(workspace: Workspace, _: StepCommand, meter: Meter) -> None:
    """The step. Raises `BackupCommitted`, and what `refuse_strangers` does."""
    await in_thread(_discard, workspace, meter)


async def vacate(workspace: Workspace, _: StepCommand, meter: Meter) -> None:
    """The step, of one agent for all. A place that was never ours, or that is not empty, is left as it is."""
    await in_thread(_vacate, workspace)


def _discard(workspace: Workspace, meter: Meter) -> None:
    store = workspace.open_store()
    place, backup_id = workspace.place_in(store), workspace.backup_id
    refuse_committed(store, backup_id)
    folder = folder_of(backup_id, workspace.node)
    if place.owner() is None and not any(store.list(folder)):
        return  # an operation may end before it claims the place
    place.refuse_strangers()
    manifest = keys.manifest(backup_id)
    if is_own_manifest(store, manifest, workspace.uid):  # it goes last, since it says whose the signature is
        store.delete([keys.manifest_signature(backup_id)])
        store.delete([manifest])
    meter.check()
    abort_unfinished(store, folder)
    left = [each.key for each in store.list(folder)]
    for start in range(0, len(left), DELETED_AT_ONCE):
        meter.check()
        place.delete(left[start : start + DELETED_AT_ONCE])


def _vacate(workspace: Workspace) -> None:
    workspace.place_in(workspace.open_store(patience=replace(PATIENCE, attempts=1))).leave()
