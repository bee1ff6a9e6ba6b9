"""What an operation did on this volume, in append-only JSON lines beside the frozen set.

A restarted agent reads it and goes on where its predecessor stopped. Lines whose loss would cost more than repeated
work are synced before `append` returns; a torn last line, left by a crash, is cut off. One process writes at a time:
the file is locked for as long as it is open, which also tells a living agent's directory from a dead one's.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from weaviate_backup.errors import Transient

JOURNAL = "journal.jsonl"
Record = dict[str, Any]


class Journal:
    """Records in order. `path` None keeps them in memory: a store worker has no volume and nothing to go on with."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._file: int | None = None
        self._records: list[Record] = []
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._take(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, path: Path) -> None:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            self._file = None
            raise Transient("OperationActive", f"another agent process works with {path}") from error
        self._records, whole_bytes = read_records(path)
        os.ftruncate(self._file, whole_bytes)

    def append(self, kind: str, *, sync: bool = True, **fields: Any) -> None:
        """Add a record. May be called from any thread."""
        record: Record = {"kind": kind, **fields}
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._file is not None:
                written = 0
                while written < len(line):
                    written += os.write(self._file, line[written:])
                if sync:
                    os.fsync(self._file)
            self._records.append(record)

    def of(self, *kinds: str) -> Iterator[Record]:
        """Records of some kinds, oldest first."""
        with self._lock:
            found = [record for record in self._records if record["kind"] in kinds]
        return iter(found)

    def last(self, kind: str) -> Record | None:
        return next(reversed(list(self.of(kind))), None)

    def touch(self) -> None:
        """A sign of life: a directory whose journal is old belongs to nobody."""
        with self._lock:
            if self._file is not None:
                os.utime(self._file)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def cuts_left_over(journal: Journal) -> list[tuple[str, str]]:
    """Collection and shard of cuts that were begun and perhaps never let go of, because the agent was killed."""
    pending: dict[tuple[str, str], None] = {}
    for record in journal.of("cutting", "shard"):
        key = (record["collection"], record["shard"])
        if record["kind"] == "cutting":
            pending[key] = None
        else:
            pending.pop(key, None)
    return sorted(pending)


def read_records(path: Path) -> tuple[list[Record], int]:
    """Whole records and the bytes they take. What follows the first broken line is not believed."""
    records: list[Record] = []
    whole_bytes = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(record, dict) or "kind" not in record:
            break
        records.append(record)
        whole_bytes += len(line)
    return records, whole_bytes


def is_held(path: Path) -> bool:
    """Whether a living process has this journal open."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
