"""DISCARD: delete from the store what this operation wrote. A committed backup is never touched.

A node deletes its own folder, and only when its journal says that it began to upload, so that another backup's objects
which made the operation fail stay. The manifest at the top and its signature go when it names this operation.
"""

from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import StepCommand
from weaviate_backup.layout import keys
from weaviate_backup.stored.backup_reading import is_own_manifest
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import abort_unfinished, folder_of, refuse_committed


async def discard(workspace: Workspace, _: StepCommand, meter: Meter) -> None:
    """The step."""
    await in_thread(_discard, workspace, meter)


def _discard(workspace: Workspace, meter: Meter) -> None:
    store = workspace.open_store()
    refuse_committed(store, workspace.backup_id)
    manifest = keys.manifest(workspace.backup_id)
    if is_own_manifest(store, manifest, workspace.uid):  # it goes last, since it says whose the signature is
        store.delete([keys.manifest_signature(workspace.backup_id)])
        store.delete([manifest])
    if workspace.journal.last("uploading") is None:
        return
    folder = folder_of(workspace.backup_id, workspace.node)
    meter.check()
    abort_unfinished(store, folder)
    store.delete([each.key for each in store.list(folder)])
