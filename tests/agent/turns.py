"""Lets programs that share a store take turns, one call of the store each, in an order that a test chooses."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import BinaryIO, TypeVar

from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo, ObjectStore

T = TypeVar("T")
Order = Callable[[int, int], int]
"""(how many calls were made so far, whose turn it was) -> whose turn it is; asked before each call."""


class Program:
    """One of them, in a thread of its own that runs between its turns only."""

    def __init__(self, work: Callable[["Program"], T]) -> None:
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self.result: object = None
        self.error: Exception | None = None
        self._thread.start()

    def _run(self, work: Callable[["Program"], object]) -> None:
        self._go.acquire()
        try:
            self.result = work(self)
        except Exception as error:  # noqa: BLE001 (what ended it is what the test looks at)
            self.error = error
        finally:
            self.ended = True
            self._paused.release()

    ended = False

    def step(self) -> None:
        """Let it go on to its next call, or to its end."""
        self._go.release()
        self._paused.acquire()

    def pause(self) -> None:
        """In whichever thread of the program makes a call, before it."""
        self._paused.release()
        self._go.acquire()


def take_turns(programs: list[Program], order: Order) -> int:
    """Until all have ended; how many calls that took."""
    calls, current = 0, 0
    while not all(each.ended for each in programs):
        current = order(calls, current)
        if programs[current].ended:
            current = next(number for number, each in enumerate(programs) if not each.ended)
        programs[current].step()
        calls += 1
    return calls


def switching_at(moments: Iterable[int], *, first: int, programs: int) -> Order:
    """One goes on until it ends, but for these moments, at which it is the next one's turn."""
    chosen = frozenset(moments)

    def whose(calls: int, current: int) -> int:
        if calls == 0:
            return first
        return (current + 1) % programs if calls in chosen else current

    return whose


class SharedStore:
    """The store, for one program: each call is a turn."""

    def __init__(self, store: ObjectStore, program: Program) -> None:
        self._store = store
        self._program = program

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        self._program.pause()
        return self._store.put(key, make_blocks, if_absent=if_absent, at_most_bytes=at_most_bytes)

    def open(self, key: str, *, start: int = 0, length: int | None = None) -> AbstractContextManager[BinaryIO]:
        self._program.pause()
        return self._store.open(key, start=start, length=length)

    def stat(self, key: str) -> ObjectInfo:
        self._program.pause()
        return self._store.stat(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._program.pause()
        return self._store.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """One by one: a store deletes many objects in no instant."""
        for key in keys:
            self._program.pause()
            self._store.delete([key])

    def abort_unfinished(self, prefix: str) -> int:
        self._program.pause()
        return self._store.abort_unfinished(prefix)

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        self._program.pause()
        self._store.lock(keys, until)

    def check(self) -> None:
        self._program.pause()
        self._store.check()
