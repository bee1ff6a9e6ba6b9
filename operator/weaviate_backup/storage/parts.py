"""An object's bytes cut into parts, and the parts sent: a few at once, with memory bounded by their number.

A part is kept as the pieces it was made of until it is sent, so that what waits for room is held once.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from weaviate_backup.errors import Transient
from weaviate_backup.storage.patience import Patience

PART_ATTEMPTS = 4

Part = list[memoryview]
"""Pieces of a part, in order."""
T = TypeVar("T")


def cut(blocks: Iterator[bytes], part_bytes: Callable[[int], int]) -> Iterator[Part]:
    """Parts of exactly `part_bytes(number)` bytes, numbered from 0; the last may be smaller, none is empty."""
    pieces: Part = []
    missing_bytes, number = part_bytes(0), 0
    for block in blocks:
        rest = memoryview(block)
        while len(rest) >= missing_bytes:
            pieces.append(rest[:missing_bytes])
            rest = rest[missing_bytes:]
            yield pieces
            number += 1
            pieces, missing_bytes = [], part_bytes(number)
        if len(rest):
            pieces.append(rest)
            missing_bytes -= len(rest)
    if pieces:
        yield pieces


def joined(part: Part) -> bytes:
    """The part's bytes; its pieces are let go."""
    content = b"".join(part)
    part.clear()
    return content


def send_parts(parts: Iterator[Part], send: Callable[[int, Part], T], *, in_flight: int) -> tuple[tuple[T, ...], int]:
    """What `send(number, part)` gave for every part, numbered from 1, and the bytes of all.

    A part waits for room before it is sent, so memory holds those in flight and the next one. With one in flight they
    are sent in order. After a failure nothing more is read or sent, and the first failure is raised.
    """
    room = threading.Semaphore(in_flight)
    failed = threading.Event()
    sending: list[Future[T]] = []
    size_bytes = 0

    def send_one(number: int, part: Part) -> T:
        try:
            return send(number, part)
        except BaseException:
            failed.set()
            raise
        finally:
            part.clear()
            room.release()

    with ThreadPoolExecutor(in_flight, thread_name_prefix="part") as pool:
        for number, part in enumerate(parts, start=1):
            room.acquire()
            if failed.is_set():
                break
            size_bytes += sum(map(len, part))
            sending.append(pool.submit(send_one, number, part))
        return tuple(future.result() for future in sending), size_bytes


def patiently(request: Callable[[], T], patience: Patience) -> T:
    """One part's request, made again after a `Transient` failure: cheaper than to begin the whole object again."""
    for attempt in range(1, PART_ATTEMPTS):
        try:
            return request()
        except Transient:
            threading.Event().wait(patience.first_wait_seconds / 2 * 2**attempt)
    return request()
