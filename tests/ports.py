"""Ports of 127.0.0.1 for the servers that tests start.

They lie below those that Linux takes for outgoing connections (32768 and above, unless told otherwise): one of these
would now and then sit on a port between its being found and its server's listening there, and the server would end.
None is given twice by one process, and each process starts at a place of its own.
"""

import random
import socket
from collections.abc import Iterator
from itertools import chain, count

HOST = "127.0.0.1"
_FIRST, _END = 15_000, 32_000
_START = random.SystemRandom().randrange(_FIRST, _END)
_CANDIDATES: Iterator[int] = (port for _ in count() for port in chain(range(_START, _END), range(_FIRST, _START)))


def free_port() -> int:
    """One that nobody listens on."""
    return next(port for port in _CANDIDATES if _is_free(port))


def free_run(length: int) -> int:
    """The first of so many neighbours that nobody listens on."""
    first = last = free_port()
    while last != first + length - 1:
        port = free_port()
        first, last = (first if port == last + 1 else port), port
    return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
