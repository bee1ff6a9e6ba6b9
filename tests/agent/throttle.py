"""A slow line to a store that counts what is sent: so that a test can kill an agent in the middle of an upload."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

BLOCK_BYTES = 16 << 10


@dataclass
class Line:
    """`sent_bytes` went from clients to the server, headers included."""

    address: str
    bytes_per_second: float
    sent_bytes: int = 0


@asynccontextmanager
async def slow_line(target: str, *, bytes_per_second: float) -> AsyncIterator[Line]:
    host, _, port = target.rpartition(":")
    line = Line("", bytes_per_second)
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        try:
            while block := await reader.read(BLOCK_BYTES):
                if counted:
                    line.sent_bytes += len(block)
                    await asyncio.sleep(len(block) / line.bytes_per_second)
                writer.write(block)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        writers.append(there_writer)
        await asyncio.gather(forward(reader, there_writer, counted=True), forward(there_reader, writer, counted=False))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.create_task(connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    line.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            with contextlib.suppress(AttributeError):  # of one that is closed by now, which has no loop any more
                writer.transport.abort()  # what it still holds would keep its socket open
        await asyncio.sleep(0.05)
