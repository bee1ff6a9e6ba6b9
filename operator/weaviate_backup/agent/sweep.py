"""Removing what operations left on a volume: this one's at its end, dead ones' before a new one begins.

A directory is dead when no process holds its journal and nothing touched that for as long as its lease. A living one
is never touched. Where something lies that none of us makes, nothing at all is swept. Synchronous file work only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from weaviate_backup.agent.identity import born_of, is_same
from weaviate_backup.agent.journal import (
    CUTS,
    JOURNAL,
    LeftOpen,
    Record,
    is_held,
    read_records,
)
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import DATA_DIRECTORY
from weaviate_backup.errors import Transient
from weaviate_backup.layout.plain_names import checked_name
from weaviate_backup.weaviate import snapshot_staging

DEFAULT_LEASE_SECONDS = 600
LONGEST_LEASE_SECONDS = 7 * 86400
"""Whatever a journal says, what is older belongs to nobody."""
BACKUP_TEMPORARY = ".backup.tmp"
"""Where Weaviate takes restored collections from."""


@dataclass
class DeadOperation:
    """One whose directory nobody works in any more, and what its journal says of what it left."""

    uid: str
    lease_seconds: float = DEFAULT_LEASE_SECONDS
    placed: list[Record] = field(default_factory=list)
    cuts: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def told_by(cls, uid: str, journal: Place) -> Self:
        """Its journal is read once, record by record: it may be larger than memory."""
        told, cuts = cls(uid), LeftOpen(*CUTS)
        for record in read_records(journal):
            if record["kind"] == "session":
                told.lease_seconds = _lease_in(record)
            elif record["kind"] == "placed":
                told.placed.append(record)
            cuts.see(record)
        told.cuts = cuts.shards
        return told


def find_dead(data_root: Place, operation_uid: str, now: datetime) -> tuple[DeadOperation, ...]:
    """All dead operations but this one. `OperationActive` when a living one is found, `UnexpectedEntry` when something
    there is neither file nor directory: all is looked at before one is removed."""
    directories = [each for each in _operations(data_root) if each.name != operation_uid]
    dead = tuple(found for each in directories if (found := _dead(each, now)) is not None)
    for each in dead:
        _look_at_all(data_root, each.uid, each.placed)
    return dead


def _operations(data_root: Place) -> list[Place]:
    parent = data_root / DATA_DIRECTORY
    if not parent.is_directory():
        return []
    names = [name for name, _ in parent.entries()]
    return [parent / name for name in names if (parent / name).is_directory()]


def _dead(directory: Place, now: datetime) -> DeadOperation | None:
    """None of one that may live."""
    journal = directory / JOURNAL
    if is_held(journal):
        raise Transient(
            "OperationActive", f"an agent of operation {directory.name} is at work on this volume; wait for its end"
        )
    there = journal.is_file()
    told = DeadOperation.told_by(directory.name, journal) if there else DeadOperation(directory.name)
    last_sign = (journal if there else directory).stat().st_mtime
    return None if now.timestamp() - last_sign <= told.lease_seconds else told


def _lease_in(session: Record) -> float:
    order = session.get("order")
    lease = order.get("lease_seconds") if isinstance(order, dict) else None
    return min(lease, LONGEST_LEASE_SECONDS) if isinstance(lease, int) else DEFAULT_LEASE_SECONDS


def _look_at_all(data_root: Place, operation_uid: str, placed: Iterable[Record]) -> None:
    """Whether each directory that would be removed is one."""
    for staging in snapshot_staging.staging_left_over(data_root, operation_uid):
        staging.is_directory()
    for record in placed:
        _placed(data_root, record).is_directory()


def remove_operation(
    data_root: Place, operation_uid: str, placed: Iterable[Record], *, collections: frozenset[str]
) -> None:
    """Everything of one operation: server staging it pinned, collections placed but never taken, its directory.

    What was placed for a collection that is in the schema stays: a node that lags behind raft will still take it.
    """
    for staging in snapshot_staging.staging_left_over(data_root, operation_uid):
        staging.remove_tree()
    for record in placed:
        if record["collection"] not in collections:
            _take_back(_placed(data_root, record), record)
    parent = data_root / DATA_DIRECTORY
    (parent / operation_uid).remove_tree()
    if parent.is_directory() and not parent.names():
        parent.remove_directory()


def _placed(data_root: Place, record: Record) -> Place:
    return data_root / BACKUP_TEMPORARY / checked_name(record["collection"], what="a placed collection")


def _take_back(placed: Place, record: Record) -> None:
    """Remove a placed collection that Weaviate did not take, if it is the very directory we placed."""
    if placed.is_directory() and is_same(placed, record["inode"], born_of(record, "ready")):
        placed.remove_tree()
