"""One load on a store, alone in its process so that its memory is its own: our store, or the plainest client there is.

Reads a `Load` as JSON from standard input, prints a `Measured` as JSON. Started by `store_throughput`.
"""

import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

BLOCK_BYTES = 1 << 20
BLOCKS = 48


@dataclass(frozen=True)
class PlainRequest:
    """All that a client without any library needs to know: signatures are in the URL."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """`plain` are the requests of the plain client, in the order of `keys`; empty: ours, or plain files."""

    who: Literal["ours", "plain"]
    verb: Literal["put", "get"]
    location: dict[str, Any]
    credentials: dict[str, str]
    root: str
    keys: tuple[str, ...]
    object_bytes: int
    at_once: int
    plain: tuple[PlainRequest, ...] = ()


@dataclass(frozen=True)
class Measured:
    """Wall seconds of all objects, and the most memory that the process ever held."""

    seconds: float
    peak_bytes: int


class Content:
    """Random bytes, the same for everybody; each object begins at another block."""

    def __init__(self, object_bytes: int) -> None:
        seeded = Path("/dev/urandom").open("rb")  # noqa: SIM115
        with seeded:
            self._blocks = [seeded.read(BLOCK_BYTES) for _ in range(BLOCKS)]
        self._object_bytes = object_bytes

    def of(self, number: int) -> Iterator[bytes]:
        for at in range(self._object_bytes // BLOCK_BYTES):
            yield self._blocks[(number + at) % BLOCKS]


Act = Callable[[int], None]


def ours(load: Load, content: Content) -> Act:
    """As the agent uses it: written once, in blocks of about 1 MiB, read in such blocks."""
    from weaviate_backup.api.location import LocationSpec
    from weaviate_backup.storage.factory import open_store

    location = LocationSpec.model_validate(load.location)
    store = open_store(location, credentials=load.credentials, filesystem_root=Path(load.root))

    def put(number: int) -> None:
        stored = store.put(load.keys[number], lambda: content.of(number), if_absent=True)
        assert stored.size_bytes == load.object_bytes

    def get(number: int) -> None:
        found_bytes = 0
        with store.open(load.keys[number]) as stream:
            while block := stream.read(BLOCK_BYTES):
                found_bytes += len(block)
        assert found_bytes == load.object_bytes

    return put if load.verb == "put" else get


def plain_http(load: Load, content: Content) -> Act:
    """Sockets and nothing else: one request for each object, no checksum, no retry."""

    def act(number: int) -> None:
        request = load.plain[number]
        url = urlsplit(request.url)
        assert url.hostname
        connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=600)
        body = content.of(number) if load.verb == "put" else None
        length = {"Content-Length": str(load.object_bytes)} if body else {}
        connection.request(request.method, f"{url.path}?{url.query}", body, {**request.headers, **length})
        answer = connection.getresponse()
        found_bytes, buffer = 0, memoryview(bytearray(BLOCK_BYTES))
        while count := answer.readinto(buffer):
            found_bytes += count
        assert answer.status in (200, 201), (answer.status, bytes(buffer[:500]))
        assert body or found_bytes == load.object_bytes
        connection.close()

    return act


def plain_files(load: Load, content: Content) -> Act:
    """Written and synced, and read, without a name of its own first."""

    def put(number: int) -> None:
        path = Path(load.root) / load.keys[number]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb", buffering=0) as file:
            for block in content.of(number):
                file.write(block)
            os.fsync(file.fileno())

    def get(number: int) -> None:
        found_bytes, buffer = 0, bytearray(BLOCK_BYTES)
        with (Path(load.root) / load.keys[number]).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                found_bytes += count
        assert found_bytes == load.object_bytes

    return put if load.verb == "put" else get


def measure(load: Load) -> Measured:
    content = Content(load.object_bytes)
    act = (ours if load.who == "ours" else plain_http if load.plain else plain_files)(load, content)
    started = time.monotonic()
    with ThreadPoolExecutor(load.at_once) as pool:
        list(pool.map(act, range(len(load.keys))))
    return Measured(time.monotonic() - started, peak_bytes())


def peak_bytes() -> int:
    """Resident, since the process began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    given = json.load(sys.stdin)
    plain = tuple(PlainRequest(**each) for each in given.pop("plain"))
    print(json.dumps(asdict(measure(Load(**{**given, "keys": tuple(given["keys"])}, plain=plain)))))


if __name__ == "__main__":
    main()
