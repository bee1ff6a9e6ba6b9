"""What others answer, read with bounds: every HTTP answer passes here, and every JSON that somebody else wrote.

Whoever is asked may be hostile: a tenant's StatefulSet that calls itself Weaviate, a pod that was taken over, a bucket
that anybody may write to. So an answer has a size, also unpacked (nothing is asked for packed, and what comes packed is
refused), a number of values and a depth, and all of it must have come within one time, however it drips. Nobody is sent
elsewhere: a redirect is an answer like any other.

Bounds of one answer do not bound many at once. What is small is read at any time; for more of it everybody waits for a
turn, in which it is read, parsed and reduced to what is wanted of it: large answers are not in memory together. Turns
of the API server are not those of others. An owner (a tenant's namespace) has one at a time, and who waits for his own
does not stand in the line of all, so that owners alternate. How long a turn lasts is earned by what is sent in it.

Memory itself is the measure of what an agent reads whole.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import aiohttp

from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout.json_bounds import KIB, MIB, BeyondBounds, JsonBounds

FREE_BYTES = 256 * KIB
"""Of an answer that need not wait for a turn."""
WAIT_SECONDS = 60.0
"""So long somebody waits for his turn; that is not counted as the time of who answers."""
GRACE_SECONDS, RATE_BYTES = 2.0, 2 * MIB
"""Of a turn: how long it lasts before anything is sent in it, and what must come each second to go on. The largest
answer has ten seconds, who drips has two."""
FEW = JsonBounds(64 * KIB, 1_000)
SOME = JsonBounds(MIB, 20_000)
MANY = JsonBounds(16 * MIB, 400_000)
"""Of a thousand collections, or a hundred thousand tenants: 48 MiB of values at most."""
REPORT = JsonBounds(4 * MIB, 100_000)
OBJECTS = JsonBounds(12 * MIB, 700_000)
"""Of the API server, which tells the truth, but of objects that anybody may have made: one that is stored in 1.5 MiB is
sent as up to 9 MiB."""
DOCUMENT_SHARE, VALUE_BYTES = 8, 640
"""The bytes of a document may take an eighth of memory; a value of it takes at most 220 bytes as we keep it, with what
it was parsed from 320: so half of memory is the most of all of them."""
LEAST_BYTES, MOST_BYTES = 32 * MIB, 1024 * MIB
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """Whoever does the same at the same time: so many of one owner, and of all (None: any number). `paced`: an owner's
    time is earned by what he sends."""

    name: str
    of_one: int
    of_all: int | None = None
    paced: bool = False


FOREIGN = Line("large answers of Weaviate and agents", of_one=1, of_all=2, paced=True)
BODIES = Line("answers of Weaviate and agents", of_one=16)
API_SERVER = Line("large answers of the API server", of_one=1, of_all=2)


@dataclass
class _Places:
    """Of one line; those of an owner last while somebody of his is in it."""

    everybody: asyncio.Semaphore | None
    owners: WeakValueDictionary[str, asyncio.Semaphore] = field(default_factory=WeakValueDictionary)


_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Line, _Places]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Answer:
    """Status and the body as it was sent."""

    status: int
    body: bytes

    @property
    def is_good(self) -> bool:
        """2xx: nothing else, as a change of the protocol would be."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """For messages."""
        return self.body.decode(errors="replace")


def session_options() -> dict[str, Any]:
    """For `aiohttp.ClientSession`: nothing is unpacked, no cookie is kept."""
    return {
        "auto_decompress": False,
        "cookie_jar": aiohttp.DummyCookieJar(),
        "read_bufsize": 64 * KIB,
    }


def open_session(headers: dict[str, str] | None = None, **options: Any) -> aiohttp.ClientSession:
    """The caller closes it. Must be called in a running event loop."""
    return aiohttp.ClientSession(
        headers={"Accept-Encoding": "identity", **(headers or {})}, **session_options(), **options
    )


async def ask(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    take: Callable[[Answer], T],
    *,
    what: str,
    limit_bytes: int,
    total_seconds: float,
    whose: str = "",
    **options: Any,
) -> T:
    """Ask, read the whole answer within that time, and give what is taken of it. `what` names the call; `whose`: the
    owner of who answers, where there are several.

    Raises `AnswerTooLarge`, `UnexpectedAnswer`, and what the client raises: `TimeoutError`, `aiohttp.ClientError`.
    """
    async with (
        asyncio.timeout(total_seconds) as clock,
        session.request(method, url, allow_redirects=False, **options) as response,
        turn(BODIES, whose) if whose else contextlib.nullcontext(),
    ):

        def taken(body: bytes) -> T:
            return take(Answer(response.status, body))

        return await read(response, taken, what=what, limit_bytes=limit_bytes, clock=clock, whose=whose)


async def read(
    response: aiohttp.ClientResponse,
    take: Callable[[bytes], T],
    *,
    what: str,
    limit_bytes: int,
    clock: asyncio.Timeout,
    line: Line = FOREIGN,
    whose: str = "",
) -> T:
    """What is taken of the body, which is let go. `clock` stands still while a turn is awaited. Raises as `ask`."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise Permanent("UnexpectedAnswer", f"{what}: the answer is packed ({excerpt(encoding, 40)}), unasked")
    if (response.content_length or 0) > limit_bytes:
        raise too_large(what, f"{response.content_length} bytes are announced, more than {limit_bytes}")
    found = bytearray()
    async with contextlib.AsyncExitStack() as held:
        pace: asyncio.Timeout | None = None
        async for block in response.content.iter_any():
            if len(found) + len(block) > limit_bytes:
                raise too_large(what, f"more than {limit_bytes} bytes")
            found += block
            if pace is None and len(found) > FREE_BYTES:
                await held.enter_async_context(turn(line, whose, clock))
                grace_seconds = GRACE_SECONDS if line.paced and whose else None
                pace = await held.enter_async_context(asyncio.timeout(grace_seconds))
            elif pace is not None:
                _prolong(pace, len(block) / RATE_BYTES)
        return take(bytes(found))


def whole(answer: T) -> T:
    """What is taken when nothing is to be left out."""
    return answer


@contextlib.asynccontextmanager
async def turn(line: Line, whose: str = "", clock: asyncio.Timeout | None = None) -> AsyncIterator[None]:
    """While it lasts, few others do the same. Without an owner only the line of all counts."""
    lines = _lines.setdefault(asyncio.get_running_loop(), {})
    places = lines.setdefault(line, _Places(asyncio.Semaphore(line.of_all) if line.of_all else None))
    own = places.owners.setdefault(whose, asyncio.Semaphore(line.of_one)) if whose else None
    async with contextlib.AsyncExitStack() as held:
        with _standing_still(clock):
            for each in (own, places.everybody):
                if each is not None:
                    await held.enter_async_context(each)
        yield


@contextlib.contextmanager
def _standing_still(clock: asyncio.Timeout | None) -> Iterator[None]:
    if clock is None:
        yield
        return
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    _prolong(clock, WAIT_SECONDS)
    yield
    _prolong(clock, loop.time() - began_at - WAIT_SECONDS)


def _prolong(clock: asyncio.Timeout, seconds: float) -> None:
    ends_at = clock.when()
    if ends_at is not None and not clock.expired():
        clock.reschedule(ends_at + seconds)


def parse(content: bytes, bounds: JsonBounds, *, what: str) -> Any:
    """The JSON of an answer. Raises `AnswerTooLarge`, and `UnexpectedAnswer` for what is none."""
    try:
        return bounds.parse(content)
    except BeyondBounds as error:
        raise too_large(what, str(error)) from error
    except ValueError as error:
        said = excerpt(content[:1024].decode(errors="replace"), 80)
        raise Permanent("UnexpectedAnswer", f"{what}: not JSON but {said!r}") from error


@contextlib.contextmanager
def understood(what: str) -> Iterator[None]:
    """While an answer's values are taken apart: those of other types than we know are `UnexpectedAnswer`."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        message = f"{what}: the answer's values are not what they should be ({type(error).__name__})"
        raise Permanent("UnexpectedAnswer", message) from error


def too_large(what: str, how: str) -> Permanent:
    return Permanent("AnswerTooLarge", f"{what}: the answer is larger than any that is right: {how}")


@cache
def memory_bytes() -> int:
    """What this process may use: the limit of its container, else the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            return min(machine, int(path.read_text()))
    return machine


def document_bounds(memory: int | None = None) -> JsonBounds:
    """Of one document in a store, or one message of Weaviate, that is read whole by an agent with that memory."""
    memory = memory_bytes() if memory is None else memory
    size_bytes = min(max(memory // DOCUMENT_SHARE, LEAST_BYTES), MOST_BYTES)
    return JsonBounds(size_bytes, max(memory // VALUE_BYTES, 100_000))
