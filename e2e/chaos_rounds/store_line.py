"""A line to the store that can be slow, cut, silent or answered with 503: a TCP proxy in a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

BLOCK_BYTES = 16 * 1024
CUT_AFTER_BYTES = 48 * 1024
"""What passes on a connection before it is cut."""
BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
THROUGH, CUT, SILENT, ANSWERS_503 = "through", "cut", "silent", "503"


@dataclass
class StoreLine:
    """`mode` and `bytes_per_second` may change while it runs; 0 bytes per second let everything through."""

    target: tuple[str, int]
    bytes_per_second: int = 0
    port: int = 0
    _mode: str = THROUGH
    _free_at: float = 0.0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop | None = None

    def set_mode(self, mode: str) -> None:
        """Connections that are open when it changes end there, but for those that fall silent."""
        self._mode = mode
        if mode in (CUT, ANSWERS_503) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_all)

    async def serve(self, host: str, ready: threading.Event, stop: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
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
            if self._mode == ANSWERS_503:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(BUSY)
                await writer.drain()
                return
            up_reader, up_writer = await asyncio.open_connection(*self.target)
            await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # either side is gone; the other learns it by its closed socket
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed_bytes = 0
        try:
            while block := await reader.read(BLOCK_BYTES):
                while self._mode == SILENT:  # noqa: ASYNC110 - the mode is set by another thread
                    await asyncio.sleep(0.1)
                passed_bytes += len(block)
                if self._mode == CUT and passed_bytes > CUT_AFTER_BYTES:
                    raise ConnectionAbortedError
                await self._pace(len(block))
                writer.write(block)
                await writer.drain()
        finally:
            writer.close()

    async def _pace(self, size_bytes: int) -> None:
        """One budget for all connections: each block waits for those before it."""
        if not self.bytes_per_second:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size_bytes / self.bytes_per_second
        await asyncio.sleep(self._free_at - now)


@contextmanager
def store_line(host: str, target: tuple[str, int]) -> Iterator[StoreLine]:
    """Runs on a free port of `host`."""
    line = StoreLine(target)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        loop.run_until_complete(line.serve(host, ready, stop))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10), "the line did not start"
    try:
        yield line
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
