"""A directory that every node sees."""

from pathlib import Path

from e2e.lab.processes import Processes
from e2e.lab.stores.store import Store


def start_filesystem(directory: Path, processes: Processes) -> Store:
    """Writable for any uid, as a shared file system would be."""
    del processes
    directory.chmod(0o777)
    return Store(
        kind="filesystem",
        location={"filesystem": {"volume": {"hostPath": {"path": str(directory), "type": "Directory"}}}},
        weaviate_environment={"BACKUP_FILESYSTEM_PATH": "/var/lib/weaviate/backups"},
    )
