"""One load on a store, alone in its process so that its memory is its own: our store, or the plainest client there is.

Reads a `Load` as JSON from standard input, prints a `Measured` as JSON. Started by `store_throughput`.
"""

import hashlib
import http.client
import json
import os
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
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
class PlainObject:
    """An object in one request; or in parts of `part_bytes`, and the request that makes an object of them: `{0}` in its
    body is the ETag that the first part got, and so on. `tells_md5`: of every part, known before the clock starts."""

    parts: tuple[PlainRequest, ...]
    part_bytes: int | None = None
    end: PlainRequest | None = None
    end_body: str = ""
    tells_md5: bool = False


@dataclass(frozen=True)
class Load:
    """`plain` are the objects of the plain client, in the order of `keys`; empty: ours, or plain files."""

    who: Literal["ours", "plain", "parts"]
    verb: Literal["put", "get"]
    location: dict[str, Any]
    credentials: dict[str, str]
    root: str
    keys: tuple[str, ...]
    object_bytes: int
    at_once: int
    plain: tuple[PlainObject, ...] = ()


@dataclass(frozen=True)
class Measured:
    """Wall seconds of all objects, what they took of the processors, and the most memory that the process ever held."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


class Content:
    """Random bytes, the same for everybody; each object begins at another block. Every block is memory of its own, as
    what a compressor makes: whoever keeps it pays for it."""

    def __init__(self, object_bytes: int) -> None:
        seeded = Path("/dev/urandom").open("rb")  # noqa: SIM115
        with seeded:
            self._blocks = [seeded.read(BLOCK_BYTES) for _ in range(BLOCKS)]
        self._object_bytes = object_bytes

    def of(self, number: int, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        end = self._object_bytes if length is None else min(start + length, self._object_bytes)
        for at in range(start // BLOCK_BYTES, end // BLOCK_BYTES):
            yield bytes(memoryview(self._blocks[(number + at) % BLOCKS]))


Act = Callable[[], None]


def for_every_key(load: Load, act: Callable[[int], None]) -> list[Act]:
    return [partial(act, number) for number in range(len(load.keys))]


def ours(load: Load, content: Content) -> list[Act]:
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

    return for_every_key(load, put if load.verb == "put" else get)


def plain_http(load: Load, content: Content) -> list[Act]:
    """Sockets and nothing else: no checksum, no retry."""
    objects = [with_md5(of, content, number) if of.tells_md5 else of for number, of in enumerate(load.plain)]
    tags: list[dict[int, str]] = [{} for _ in objects]
    lock = threading.Lock()

    def act(number: int, part: int) -> None:
        of = objects[number]
        part_bytes = of.part_bytes or load.object_bytes
        body = content.of(number, part * part_bytes, part_bytes) if load.verb == "put" else None
        tag, found_bytes = exchanged(of.parts[part], body, part_bytes)
        assert body or found_bytes == load.object_bytes
        with lock:
            tags[number][part] = tag
            is_last = len(tags[number]) == len(of.parts)
        if is_last and of.end:
            end_body = of.end_body.format(*(tags[number][each] for each in range(len(of.parts)))).encode()
            exchanged(of.end, iter((end_body,)), len(end_body))

    return [partial(act, number, part) for number, of in enumerate(objects) for part in range(len(of.parts))]


def with_md5(of: PlainObject, content: Content, number: int) -> PlainObject:
    """The same requests, each with the MD5 of its part."""
    assert of.part_bytes
    parts = []
    for part, request in enumerate(of.parts):
        md5 = hashlib.md5(usedforsecurity=False)
        for block in content.of(number, part * of.part_bytes, of.part_bytes):
            md5.update(block)
        headers = {**request.headers, "Content-MD5": b64encode(md5.digest()).decode()}
        parts.append(replace(request, headers=headers))
    return replace(of, parts=tuple(parts))


def exchanged(request: PlainRequest, body: Iterator[bytes] | None, body_bytes: int) -> tuple[str, int]:
    """The ETag of the answer, and how many bytes came."""
    url = urlsplit(request.url)
    assert url.hostname
    connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=600)
    length = {"Content-Length": str(body_bytes)} if body else {}
    connection.request(request.method, f"{url.path}?{url.query}", body, {**request.headers, **length})
    answer = connection.getresponse()
    found_bytes, buffer = 0, memoryview(bytearray(BLOCK_BYTES))
    while count := answer.readinto(buffer):
        found_bytes += count
    assert answer.status in (200, 201), (answer.status, bytes(buffer[:500]))
    connection.close()
    return answer.headers.get("ETag", ""), found_bytes


def plain_files(load: Load, content: Content) -> list[Act]:
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

    return for_every_key(load, put if load.verb == "put" else get)


def measure(load: Load) -> Measured:
    content = Content(load.object_bytes)
    acts = (ours if load.who == "ours" else plain_http if load.plain else plain_files)(load, content)
    started, cpu_started = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(load.at_once) as pool:
        list(pool.map(lambda act: act(), acts))
    return Measured(time.monotonic() - started, time.process_time() - cpu_started, peak_bytes())


def peak_bytes() -> int:
    """Resident, since the process began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    from pydantic import TypeAdapter

    load = TypeAdapter(Load).validate_json(sys.stdin.read())
    print(json.dumps(asdict(measure(load))))


if __name__ == "__main__":
    main()
