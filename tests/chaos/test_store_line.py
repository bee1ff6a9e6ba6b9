"""The line to the store does what a round asks of it, and is a plain line again afterwards."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from e2e.chaos_rounds.store_line import ANSWERS_503, CUT, CUT_AFTER_BYTES, SILENT, THROUGH, StoreLine
from e2e.cluster.throttle import running

MUCH = 4 * CUT_AFTER_BYTES


def echo(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):  # the line cuts it
        while block := connection.recv(65536):
            connection.sendall(block)


@pytest.fixture
def line() -> Iterator[StoreLine]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        with running(StoreLine(listener.getsockname()[:2]), "127.0.0.1") as line:
            yield line


def carried(line: StoreLine, size_bytes: int) -> int:
    """How many bytes came back before the connection ended, or went silent."""
    with socket.create_connection(("127.0.0.1", line.port), timeout=0.5) as client:
        return came_back(client, size_bytes)


def came_back(client: socket.socket, size_bytes: int) -> int:
    threading.Thread(target=pushed, args=(client, size_bytes), daemon=True).start()
    received = 0
    with contextlib.suppress(OSError):
        while received < size_bytes and (block := client.recv(65536)):
            received += len(block)
    return received


def pushed(client: socket.socket, size_bytes: int) -> None:
    with contextlib.suppress(OSError):
        client.sendall(bytes(size_bytes))


def test_it_passes_everything_and_counts_it(line: StoreLine) -> None:
    assert carried(line, MUCH) == MUCH == line.bytes_up == line.bytes_down


def test_a_cut_line_breaks_off_and_heals(line: StoreLine) -> None:
    line.set_mode(CUT)
    assert carried(line, MUCH) <= CUT_AFTER_BYTES
    assert carried(line, 100) == 100, "what is small passes"
    line.set_mode(THROUGH)
    assert carried(line, MUCH) == MUCH


def test_a_silent_line_keeps_its_connections(line: StoreLine) -> None:
    with socket.create_connection(("127.0.0.1", line.port), timeout=0.5) as client:
        assert came_back(client, 10) == 10
        line.set_mode(SILENT)
        assert came_back(client, 10) == 0
        line.set_mode(THROUGH)
        assert client.recv(100) == bytes(10), "what was held back comes"


@pytest.mark.parametrize("mode", [CUT, ANSWERS_503])
def test_open_connections_end(line: StoreLine, mode: str) -> None:
    with socket.create_connection(("127.0.0.1", line.port), timeout=5) as client:
        assert came_back(client, 10) == 10
        line.set_mode(mode)
        assert client.recv(10) == b""


def test_a_busy_store_is_answered_for(line: StoreLine) -> None:
    line.set_mode(ANSWERS_503)
    with socket.create_connection(("127.0.0.1", line.port), timeout=5) as client:
        client.sendall(b"PUT /key HTTP/1.1\r\nHost: store\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 503 Slow Down\r\n")
        assert client.recv(10) == b""
    assert line.bytes_up == 0
