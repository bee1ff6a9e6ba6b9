"""The same work on many objects at once, on threads that are never left behind."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from weaviate_backup.stored.meter import Meter

T = TypeVar("T")
AHEAD = 2
"""Items that wait for a thread: what is read for one is held until it is done."""


def each_in_parallel(function: Callable[[T], None], items: Iterable[T], meter: Meter, *, streams: int) -> None:
    """On a pool of `streams` threads, in the order of the items, which are taken as they are needed; the first failure
    stops the others and is raised. Blocks: call it in a thread."""
    under_way: set[Future[None]] = set()
    with ThreadPoolExecutor(streams, thread_name_prefix="each") as pool:
        try:
            for item in items:
                under_way.add(pool.submit(function, item))
                if len(under_way) >= streams + AHEAD:
                    under_way = _one_less(under_way)
            while under_way:
                under_way = _one_less(under_way)
        except BaseException:
            meter.stop()
            for future in under_way:
                future.cancel()
            raise


def _one_less(under_way: set[Future[None]]) -> set[Future[None]]:
    """At least."""
    done, pending = wait(under_way, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return pending
