"""The proxy that scenarios put before a store: it passes everything on, no faster than it was told, and counts it."""

import socket
import threading
import time

from e2e.cluster.throttle import throttled

SIZE = 400_000


def echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while block := connection.recv(65536):
            connection.sendall(block)


def carry(bytes_per_second: int) -> tuple[float, int, int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=echo, args=(listener,), daemon=True)
        thread.start()
        with throttled("127.0.0.1", listener.getsockname()[:2], bytes_per_second=bytes_per_second) as throttle:
            started = time.monotonic()
            with socket.create_connection(("127.0.0.1", throttle.port)) as client:
                sender = threading.Thread(target=client.sendall, args=(bytes(SIZE),), daemon=True)
                sender.start()
                received = 0
                while received < SIZE:
                    received += len(client.recv(65536))
                sender.join()
            seconds = time.monotonic() - started
        thread.join(5)
        return seconds, throttle.bytes_up, throttle.bytes_down


def test_it_passes_everything_on_and_counts_it() -> None:
    _, up, down = carry(0)
    assert (up, down) == (SIZE, SIZE)


def test_it_holds_its_rate_over_both_directions() -> None:
    seconds, _, _ = carry(800_000)
    assert seconds > 0.9 * 2 * SIZE / 800_000
