"""The same work on many objects at once, on threads that are never left behind."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from weaviate_backup.stored.meter import Meter

T = TypeVar("T")


def each_in_parallel(function: Callable[[T], None], items: Iterable[T], meter: Meter, *, streams: int) -> None:
    """On a pool of `streams` threads; the first failure stops the others and is raised. Blocks: call it in a thread."""
    with ThreadPoolExecutor(streams, thread_name_prefix="each") as pool:
        futures = [pool.submit(function, item) for item in items]
        done, pending = wait(futures, return_when=FIRST_EXCEPTION)
        if pending:
            meter.stop()
        for future in pending:
            future.cancel()
        for future in done:
            future.result()
