"""What the backup of a restore must be: as the WeaviateBackup that made it knows, or as the restore's own spec says."""

from weaviate_backup.api.backup import BackupStatus
from weaviate_backup.api.restore import RestoreSource
from weaviate_backup.core.orders import UNPINNED, BackupPin, conflict
from weaviate_backup.core.session import Failure

FIELD = "spec.source.backupSHA256"


def pin_of_spec(source: RestoreSource) -> BackupPin:
    """Empty when the spec says nothing."""
    return BackupPin(said_by=FIELD, sha256=source.backup_sha256) if source.backup_sha256 else UNPINNED


def pin_of_status(name: str, status: BackupStatus) -> BackupPin:
    """Of a completed backup; one that an older version completed may know its nodes' manifests alone, or nothing."""
    manifests = {node.name: node.verified_sha256 for node in status.nodes if node.verified_sha256}
    return BackupPin(said_by=f"WeaviateBackup {name}", sha256=status.backup_sha256 or "", node_manifests=manifests)


def refuse_other_pin(pin: BackupPin, source: RestoreSource) -> tuple[Failure, ...]:
    """A spec that names a backup and the digest of another one."""
    if source.backup_sha256 in (None, pin.sha256):
        return ()
    known = pin.sha256 or "not known to it"
    message = f"{FIELD} is {source.backup_sha256}, but that of {pin.said_by} is {known}; leave it away, or correct it"
    return (conflict("BackupChanged", message),)
