"""An object's bytes cut into parts, and the parts sent: a few at once, with memory bounded by their bytes.

What bounds memory is a number of bytes, never a number of parts: of one upload by what may be in flight, and of all
uploads of a store by the room that they share. A part that is larger than either goes alone.

A part is kept as the pieces it was made of until it is sent, so that what waits for room is held once.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.storage.patience import Patience

PART_ATTEMPTS = 4
ROOM_BYTES = 256 << 20
"""Of the parts of all uploads of a store, those in flight and those being cut. As many streams as an agent has at most
fit in with parts of usual size; it is a quarter of the agents' usual limit of memory."""
ROUNDED_TO_BYTES = 1 << 20
BEYOND = 8
"""How many times more an object is given that turns out larger than its parts reach: what was sent for nothing stays a
small share of the whole."""

T = TypeVar("T")
PartBytes = Callable[[int], int]
"""Size of the part of that number, counted from 0."""


class Room:
    """Bytes that may be held at once. First come, first served; who wants more than all of it gets it alone."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._taken_bytes = 0
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    def take(self, wanted_bytes: int) -> None:
        """Waits for those who have some: they give back whatever becomes of them."""
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is turn and self._has(wanted_bytes))
                self._taken_bytes += wanted_bytes
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()

    def give_back(self, taken_bytes: int) -> None:
        with self._changed:
            self._taken_bytes -= taken_bytes
            self._changed.notify_all()

    def _has(self, wanted_bytes: int) -> bool:
        return not self._taken_bytes or self._taken_bytes + wanted_bytes <= self._size_bytes


class Part:
    """Pieces in order, in a room that they have until they are cleared."""

    def __init__(self, room: Room, room_bytes: int) -> None:
        room.take(room_bytes)
        self._room, self._room_bytes = room, room_bytes
        self.pieces: list[memoryview] = []
        self.is_last = False
        """Nothing comes after it."""

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.pieces))

    def clear(self) -> None:
        """Whoever is done with it says so; again it does nothing."""
        self.pieces.clear()
        taken_bytes, self._room_bytes = self._room_bytes, 0
        if taken_bytes:
            self._room.give_back(taken_bytes)


class OutOfParts(Exception):
    """An object is larger than its parts reach."""

    def __init__(self, reached_bytes: int) -> None:
        super().__init__()
        self.reached_bytes = reached_bytes


@dataclass(frozen=True)
class PartRules:
    """What a kind of store takes, and what we make of it.

    Parts have `first_bytes`. Of an object whose size nobody knows they double after each `parts_per_size`, until one of
    them is as large as what may be in flight.
    """

    first_bytes: int
    in_flight_bytes: int
    parts_per_size: int
    most_parts: int
    largest_bytes: int
    """That the store takes."""

    @property
    def senders(self) -> int:
        """Parts that are in flight at most."""
        return max(1, self.in_flight_bytes // self.first_bytes)

    def growing(self, number: int) -> int:
        """Sizes of the parts of an object of unknown size."""
        most_bytes = max(self.first_bytes, min(self.in_flight_bytes, self.largest_bytes))
        return min(self.first_bytes << min(number // self.parts_per_size, 64), most_bytes)

    def equal(self, at_most_bytes: int) -> PartBytes:
        """One size for all, large enough for an object of so many bytes."""
        needed_bytes = -(-at_most_bytes // self.most_parts)
        size_bytes = max(self.first_bytes, -(-needed_bytes // ROUNDED_TO_BYTES) * ROUNDED_TO_BYTES)
        return lambda _: min(size_bytes, self.largest_bytes)

    def beyond(self, end: OutOfParts) -> int:
        """For how large an object the next attempt is made, which begins again."""
        if end.reached_bytes >= self.most_parts * self.largest_bytes:
            raise Permanent(
                "StoreRefused", f"an object of more than {end.reached_bytes} bytes is larger than the store can hold"
            ) from end
        return end.reached_bytes * BEYOND


def cut(blocks: Iterator[bytes], part_bytes: PartBytes, room: Room, *, most_parts: int) -> Iterator[Part]:
    """Parts of exactly `part_bytes(number)` bytes, numbered from 0, the last of which may be smaller; at least one.

    Whoever takes a part clears it. Raises `OutOfParts` instead of the part that would be one too many.
    """
    rest, number, reached_bytes = _next(blocks), 0, 0
    while number < most_parts:
        wanted_bytes = part_bytes(number)
        part = Part(room, wanted_bytes)
        try:
            missing_bytes = wanted_bytes
            while rest is not None and missing_bytes:
                part.pieces.append(rest[:missing_bytes])
                missing_bytes -= len(part.pieces[-1])
                rest = rest[len(part.pieces[-1]) :]
                if not len(rest):
                    rest = _next(blocks)
        except BaseException:
            part.clear()
            raise
        part.is_last = rest is None
        yield part
        if rest is None:
            return
        number, reached_bytes = number + 1, reached_bytes + wanted_bytes
    raise OutOfParts(reached_bytes)


def _next(blocks: Iterator[bytes]) -> memoryview | None:
    """The next block that holds anything; None at the end."""
    return next((memoryview(block) for block in blocks if block), None)


def send_parts(
    parts: Iterator[Part], send: Callable[[int, Part], T], *, in_flight_bytes: int, senders: int
) -> tuple[tuple[T, ...], int]:
    """What `send(number, part)` gave for every part, numbered from 1, and the bytes of all.

    A part waits until it fits into `in_flight_bytes` with those that are sent, or is alone; so memory holds these and
    the next one. After a failure nothing more is read or sent, and the first failure is raised.
    """
    room = Room(in_flight_bytes)
    failed = threading.Event()
    sending: list[Future[T]] = []
    size_bytes = 0

    def send_one(number: int, part: Part, part_bytes: int) -> T:
        try:
            return send(number, part)
        except BaseException:
            failed.set()
            raise
        finally:
            part.clear()
            room.give_back(part_bytes)

    with ThreadPoolExecutor(senders, thread_name_prefix="part") as pool:
        for number, part in enumerate(parts, start=1):
            part_bytes = part.size_bytes
            room.take(part_bytes)
            if failed.is_set():
                part.clear()
                break
            size_bytes += part_bytes
            sending.append(pool.submit(send_one, number, part, part_bytes))
        return tuple(future.result() for future in sending), size_bytes


def patiently(request: Callable[[], T], patience: Patience) -> T:
    """One part's request, made again after a `Transient` failure: cheaper than to begin the whole object again."""
    for attempt in range(1, PART_ATTEMPTS):
        try:
            return request()
        except Transient:
            threading.Event().wait(patience.first_wait_seconds / 2 * 2**attempt)
    return request()
