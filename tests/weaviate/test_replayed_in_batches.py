"""A replay looks at what it is about to write shortly before: what the application writes meanwhile is not lost."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.places import place_of

from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.late_writes import MAGIC, Write, encode, replay

OBJECTS = 150
BEFORE, CAPTURED, WRITTEN_SINCE = 50, 100, 500


class Shard:
    """A server's, behind its data port: neither a deletion nor a put asks which is newer. With the first deletion the
    application writes another object."""

    def __init__(self, objects: list[str]) -> None:
        self.objects: dict[str, tuple[int, str]] = dict.fromkeys(objects, (BEFORE, "before"))
        self.written_meanwhile: str | None = objects[-1]

    async def __aenter__(self) -> "Shard":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def send(self, method: str, url: str, *, reason: str, body: bytes = b"") -> bytes:
        if method == "GET":
            rows = [{"ID": each, "UpdateTime": self.objects.get(each, (0,))[0]} for each in json.loads(body)]
            return json.dumps(rows).encode()
        if method == "DELETE":
            if self.written_meanwhile:
                self.objects[self.written_meanwhile] = (WRITTEN_SINCE, "by the application")
                self.written_meanwhile = None
            self.objects.pop(url.split("/")[-2], None)
            return b""
        at = 0
        while at < len(body):
            length = int.from_bytes(body[at : at + 8], "little")
            identifier = body[at + 8 : at + 8 + length].decode()
            self.objects[identifier] = (CAPTURED, "captured")
            at += 8 + length
        return b"[]"


def test_what_is_written_while_others_are_replayed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = [str(UUID(int=number)) for number in range(1, OBJECTS + 1)]
    captured = tmp_path / late_writes.LATE_WRITES
    writes = (encode(Write(UUID(each), CAPTURED, each.encode())) for each in objects)
    captured.write_bytes(MAGIC + b"".join(writes))
    shard = Shard(objects)
    server: Any = lambda *_, **__: shard  # noqa: E731
    monkeypatch.setattr(late_writes, "open_data_port", server)
    touched = asyncio.run(replay("h", 1, collection="C", shard="s", captured=place_of(tmp_path) / captured.name))
    assert touched == OBJECTS - 1
    assert shard.objects.pop(objects[-1]) == (WRITTEN_SINCE, "by the application")
    assert set(shard.objects.values()) == {(CAPTURED, "captured")}
