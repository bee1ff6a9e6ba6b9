"""A line to the store that can be slow, cut, silent or answered with 503."""

import asyncio
import threading
from dataclasses import dataclass

from e2e.cluster.throttle import Throttle

CUT_AFTER_BYTES = 48 * 1024
"""What passes on a connection before it is cut."""
BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
THROUGH, CUT, SILENT, ANSWERS_503 = "through", "cut", "silent", "503"


@dataclass
class StoreLine(Throttle):
    """Its mode may change while it runs, too."""

    _mode: str = THROUGH
    _loop: asyncio.AbstractEventLoop | None = None

    def set_mode(self, mode: str) -> None:
        """Connections that are open when it changes end there, but for those that fall silent."""
        self._mode = mode
        if mode in (CUT, ANSWERS_503) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_all)

    async def serve(self, host: str, ready: threading.Event, stop: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(host, ready, stop)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode != ANSWERS_503:
            await super()._connect(reader, writer)
            return
        await reader.readuntil(b"\r\n\r\n")
        writer.write(BUSY)
        await writer.drain()

    async def _admit(self, passed_bytes: int) -> None:
        while self._mode == SILENT:  # noqa: ASYNC110 - the mode is set by another thread
            await asyncio.sleep(0.1)
        if self._mode == CUT and passed_bytes > CUT_AFTER_BYTES:
            raise ConnectionAbortedError
