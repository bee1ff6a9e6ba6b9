"""The backup that was judged, and no other: what INSPECT read is what DOWNLOAD, APPLY and CONFIRM use."""

from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import StepCommand
from weaviate_backup.errors import Permanent
from weaviate_backup.stored.backup_reading import BackupReader


def judged_backup(workspace: Workspace, command: StepCommand) -> BackupReader:
    """Raises `BackupChanged` when the store holds another backup under the identifier than the plan was made from."""
    if not command.backup_sha256:
        raise Permanent("InvalidRequest", f"{command.step} needs backup_sha256, as INSPECT told it")
    reader = BackupReader(workspace.open_store(), workspace.backup_id)
    if reader.sha256 != command.backup_sha256:
        where = workspace.order.location.address
        message = f"backup {workspace.backup_id!r} at {where} is not what it was when the restore was planned"
        cure = "find out who writes there, then restore again"
        raise Permanent(
            "BackupChanged", f"{message} (SHA-256 {reader.sha256[:12]}…, not {command.backup_sha256[:12]}…); {cure}"
        )
    return reader
