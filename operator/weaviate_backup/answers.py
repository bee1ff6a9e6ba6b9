"""What others answer, read with bounds: every HTTP answer passes here, and every JSON that somebody else wrote.

Whoever is asked may be hostile: a tenant's StatefulSet that calls itself Weaviate, a pod that was taken over, a bucket
that anybody may write to. So an answer has a size, also unpacked (nothing is asked for packed, and what comes packed is
refused), a number of values and a depth, and all of it must have come within one time, however it drips. Nobody is sent
elsewhere: a redirect is an answer like any other.

Bounds of one answer do not bound many at once. What is small is read at any time; for more of it everybody waits for a
turn, so that large answers are never in memory together. Memory itself is the measure of what an agent reads whole.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp

from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout.json_bounds import BeyondBounds, JsonBounds

KIB, MIB = 1 << 10, 1 << 20
FREE_BYTES = 256 * KIB
"""Of an answer that need not wait for a turn."""
TURNS = 2
TURN_SECONDS = 10.0
"""So long a large answer may take once its turn has come: who drips does not keep others waiting."""
FEW = JsonBounds(64 * KIB, 1_000)
SOME = JsonBounds(MIB, 20_000)
MANY = JsonBounds(16 * MIB, 400_000)
"""Of a thousand collections, or a hundred thousand tenants: 48 MiB of values at most."""
REPORT = JsonBounds(4 * MIB, 100_000)
OBJECTS = JsonBounds(32 * MIB, 1_000_000)
"""Of the API server, which tells the truth, but of objects that anybody may have made."""
DOCUMENT_SHARE, VALUE_BYTES = 8, 640
"""The bytes of a document may take an eighth of memory; a value of it takes at most 220 bytes as we keep it, with what
it was parsed from 320: so half of memory is the most of all of them."""
LEAST_BYTES, MOST_BYTES = 32 * MIB, 1024 * MIB
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


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
    *,
    what: str,
    limit_bytes: int,
    total_seconds: float,
    **options: Any,
) -> Answer:
    """Ask and read the whole answer within that time. `what` names the call.

    Raises `AnswerTooLarge`, `UnexpectedAnswer`, and what the client raises: `TimeoutError`, `aiohttp.ClientError`.
    """
    async with (
        asyncio.timeout(total_seconds),
        session.request(method, url, allow_redirects=False, **options) as response,
    ):
        return Answer(response.status, await read(response, what=what, limit_bytes=limit_bytes))


async def read(response: aiohttp.ClientResponse, *, what: str, limit_bytes: int) -> bytes:
    """The body, as it was sent. Raises as `ask`."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise Permanent("UnexpectedAnswer", f"{what}: the answer is packed ({excerpt(encoding, 40)}), unasked")
    if (response.content_length or 0) > limit_bytes:
        raise too_large(what, f"{response.content_length} bytes are announced, more than {limit_bytes}")
    found = bytearray()
    async with contextlib.AsyncExitStack() as turn:
        waits = True
        async for block in response.content.iter_any():
            if len(found) + len(block) > limit_bytes:
                raise too_large(what, f"more than {limit_bytes} bytes")
            found += block
            if waits and len(found) > FREE_BYTES:
                await turn.enter_async_context(turn_of_large())
                waits = False
    return bytes(found)


@contextlib.asynccontextmanager
async def turn_of_large() -> AsyncIterator[None]:
    """While it lasts, few others hold a large answer. Raises `TimeoutError` when it lasts too long."""
    loop = asyncio.get_running_loop()
    turns = _turns.setdefault(loop, asyncio.Semaphore(TURNS))
    async with turns, asyncio.timeout(TURN_SECONDS):
        yield


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
