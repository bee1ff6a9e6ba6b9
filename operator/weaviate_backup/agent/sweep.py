"""Removing what operations left on a volume: this one's at its end, dead ones' before a new one begins.

A directory is dead when no process holds its journal and nothing touched that for as long as its lease. A living one
is never touched. Synchronous file work only.
"""

import logging
from datetime import datetime
from pathlib import Path

from weaviate_backup.agent.journal import JOURNAL, Record, is_held, read_records
from weaviate_backup.agent.linking import remove_tree
from weaviate_backup.core.session import DATA_DIRECTORY
from weaviate_backup.errors import Transient
from weaviate_backup.weaviate import snapshot_staging

DEFAULT_LEASE_SECONDS = 300
BACKUP_TEMPORARY = ".backup.tmp"
"""Where Weaviate takes restored collections from."""

log = logging.getLogger(__name__)


def sweep_others(data_path: Path, operation_uid: str, now: datetime, *, collections: frozenset[str]) -> tuple[str, ...]:
    """Remove dead operations' directories; returns their uids. `OperationActive` when a living one is found."""
    removed = []
    for directory in sorted((data_path / DATA_DIRECTORY).glob("*")):
        if directory.name == operation_uid or directory.is_symlink() or not directory.is_dir():
            continue
        journal = directory / JOURNAL
        if is_held(journal):
            raise Transient(
                "OperationActive", f"an agent of operation {directory.name} is at work on this volume; wait for its end"
            )
        records = read_records(journal)[0] if journal.is_file() else []
        last_sign = (journal if journal.is_file() else directory).stat().st_mtime
        if now.timestamp() - last_sign <= lease_of(records):
            continue
        remove_operation(data_path, directory.name, records, collections=collections)
        removed.append(directory.name)
        log.info("removed what operation %s left behind", directory.name)
    return tuple(removed)


def lease_of(records: list[Record]) -> float:
    orders = [record.get("order") for record in records if record["kind"] == "session"]
    order = orders[-1] if orders else None
    lease = order.get("lease_seconds") if isinstance(order, dict) else None
    return float(lease) if isinstance(lease, int | float) else DEFAULT_LEASE_SECONDS


def remove_operation(
    data_path: Path, operation_uid: str, records: list[Record], *, collections: frozenset[str]
) -> None:
    """Everything of one operation: server staging it pinned, collections placed but never taken, its directory.

    What was placed for a collection that is in the schema stays: a node that lags behind raft will still take it.
    """
    for staging in snapshot_staging.staging_left_over(data_path, operation_uid):
        snapshot_staging.remove_staging(staging)
    for record in records:
        if record["kind"] == "placed" and record["collection"] not in collections:
            take_back(data_path, str(record["collection"]), inode=int(record["inode"]))
    directory = data_path / DATA_DIRECTORY / operation_uid
    remove_tree(directory)
    parent = directory.parent
    if parent.is_dir() and not any(parent.iterdir()):
        parent.rmdir()


def take_back(data_path: Path, collection: str, *, inode: int) -> bool:
    """Remove a placed collection that Weaviate did not take, if it is the very directory we placed."""
    placed = data_path / BACKUP_TEMPORARY / collection
    if not placed.is_dir() or placed.is_symlink() or placed.stat().st_ino != inode:
        return False
    remove_tree(placed)
    return True
