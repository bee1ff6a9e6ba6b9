"""A line to a real S3 server that fails on request: answers an error, or hangs up in the middle of a body.

Each fault is used once, by the first request it fits. Everything else passes untouched, signatures included.
"""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Fits = Callable[[str, str, dict[str, str]], bool]
"""Of a request: method, path with query, headers in lower case."""


@dataclass(frozen=True)
class Answer:
    """An error in S3's own form."""

    status: int
    code: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class HangUp:
    """The true answer, but the line breaks after so many bytes of its body."""

    after_bytes: int


@dataclass
class Line:
    """`faults`: (fits method and path with its headers, what happens). `requests` are all that came, in order."""

    address: str = ""
    faults: list[tuple[Fits, Answer | HangUp]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, fits: Fits, fault: Answer | HangUp, *, times: int = 1) -> None:
        self.faults.extend([(fits, fault)] * times)

    def take(self, method: str, path: str, headers: dict[str, str]) -> Answer | HangUp | None:
        with self.lock:
            self.requests.append((method, path))
            for index, (fits, fault) in enumerate(self.faults):
                if fits(method, path, headers):
                    del self.faults[index]
                    return fault
        return None


@contextmanager
def faulty_line(target: str) -> Iterator[Line]:
    line = Line()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            fault = line.take(self.command, self.path, headers)
            if isinstance(fault, Answer):
                self._send(fault.status, fault.headers, f"<Error><Code>{fault.code}</Code></Error>".encode())
                return
            connection = http.client.HTTPConnection(target, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            length = answer.getheader("Content-Length") or str(len(content))
            kept = [
                (name, value)
                for name, value in answer.getheaders()
                if name.lower() not in ("content-length", "transfer-encoding", "connection")
            ]
            connection.close()
            cut = fault.after_bytes if isinstance(fault, HangUp) else None
            self._send(answer.status, kept, content[:cut], length=length)
            if cut is not None:
                self.close_connection = True

        def _send(
            self, status: int, headers: list[tuple[str, str]] | tuple[tuple[str, str], ...], content: bytes,
            *, length: str | None = None,
        ) -> None:  # fmt: skip
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    line.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield line
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
