"""A real HTTP server that answers everything with one trick: what whoever calls itself Weaviate, an agent, a store or
the API server can do to the one who asks."""

import contextlib
import itertools
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from tests.ports import HOST

MIB = 1 << 20
BOMB_MIB = 512
DRIP_SECONDS = 0.1
BLOCK = b"x" * (64 << 10)

Line = socket.socket
Trick = Callable[[Line, str], None]
"""Given the connection, after the head of a request, and the URL of a server that nobody should ask."""


@dataclass
class HostileServer:
    """Plays one trick on everybody, in threads. `requests` are the first lines that were sent."""

    trick: Trick
    trap_url: str = ""
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self._lines: list[Line] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for line in (self._listener, *self._lines):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            self._lines.append(line.dup())
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: Line) -> None:
        with contextlib.suppress(OSError, ValueError), line:
            line.settimeout(30)
            if self.tls is None:
                self._answer(line)
                return
            with self.tls.wrap_socket(line, server_side=True) as wrapped:
                self._answer(wrapped)

    def _answer(self, line: Line) -> None:
        """One request a connection."""
        head = b""
        while b"\r\n\r\n" not in head:
            block = line.recv(65536)
            if not block:
                return
            head += block
        self.requests.append(head.split(b"\r\n", 1)[0])
        _take_body(line, head)
        self.play(line, head)

    def play(self, line: Line, head: bytes) -> None:
        """What is answered to a request with that head."""
        self.trick(line, self.trap_url)


def _take_body(line: Line, head: bytes) -> None:
    lower = head.lower()
    if b"expect: 100-continue" in lower:
        line.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if b"content-length:" in lower:
        length = int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        left = length - len(head.split(b"\r\n\r\n", 1)[1])
        while left > 0 and (block := line.recv(min(left, 65536))):
            left -= len(block)


def head(status: str = "200 OK", *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "Connection: close", "", "")).encode()


def whole(body: bytes, *headers: str, status: str = "200 OK") -> Trick:
    """An answer as it should be, but for what it says."""

    def play(line: Line, _: str) -> None:
        line.sendall(head(status, f"Content-Length: {len(body)}", "Content-Type: application/json", *headers))
        line.sendall(body)

    return play


def endless(make: Callable[[], Iterator[bytes]], *, first: bytes = b"") -> Trick:
    """Until the other side has had enough."""

    def play(line: Line, _: str) -> None:
        line.sendall(first)
        for block in make():
            line.sendall(block)

    return play


def chunked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    return (b"%x\r\n%s\r\n" % (len(block), block) for block in blocks)


def dripping(first: bytes, drops: Sequence[bytes]) -> Trick:
    def play(line: Line, _: str) -> None:
        line.sendall(first)
        for drop in itertools.cycle(drops):
            time.sleep(DRIP_SECONDS)
            line.sendall(drop)

    return play


def redirect(status: str) -> Trick:
    def play(line: Line, trap: str) -> None:
        line.sendall(
            head(status, f"Location: {trap}/latest/meta-data/", "Content-Length: 0", "x-amz-bucket-region: eu")
        )

    return play


def bomb() -> bytes:
    """`BOMB_MIB` of nothing, in gzip."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([packer.compress(bytes(MIB)) for _ in range(BOMB_MIB)]) + packer.flush()


PACKED = bomb()
CHUNKED = head("200 OK", "Transfer-Encoding: chunked", "Content-Type: application/json")


def wide(size_bytes: int, unit: bytes = b"{},") -> bytes:
    return b"[" + unit * (size_bytes // len(unit)) + b"{}]"


TRICKS: dict[str, Trick] = {
    "gzip bomb": whole(PACKED, "Content-Encoding: gzip"),
    "deflate bomb": whole(zlib.compress(bytes(64 * MIB)), "Content-Encoding: deflate"),
    "unknown encoding": whole(PACKED, "Content-Encoding: br"),
    "deep JSON": whole(b"[" * 100_000 + b"]" * 100_000),
    "deep JSON of objects": whole(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "unclosed JSON": whole(b"[" * 200_000),
    "wide JSON": whole(wide(15 * MIB)),
    "wide JSON of little": whole(wide(60 << 10)),
    "endless body": endless(lambda: chunked(itertools.repeat(BLOCK)), first=CHUNKED),
    "endless body without a length": endless(lambda: itertools.repeat(BLOCK), first=head()),
    "announced EiB": endless(lambda: itertools.repeat(BLOCK), first=head("200 OK", f"Content-Length: {1 << 60}")),
    "dripping body": dripping(head("200 OK", "Content-Length: 100000"), [b" "]),
    "dripping chunks": dripping(CHUNKED, [b"1", b"\r\n", b" ", b"\r\n"]),
    "dripping head": dripping(b"HTTP/1.1 200 OK\r\nX: ", [b"a"]),
    "silence": lambda line, _: time.sleep(20),
    "redirect 301": redirect("301 Moved Permanently"),
    "redirect 302": redirect("302 Found"),
    "redirect 303": redirect("303 See Other"),
    "redirect 307": redirect("307 Temporary Redirect"),
    "redirect 308": redirect("308 Permanent Redirect"),
    "other content": whole(b"<html><body>hello</body></html>", "Content-Type: text/html"),
    "no text": whole(bytes(range(256)) * 4),
    "UTF-16": whole('{"version": "1"}'.encode("utf-16")),
    "huge header": endless(lambda: itertools.repeat(BLOCK), first=b"HTTP/1.1 200 OK\r\nX: "),
    "endless headers": endless(
        lambda: (b"X-%d: a\r\n" % number for number in itertools.count()), first=b"HTTP/1.1 200 OK\r\n"
    ),
    "endless status line": endless(lambda: itertools.repeat(BLOCK), first=b"HTTP/1.1 200 "),
    "endless informational answers": dripping(b"", [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100]),
    "upgrade": lambda line, _: line.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    ),
    "no HTTP": lambda line, _: line.sendall(b"SSH-2.0-OpenSSH_9.6\r\n" * 1000),
    "cut answer": lambda line, _: line.sendall(head("200 OK", "Content-Length: 100") + b'{"version":'),
    "a number": whole(b"1e999"),
    "a list of numbers": whole(b"[1, null, -1e999]"),
    "a string": whole(rb'"\ud800\u001b[2J\u202e"'),
    "other types": whole(
        rb'{"nodes": 5, "statistics": [{"name": "\ud800", "raft": {"appliedIndex": 1e999}}], "aliases": {"a": 1},'
        rb' "shards": [1], "classes": true, "version": ["\u001b]0;"], "modules": {"backup-s3": 1}, "status": {},'
        rb' "metadata": 7, "items": "x", "reason": "\u001b[31m", "message": ["\ud800"]}'
    ),
    "refusal that steers a terminal": whole(
        rb'{"reason": "A b", "message": "\u001b[2J"} ' + b"\x1b[2J\x07", status="418 X"
    ),
    "endless refusal": endless(
        lambda: chunked(itertools.repeat(BLOCK)), first=head("500 Broken", "Transfer-Encoding: chunked")
    ),
    "status 0": lambda line, _: line.sendall(head("000 Nothing", "Content-Length: 0")),
    "status 999": whole(b"{}", status="999 Everything"),
}


class Peak:
    """How much more memory the process took at most since it was made."""

    def __init__(self) -> None:
        with open("/proc/self/clear_refs", "w") as control:  # noqa: PTH123
            control.write("5")
        self._before = _high_water()

    @property
    def mib(self) -> int:
        return (_high_water() - self._before) >> 10


def _high_water() -> int:
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
