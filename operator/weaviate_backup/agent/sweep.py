"""What operations left on a volume: which there are, whether their agents may come back, and what they placed.

An operation is dead when no process holds its journal and nothing touched that for as long as its lease. A living one
is never touched. Where something lies that none of us makes, nothing at all is swept. Reads only; what goes goes by
`taking_back`. Synchronous file work only.
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
from weaviate_backup.agent.placed_records import Joining
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import DATA_DIRECTORY
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout.plain_names import checked_name
from weaviate_backup.weaviate import snapshot_staging

DEFAULT_LEASE_SECONDS = 600
LONGEST_LEASE_SECONDS = 7 * 86400
"""Whatever a journal says, what is older belongs to nobody."""
BACKUP_TEMPORARY = ".backup.tmp"
"""Where Weaviate takes restored collections from."""


@dataclass
class OtherOperation:
    """What the journal of one says of what it left."""

    uid: str
    lease_seconds: float = DEFAULT_LEASE_SECONDS
    wait_seconds: float = 0.0
    """Until it is dead, if nobody gives a sign of life; 0: it is."""
    is_at_work: bool = False
    placed: list[Record] = field(default_factory=list)
    cuts: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def told_by(cls, uid: str, journal: Place) -> Self:
        """Its journal is read once, record by record: it may be larger than memory."""
        told, cuts, joining = cls(uid), LeftOpen(*CUTS), Joining()
        for record in read_records(journal):
            if record["kind"] == "session":
                told.lease_seconds = _lease_in(record)
            told._see_placed(joining, record)
            cuts.see(record)
        told.cuts = cuts.shards
        return told

    def _see_placed(self, joining: Joining, record: Record) -> None:
        try:
            placed = joining.see(record)
        except Permanent:
            placed = record  # its directories are known, and not all of its shards
        if placed is not None:
            self.placed.append(placed)


def find_dead(data_root: Place, operation_uid: str, now: datetime) -> tuple[OtherOperation, ...]:
    """All dead operations but this one. `OperationActive` when a living one is found, `UnexpectedEntry` when something
    there is neither file nor directory: all is looked at before one is removed."""
    others = find_others(data_root, operation_uid, now)
    for each in others:
        if each.is_at_work:
            raise Transient(
                "OperationActive", f"an agent of operation {each.uid} is at work on this volume; wait for its end"
            )
    dead = tuple(each for each in others if not each.wait_seconds)
    for each in dead:
        _look_at_all(data_root, each.uid, each.placed)
    return dead


def find_others(data_root: Place, operation_uid: str, now: datetime) -> tuple[OtherOperation, ...]:
    """All operations but this one, dead or not."""
    parent = data_root / DATA_DIRECTORY
    names = [name for name, _ in parent.entries()] if parent.is_directory() else []
    return tuple(
        _told(parent / name, now) for name in names if name != operation_uid and (parent / name).is_directory()
    )


def _told(directory: Place, now: datetime) -> OtherOperation:
    journal = directory / JOURNAL
    held, there = is_held(journal), journal.is_file()
    told = OtherOperation.told_by(directory.name, journal) if there else OtherOperation(directory.name)
    last_sign = (journal if there else directory).stat().st_mtime
    silent_seconds = now.timestamp() - last_sign
    is_a_sign = silent_seconds >= -told.lease_seconds  # not a time to come, that a clock gave which was ahead
    told.is_at_work = held
    if held:
        told.wait_seconds = told.lease_seconds
    elif is_a_sign:
        told.wait_seconds = max(0.0, told.lease_seconds - silent_seconds)
    return told


def _lease_in(session: Record) -> float:
    order = session.get("order")
    lease = order.get("lease_seconds") if isinstance(order, dict) else None
    return min(lease, LONGEST_LEASE_SECONDS) if isinstance(lease, int) and lease > 0 else DEFAULT_LEASE_SECONDS


def _look_at_all(data_root: Place, operation_uid: str, placed: Iterable[Record]) -> None:
    """Whether each directory that would be removed is one."""
    for staging in snapshot_staging.staging_left_over(data_root, operation_uid):
        staging.is_directory()
    for record in placed:
        for lies in lies_at(data_root, record):
            lies.place.is_directory()


@dataclass(frozen=True)
class Lies:
    """Where a directory of a placed collection may lie, and how it is known."""

    place: Place
    inode: int | None
    born: object

    def is_same(self) -> bool:
        """What stands there is the very directory that was placed."""
        return is_same(self.place, self.inode, self.born)

    def is_there(self) -> bool:
        """The same, and anything but a file or a directory is refused."""
        return self.place.is_directory() and self.is_same()

    def at(self, place: Place) -> "Lies":
        """The same directory elsewhere."""
        return Lies(place, self.inode, self.born)


def lies_at(data_root: Place, record: Record) -> tuple[Lies, Lies]:
    """Where Weaviate takes the collection from, and where it takes it to. It may do so at any time, also before raft
    was told: when it starts it comes to old commands again. So the first is to be looked at first."""
    collection = checked_name(record["collection"], what="a placed collection")
    return (
        Lies(data_root / BACKUP_TEMPORARY / collection, record.get("inode"), born_of(record, "ready")),
        Lies(data_root / collection.lower(), record.get("data_inode"), born_of(record, "data")),
    )
