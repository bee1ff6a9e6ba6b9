"""A server that somebody points a location at: it writes down what it is sent, and gives what it was told to."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.storage.authority import Authority


@dataclass(frozen=True)
class Sent:
    """One request: `line` is method and path with query; names of headers in lower case."""

    line: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Listener:
    """`status` and `answers` are what everybody gets."""

    url: str = ""
    status: int = 403
    answers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: list[Sent] = field(default_factory=list)

    @property
    def everything(self) -> str:
        """All that it has learned, as text."""
        return repr(self.sent)


@contextmanager
def listening(authority: Authority | None = None, directory: Path | None = None) -> Iterator[Listener]:
    """On loopback; with TLS when there is an authority, whose files go into the directory."""
    made = Listener()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.sent.append(Sent(f"{self.command} {self.path}", headers, body))
            self.send_response(made.status)
            for name, value in {**made.answers, "Content-Length": str(len(made.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(made.body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 (the names are http.server's)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True  # a client may keep its connection
    if authority is not None:
        assert directory is not None
        server.socket = authority.server_context(directory).wrap_socket(server.socket, server_side=True)
    made.url = f"{'https' if authority else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
