"""Work beside and within the event loop, never left behind: who is cancelled waits for its threads and tasks first.

What follows a cancelled step deletes files and objects, so nothing may still be writing them. The thread itself learns
from its `Meter` that it must end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Like `asyncio.to_thread`, but a cancelled caller returns only after the function has."""
    return await to_its_end(asyncio.to_thread(function, *args, **kwargs))


async def to_its_end(awaited: "Coroutine[Any, Any, T] | asyncio.Task[T]") -> T:
    """Whoever is cancelled meanwhile, however often, learns of it only when that has ended.

    Not `asyncio.shield`, which lets the caller go on: what is awaited needs what the caller then closes.
    """
    work = asyncio.ensure_future(awaited)
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return work.result()
    if not work.cancelled():
        work.exception()
    raise cancelled


async def together(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first failure cancels the others, waits for them and is raised as it is."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    async with none_left(tasks):
        for finished in asyncio.as_completed(tasks):
            await finished


@asynccontextmanager
async def none_left(tasks: Collection["asyncio.Task[None]"]) -> AsyncIterator[None]:
    """Those that are at work at the end, however that comes, are cancelled and waited for. More may come meanwhile."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
