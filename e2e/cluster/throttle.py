"""A TCP proxy before a store that lets only so many bytes through in a second, and counts them. Real sockets.

It gives tests the time to kill something in the middle of a transfer, and the truth about how much was sent.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

BLOCK_BYTES = 16 * 1024


@dataclass
class Throttle:
    """`bytes_per_second` may be changed while it runs; 0 lets everything through. Counters are of all connections."""

    target: tuple[str, int]
    bytes_per_second: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    port: int = 0
    _free_at: float = 0.0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, host: str, ready: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._accept, host, 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        self._end_all()

    def _end_all(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # either side is gone; the other learns it by its closed socket
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self.target)
        await asyncio.gather(self._pump(reader, up_writer, up=True), self._pump(up_reader, writer, up=False))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        passed_bytes = 0
        try:
            while block := await reader.read(BLOCK_BYTES):
                passed_bytes += len(block)
                await self._admit(passed_bytes)
                await self._pace(len(block))
                if up:
                    self.bytes_up += len(block)
                else:
                    self.bytes_down += len(block)
                writer.write(block)
                await writer.drain()
        finally:
            writer.close()

    async def _admit(self, passed_bytes: int) -> None:
        """Before a block goes on: so many bytes of its connection will have passed in that direction."""

    async def _pace(self, size_bytes: int) -> None:
        """One budget for all connections: each block waits for those before it."""
        if not self.bytes_per_second:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size_bytes / self.bytes_per_second
        await asyncio.sleep(self._free_at - now)


AnyThrottle = TypeVar("AnyThrottle", bound=Throttle)


@contextmanager
def running(throttle: AnyThrottle, host: str) -> Iterator[AnyThrottle]:
    """In a thread of its own, on a free port of `host`."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        loop.run_until_complete(throttle.serve(host, ready, stop))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10), "the proxy did not start"
    try:
        yield throttle
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


@contextmanager
def throttled(host: str, target: tuple[str, int], *, bytes_per_second: int) -> Iterator[Throttle]:
    """Runs on a free port of `host`."""
    with running(Throttle(target, bytes_per_second), host) as throttle:
        yield throttle
