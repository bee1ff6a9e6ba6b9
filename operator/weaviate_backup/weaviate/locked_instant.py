"""The instant at which a server held back all writes to a shard, recognized from outside by looking at its files.

Up to 1.38.2 `ListFiles` takes the shard's write lock, flushes every bucket, lists, writes `indexcount.copy.tmp` and
lets go. No write is half done then: what is in the listed segments is in the indexes, too. How long the indexes' logs
were is what the list does not tell; entries that a server still held in memory are the business of `commit_log`.

Logs only grow. If all of them are as long after the marker changed as they were before it did, that is their length at
the instant, whatever else was slow; otherwise the instant was missed and the caller asks again.
"""

import re
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

from weaviate_backup.beneath import Held, Place
from weaviate_backup.errors import BackupError

MARKER = "indexcount.copy.tmp"
LOGS = "*.hnsw.commitlog.d"
RAW_LOG = re.compile(r"[0-9]{1,30}")
LOOK_SECONDS = 0.0001

Lengths = dict[str, int]
"""Shard-relative path of a log that is written to -> its bytes."""


def active_logs(live: Place) -> tuple[str, ...]:
    """The newest raw commit log of every vector and geo index of a shard: the one its index appends to."""
    found = []
    for directory in live.names():
        if fnmatchcase(directory, LOGS):
            raw = [name for name in (live / directory).names() if RAW_LOG.fullmatch(name)]
            if raw:
                found.append(f"{directory}/{max(raw, key=int)}")
    return tuple(found)


@dataclass(frozen=True)
class _Look:
    lengths: Lengths
    marker: tuple[int, int, int] | None


class InstantWatch:
    """Watches a shard from before a `ListFiles` until after it, in a thread of its own: `with` one around the call."""

    def __init__(self, live: Place) -> None:
        self._live = live
        self._logs = active_logs(live)
        self._places = {name: live / name for name in self._logs}
        self._marker = live / MARKER
        self._held = Held()
        self._ended = threading.Event()
        self._found: Lengths | None = None
        self._failure: BackupError | OSError | None = None
        self._thread = threading.Thread(target=self._watch, name="instant-watch", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._first = self._look()
        except BaseException:
            self._held.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._held.close()

    def lengths(self) -> Lengths | None:
        """Of every active log at the instant; None when it was not recognized without doubt. After the `with`. Raises
        what kept the watch from looking."""
        if self._failure is not None:
            raise self._failure
        return self._found if active_logs(self._live) == self._logs else None

    def _watch(self) -> None:
        try:
            self._watch_until_ended()
        except (BackupError, OSError) as error:
            self._failure = error

    def _watch_until_ended(self) -> None:
        before = self._first
        while True:
            last = self._ended.is_set()
            after = self._look()
            if after.marker != before.marker:
                lengths = self._lengths()
                self._found = lengths if lengths == before.lengths else None
                return
            if last:
                return
            before = after
            self._ended.wait(LOOK_SECONDS)

    def _look(self) -> _Look:
        """Lengths first: those of the last look before the marker changed were read before it did."""
        lengths = self._lengths()
        try:
            state = self._held.stat(self._marker)
        except FileNotFoundError:
            return _Look(lengths, None)
        return _Look(lengths, (state.st_mtime_ns, state.st_ctime_ns, state.st_size))

    def _lengths(self) -> Lengths:
        lengths: Lengths = {}
        for name, place in self._places.items():
            try:
                lengths[name] = self._held.stat(place).st_size
            except FileNotFoundError:  # not before the halt ends, and then the names differ
                lengths[name] = -1
        return lengths
