"""The one retry loop of the conversation with a store. Itself a store, so it can be stacked on any.

It asks nothing but whether a failure was `Transient`, and whether it is of an identity that is still to come. A put
starts again from zero through its factory; a read that breaks in the middle goes on from where it was. Everything else
is passed through.

A write-once put whose answer was lost finds its own object when it is repeated: an object that is there after a failed
attempt, and holds the very bytes, is a success; any other is `ObjectExists`.
"""

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import BinaryIO, TypeVar, cast

from tenacity import RetryCallState, retry_if_exception_type, stop_after_attempt, stop_before_delay
from tenacity import Retrying as Attempts
from tenacity.stop import stop_base
from tenacity.wait import wait_random_exponential

from weaviate_backup.answers import understood
from weaviate_backup.errors import ObjectExists, Transient
from weaviate_backup.storage.beginning import NotYet
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo, ObjectStore
from weaviate_backup.storage.patience import USUAL, Patience

T = TypeVar("T")
log = logging.getLogger(__name__)


class Retrying:
    """An `ObjectStore` around another one."""

    def __init__(self, store: ObjectStore, *, patience: Patience = USUAL) -> None:
        self._store = store
        stop = stop_after_attempt(patience.attempts)
        self._attempts = Attempts(
            retry=retry_if_exception_type(Transient),
            stop=_unless_awaited(stop),
            wait=_waits(patience),
            before_sleep=_say,
            reraise=True,
        )
        self._checking = self._attempts.copy(stop=_unless_awaited(stop | stop_before_delay(patience.check_seconds)))

    def _call(self, function: Callable[[], T]) -> T:
        return self._attempts.copy()(function)

    def _ask(self, function: Callable[[], T]) -> T:
        """Of a verb that moves no content of ours: whatever goes wrong in it is the answer's fault."""

        def asked() -> T:
            with understood("the store"):
                return function()

        return self._call(asked)

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        unanswered = False

        def attempt() -> ObjectInfo:
            nonlocal unanswered
            try:
                return self._store.put(key, make_blocks, if_absent=if_absent, at_most_bytes=at_most_bytes)
            except ObjectExists:
                if unanswered and self._holds(key, make_blocks()):
                    return self._store.stat(key)
                raise
            except Transient:
                unanswered = True
                raise

        return self._call(attempt)

    def _holds(self, key: str, blocks: Iterator[bytes]) -> bool:
        """Whether the object has these very bytes; the blocks are always taken to their end."""
        same = True
        with self.open(key) as stream:
            for block in blocks:
                same = same and stream.read(len(block)) == block
            return same and not stream.read(1)

    @contextmanager
    def open(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        stream = _ResumingStream(self, self._store, key, start, length)
        try:
            yield cast(BinaryIO, io.BufferedReader(stream, buffer_size=1 << 20))
        finally:
            stream.close()

    def stat(self, key: str) -> ObjectInfo:
        return self._ask(lambda: self._store.stat(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All at once, because a listing that starts again must not give an object twice."""
        yield from self._ask(lambda: tuple(self._store.list(prefix)))

    def first(self, prefix: str) -> ObjectInfo | None:
        """One object whose key starts with `prefix`, without listing them all."""
        return self._ask(lambda: next(iter(self._store.list(prefix)), None))

    def delete(self, keys: Iterable[str]) -> None:
        wanted = tuple(keys)
        self._ask(lambda: self._store.delete(wanted))

    def abort_unfinished(self, prefix: str) -> int:
        return self._ask(lambda: self._store.abort_unfinished(prefix))

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        wanted = tuple(keys)
        self._ask(lambda: self._store.lock(wanted, until))

    def check(self) -> None:
        def asked() -> None:
            with understood("the store"):
                self._store.check()

        self._checking.copy()(asked)


class _ResumingStream(io.RawIOBase):
    """Reads an object to its end over as many connections as that takes; only progress resets the count."""

    def __init__(self, owner: Retrying, store: ObjectStore, key: str, start: int, length: int | None) -> None:
        self._owner = owner
        self._store = store
        self._key = key
        self._position = start
        self._remaining = length
        self._entered: AbstractContextManager[BinaryIO] | None = None
        self._stream: io.RawIOBase | None = None
        self._owner._call(self._connect)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        count = self._read_on(view)
        self._position += count
        if self._remaining is not None:
            self._remaining -= count
        return count

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _read_on(self, view: memoryview) -> int:
        """The first attempt is made without the loop, which takes longer than a block does."""
        try:
            return self._read_into(view)
        except Transient as error:
            failures = [error]

        def attempt() -> int:
            if failures:
                raise failures.pop()
            return self._read_into(view)

        return self._owner._call(attempt)

    def _read_into(self, view: memoryview) -> int:
        if self._remaining == 0:
            return 0
        if self._stream is None:
            self._connect()
        assert self._stream is not None
        try:
            return self._stream.readinto(view)
        except Transient:
            self._disconnect()
            raise

    def _connect(self) -> None:
        self._entered = self._store.open(self._key, start=self._position, length=self._remaining)
        self._stream = cast(io.RawIOBase, self._entered.__enter__())

    def _disconnect(self) -> None:
        entered, self._entered, self._stream = self._entered, None, None
        if entered is not None:
            entered.__exit__(None, None, None)


def _unless_awaited(stop: stop_base) -> Callable[[RetryCallState], bool]:
    """An identity that may come is asked for until it is there, or missing for good: that is at most a minute."""

    def ends(state: RetryCallState) -> bool:
        failure = state.outcome.exception() if state.outcome else None
        return not isinstance(failure, NotYet) and stop(state)

    return ends


def _waits(patience: Patience) -> Callable[[RetryCallState], float]:
    backoff = wait_random_exponential(multiplier=patience.first_wait_seconds, max=patience.longest_wait_seconds)

    def seconds(state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, Transient) and failure.retry_after_seconds is not None:
            return min(failure.retry_after_seconds, 2 * patience.longest_wait_seconds)
        return backoff(state)

    return seconds


def _say(state: RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    log.warning("attempt %d failed, trying again: %s", state.attempt_number, failure)
