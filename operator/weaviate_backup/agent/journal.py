"""What an operation did on this volume, in append-only JSON lines beside the frozen set.

A restarted agent reads it and goes on where its predecessor stopped. Lines whose loss would cost more than repeated
work are synced before `append` returns; a torn last line, left by a crash, is cut off. One process writes at a time:
the file is locked for as long as it is open, which also tells a living agent's directory from a dead one's. It lies
where Weaviate writes, too: what is read from it has the form of our records, or is not believed.
"""

import contextlib
import fcntl
import io
import json
import os
import sys
import threading
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from weaviate_backup.beneath import Place, write_all
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout.json_bounds import holds_half
from weaviate_backup.layout.plain_names import checked_name

JOURNAL = "journal.jsonl"
LIMIT_BYTES = 4 << 30
"""More than ten million files take."""
LINE_LIMIT_BYTES = 32 << 20
"""The longest names every shard of a collection, or every file of a chunk."""
SHARD, GONE, OFFLOADED = "shard", "gone", "offloaded"
"""What became of a shard: it is frozen, or was deleted or offloaded before it was."""
CUTS = ("cutting", SHARD)
"""What begins a cut, and what says that it was let go of."""
REPLAYS = ("replaying", "replayed")
THAWED = "thawed"
"""All that was frozen until then is forgotten."""
Record = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)
Kinds = Mapping[str, type | tuple[type, ...]]
_SHARD: Kinds = {"collection": str, "shard": str}
_CUT: Kinds = {
    "driver": str,
    "halt_seconds": (int, float),
    "object_count": (int, type(None)),
    "bytes": int,
    "files": int,
}
FIELDS: Mapping[str, Kinds] = {
    "session": {"order": dict},
    "cutting": _SHARD,
    SHARD: {**_SHARD, **_CUT, "started_at": str, "ended_at": str},
    GONE: {**_SHARD, "at": str},
    OFFLOADED: {**_SHARD, "at": str},
    "surveyed": {"result": dict},
    "schema": {"result": dict},
    "frozen": {"result": dict},
    "chunk": {"collection": str, "number": int, "record": dict},
    "uploaded": {"result": dict},
    "fetched": {"boot": str, "key": str, "only": (str, type(None))},
    "brought": {"collection": str, "files": int, "bytes": int},
    "unnamed": {"collection": str, "shards": list},
    "placed-shards": {"collection": str, "shards": dict, "late": dict},
    "placed": {"collection": str, "inode": int, "data_inode": int, "shards": dict, "files": int},
    "applying": {"collection": str},
    "applied": {"collection": str, "index": int},
    "replaying": _SHARD,
    "replayed": _SHARD,
}
"""Kind of a record -> what it must have for its readers; other kinds have no more than their name."""


class Journal:
    """Records in order. `place` None keeps them in memory: a store worker has no volume and nothing to go on with.

    Of those on a volume only the kinds and the places are held, since a node may have millions of files; what is asked
    for is read again.
    """

    def __init__(self, place: Place | None) -> None:
        self._lock = threading.Lock()
        self._file: int | None = None
        self._lines: list[bytes] | None = [] if place is None else None
        self._kinds: list[str] = []
        self._ends = array("Q")
        if place is not None:
            place.parent.make_directory(mode=0o700)
            self._file = place.descriptor(os.O_RDWR | os.O_APPEND, create_mode=0o600)
            try:
                self._take(self._file, place)
                if not self._ends:
                    place.parent.sync_from_root()  # else a synced record could be lost with its file
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, file: int, place: Place) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Transient("OperationActive", f"another agent process works with {place}") from error
        for record, end in _records_in(io.FileIO(file, "rb", closefd=False), place):
            self._kinds.append(sys.intern(record["kind"]))
            self._ends.append(end)
        os.ftruncate(file, self._whole_bytes)

    @property
    def _whole_bytes(self) -> int:
        return self._ends[-1] if self._ends else 0

    def append(self, kind: str, *, sync: bool = True, **fields: Any) -> None:
        """Add a record, or raise and leave none. May be called from any thread.

        `RecordUnreadable` for one that no reader would believe, or that would make all behind it unreadable.
        """
        record = {"kind": kind, **fields}
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if not _is_ours(record) or holds_half(line, record) or len(line) > LINE_LIMIT_BYTES:
            why = f"its {len(line)} bytes are more than {LINE_LIMIT_BYTES}, it lacks a field, or is no text"
            raise _unreadable(kind, why)
        with self._lock:
            if self._whole_bytes + len(line) > LIMIT_BYTES:
                raise _unreadable(kind, f"the journal would have more than {LIMIT_BYTES} bytes")
            if self._lines is not None:
                self._lines.append(line)
            elif self._file is not None:
                self._write(self._file, line, sync=sync)
            else:
                raise ValueError("the journal is closed")
            self._kinds.append(sys.intern(kind))
            self._ends.append(self._whole_bytes + len(line))

    def _write(self, file: int, line: bytes, *, sync: bool) -> None:
        """Behind the last whole line: whatever came behind half a line would be lost with it."""
        size_bytes = os.fstat(file).st_size
        if size_bytes < self._whole_bytes:
            message = f"somebody cut the journal from {self._whole_bytes} to {size_bytes} bytes"
            raise Permanent("JournalDamaged", f"{message}; begin the operation anew")
        if size_bytes > self._whole_bytes:
            os.ftruncate(file, self._whole_bytes)
        try:
            write_all(file, line)
            if sync:
                os.fsync(file)
        except BaseException:
            with contextlib.suppress(OSError):  # else the next record does, or the next process
                os.ftruncate(file, self._whole_bytes)
            raise

    def of(self, *kinds: str) -> Iterator[Record]:
        """Records of some kinds, oldest first, as many as there are now."""
        return (self.at(number) for number in self._numbers(kinds))

    def numbered(self, *kinds: str) -> Iterator[tuple[int, Record]]:
        """The same with the number of each, by which `at` finds it again."""
        return ((number, self.at(number)) for number in self._numbers(kinds))

    def _numbers(self, kinds: Container[str]) -> list[int]:
        with self._lock:
            return [number for number, kind in enumerate(self._kinds) if kind in kinds]

    def at(self, number: int) -> Record:
        """Raises `JournalDamaged` when it is not there any more."""
        with self._lock:
            start, end = self._ends[number - 1] if number else 0, self._ends[number]
            if self._lines is not None:
                line = self._lines[number]
            elif self._file is not None:
                line = os.pread(self._file, end - start, start)
            else:
                raise ValueError("the journal is closed")
        record = _record(line)
        if record is None or record["kind"] != self._kinds[number]:
            raise journal_damaged(self._kinds[number])
        return record

    def last(self, kind: str) -> Record | None:
        """The newest record of a kind."""
        with self._lock:
            number = next((number for number in reversed(range(len(self._kinds))) if self._kinds[number] == kind), None)
        return None if number is None else self.at(number)

    def result(self, kind: str, model: type[Model]) -> Model | None:
        """What the last record of a kind says was the result. `JournalDamaged` when it is none."""
        record = self.last(kind)
        try:
            return None if record is None else model.model_validate(record["result"])
        except ValidationError as error:
            raise journal_damaged(kind) from error

    def show_life(self) -> None:
        """A sign of life: a directory whose journal is old belongs to nobody."""
        with self._lock:
            if self._file is not None:
                os.utime(self._file)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


class LeftOpen:
    """What was begun and did not end, of records that are seen one after the other."""

    def __init__(self, begun: str, ended: str) -> None:
        self._begun, self._ended = begun, ended
        self._pending: set[tuple[str, str]] = set()

    def see(self, record: Record) -> None:
        if record["kind"] == self._begun:
            self._pending.add((record["collection"], record["shard"]))
        elif record["kind"] == self._ended:
            self._pending.discard((record["collection"], record["shard"]))

    @property
    def shards(self) -> list[tuple[str, str]]:
        """Collection and shard of each, sorted."""
        return sorted(self._pending)


def cuts_left_over(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Collection and shard of cuts that were begun and perhaps never let go of, because the agent was killed."""
    found = LeftOpen(*CUTS)
    for record in records:
        found.see(record)
    return found.shards


def _unreadable(kind: str, why: str) -> Permanent:
    message = f"the journal's record {kind!r} could not be read back: {why}"
    return Permanent("RecordUnreadable", f"{message}; exclude the collection that is so large")


def journal_damaged(kind: str) -> Permanent:
    return Permanent("JournalDamaged", f"the journal's record {kind!r} is none of ours; begin the operation anew")


def read_records(place: Place) -> Iterator[Record]:
    """One after the other, as long as the file has whole ones."""
    with place.open() as stream:
        for record, _ in _records_in(stream, place):
            yield record


def _records_in(file: io.FileIO, place: Place) -> Iterator[tuple[Record, int]]:
    """Whole records, and where each ends. What follows the first broken line is not believed."""
    whole_bytes = 0
    with io.BufferedReader(file) as stream:
        while line := stream.readline(LINE_LIMIT_BYTES + 1):
            if whole_bytes + len(line) > LIMIT_BYTES:
                raise Permanent(
                    "FileTooLarge", f"{place} has more than the {LIMIT_BYTES} bytes that a journal may have"
                )
            record = _record(line)
            if record is None:
                break
            whole_bytes += len(line)
            yield record, whole_bytes


def _record(line: bytes) -> Record | None:
    """None of a line that is broken, or that none of us wrote."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not line.endswith(b"\n") or not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return None
    return record if _is_ours(record) and not holds_half(line, record) else None


def _is_ours(record: Record) -> bool:
    """Whether a record of its kind has what its readers need."""
    try:
        for name, kind in FIELDS.get(record["kind"], {}).items():
            if not isinstance(record.get(name, ...), kind):
                return False
            if name in ("collection", "shard"):
                checked_name(record[name], what=name)
    except Permanent:
        return False
    return True


def is_held(place: Place) -> bool:
    """Whether a living process has this journal open."""
    try:
        file = place.descriptor(os.O_RDWR)  # NFS locks nothing exclusively that is open for reading alone
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
