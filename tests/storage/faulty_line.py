"""A line to a real store that fails on request: an HTTP proxy with rules, in a thread of its own.

A rule says which requests it fits and what happens to them, once or always. Everything else passes untouched, with its
signature, streamed in both directions.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
import yarl
from aiohttp import web
from tests.storage.faults import Answer, Drip, Edit, Fault, Flip, HangUp, Header, Headers, Moment, Request, Silence

BLOCK_BYTES = 64 << 10
RECEIVE_BYTES = 256 << 10
"""What the kernel takes for a line that is silent; by default a whole part disappears there."""
OF_ONE_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "expect"})

Fits = Callable[[Request], bool]


class Broken(Exception):
    """The client's connection was cut on purpose."""


@dataclass
class Rule:
    """`times`: None means for ever."""

    fits: Fits
    fault: Fault
    times: int | None = 1


@dataclass
class Line:
    """`requests` are all that came, in order; `used` counts the faults among them.

    `mix`, asked when no rule fits, may give a fault of its own.
    """

    address: str = ""
    rules: list[Rule] = field(default_factory=list)
    mix: Callable[[Request], Fault | None] | None = None
    requests: list[Request] = field(default_factory=list)
    used: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, fits: Fits, fault: Fault, *, times: int | None = 1) -> None:
        with self.lock:
            self.rules.append(Rule(fits, fault, times))

    def heal(self) -> None:
        """No rules, no history."""
        with self.lock:
            self.rules.clear()
            self.requests.clear()
            self.mix, self.used = None, 0

    def take(self, request: Request) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            fault = self._by_rule(request) or (self.mix(request) if self.mix else None)
            self.used += fault is not None
            return fault

    def _by_rule(self, request: Request) -> Fault | None:
        for rule in self.rules:
            if rule.times != 0 and rule.fits(request):
                if rule.times is not None:
                    rule.times -= 1
                return rule.fault
        return None


@contextmanager
def faulty_line(
    target: str, *, tls: ssl.SSLContext | None = None, target_tls: ssl.SSLContext | None = None
) -> Iterator[Line]:
    """A line to the server at `host:port`. With `tls` its near end speaks that, with `target_tls` its far end."""
    line, loop = Line(), asyncio.new_event_loop()
    stop, ready = asyncio.Event(), threading.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(_serve(line, target, ready, stop, tls, target_tls))
    )
    thread.start()
    assert ready.wait(10), "the line does not listen"
    try:
        yield line
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _serve(  # noqa: PLR0917 (of this module alone)
    line: Line,
    target: str,
    ready: threading.Event,
    stop: asyncio.Event,
    tls: ssl.SSLContext | None,
    target_tls: ssl.SSLContext | None,
) -> None:
    connector = aiohttp.TCPConnector(limit=0, ssl=target_tls or True)
    target = f"{'https' if target_tls else 'http'}://{target}"
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
    ) as session:
        transports: set[asyncio.BaseTransport] = set()

        async def handle(received: web.BaseRequest) -> web.StreamResponse:
            if received.transport is not None:
                transports.add(received.transport)
            headers = {name.lower(): value for name, value in received.headers.items()}
            fault = line.take(Request(received.method, received.raw_path, headers))
            return await _Exchange(line, target, session, received, fault).run()

        runner = web.ServerRunner(web.Server(handle, access_log=None, auto_decompress=False), shutdown_timeout=0.1)
        await runner.setup()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        listener.bind(("127.0.0.1", 0))
        await web.SockSite(runner, listener, ssl_context=tls).start()
        line.address = f"127.0.0.1:{listener.getsockname()[1]}"
        ready.set()
        await stop.wait()
        await runner.cleanup()
        for transport in transports:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()  # what nobody took would keep it open
        # Connections end in the background, those of TLS later; the loop must not be gone by then.
        await asyncio.sleep(0.5 if tls or target_tls else 0.1)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, line: Line, target: str, session: aiohttp.ClientSession, received: web.BaseRequest, fault: Fault | None
    ) -> None:
        self._line, self._target, self._session = line, target, session
        self._received, self._fault = received, fault

    async def run(self) -> web.StreamResponse:
        if self._received.headers.get("Expect", "").lower() == "100-continue" and self._received.transport:
            self._received.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            if isinstance(self._fault, Answer) and not self._fault.done:
                async for _ in self._received.content.iter_chunked(BLOCK_BYTES):
                    pass
                return self._made_up(self._fault)
            await self._strike(Moment.BEFORE)
            async with self._forwarded() as answer:
                if isinstance(self._fault, Answer):
                    await answer.read()
                    return self._made_up(self._fault)
                await self._strike(Moment.DONE)
                return await self._pass_on(answer)
        except (Broken, aiohttp.ClientError, ConnectionError):
            self._cut(reset=not isinstance(self._fault, HangUp) or self._fault.reset)
            return web.Response()  # to nobody

    async def _strike(self, moment: Moment) -> None:
        match self._fault:
            case HangUp(at=at) if at is moment:
                raise Broken
            case Silence(at=at, seconds=seconds) if at is moment:
                await asyncio.sleep(seconds)

    def _forwarded(self) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        received = self._received
        headers = [(name, value) for name, value in received.headers.items() if name.lower() not in OF_ONE_HOP]
        skipped = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
        return self._session.request(
            received.method,
            yarl.URL(f"{self._target}{received.raw_path}", encoded=True),
            headers=headers,
            skip_auto_headers=skipped,
            data=self._stream(received.content, Moment.SENDING) if received.body_exists else None,
            allow_redirects=False,
        )

    async def _pass_on(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in answer.headers.items():
            if name.lower() == "location":
                value = value.replace(self._target.partition("://")[2], self._line.address)  # noqa: PLW2901
            if name.lower() not in OF_ONE_HOP:
                response.headers.add(name, value)
        if isinstance(self._fault, Header) and self._fault.name in response.headers:
            del response.headers[self._fault.name]
            if self._fault.value is not None:
                response.headers[self._fault.name] = self._fault.value
        if isinstance(self._fault, Headers):
            for name, said in self._fault.said.items():
                response.headers.popall(name, None)
                if said is not None:
                    response.headers[name] = said
        if isinstance(self._fault, Edit):
            content = self._fault.edit(await answer.read())
            return web.Response(status=answer.status, headers=_without_length(response.headers), body=content)
        await response.prepare(self._received)
        if self._received.method != "HEAD":
            async for block in self._stream(answer.content, Moment.RECEIVING):
                await response.write(block)
        await response.write_eof()
        return response

    async def _stream(self, source: aiohttp.StreamReader, moment: Moment) -> AsyncIterator[bytes]:
        fault, passed_bytes = self._fault, 0
        struck = isinstance(fault, HangUp | Silence | Flip) and fault.at is moment
        async for block in source.iter_chunked(BLOCK_BYTES):
            if isinstance(fault, Drip):
                await asyncio.sleep(fault.seconds_per_mib * len(block) / (1 << 20))
            ends = passed_bytes + len(block)
            if struck and isinstance(fault, HangUp | Silence | Flip) and passed_bytes <= fault.after_bytes < ends:
                at = fault.after_bytes - passed_bytes
                if isinstance(fault, Flip):
                    yield block[:at] + bytes((block[at] ^ 1,)) + block[at + 1 :]
                else:
                    yield block[:at]
                    await asyncio.sleep(0.01)  # what was passed on arrives before the line breaks
                    await self._strike(moment)
                    yield block[at:]
            else:
                yield block
            passed_bytes = ends

    def _made_up(self, answer: Answer) -> web.Response:
        return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)

    def _cut(self, *, reset: bool) -> None:
        transport = self._received.transport
        if transport is None:
            return
        if not reset:
            transport.close()
            return
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def _without_length(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() != "content-length"}
