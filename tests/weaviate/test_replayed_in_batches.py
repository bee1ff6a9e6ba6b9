"""A replay looks at what it is about to write shortly before: what the application writes meanwhile is not lost."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.places import place_of

from weaviate_backup.errors import Transient
from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.late_writes import MAGIC, Begun, Write, encode, replay

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


class Remembering(Shard):
    """Of what is deleted it knows that it is, and never when, as a server that read it from a write-ahead log."""

    def __init__(self, objects: list[str], deleted: list[str]) -> None:
        super().__init__(objects)
        self.written_meanwhile = None
        self.deleted = set(deleted)
        self.fails_at = ""

    async def send(self, method: str, url: str, *, reason: str, body: bytes = b"") -> bytes:
        if method == "GET":
            known = {each: (self.objects.get(each, (0,))[0], each in self.deleted) for each in json.loads(body)}
            rows = [{"ID": each, "UpdateTime": time, "Deleted": deleted} for each, (time, deleted) in known.items()]
            return json.dumps(rows).encode()
        if method == "DELETE":
            self.deleted.add(url.split("/")[-2])
        elif self.fails_at and self.fails_at.encode() in body:
            raise Transient("ReplayFailed", "gone")
        else:
            self.deleted -= {each for each in self.deleted if each.encode() in body}
        return await super().send(method, url, reason=reason, body=body)


def test_only_what_a_replay_deleted_itself_comes_back_when_the_server_lost_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies in the second batch of eight; before another goes on, the application deletes one object of each."""
    objects = [str(UUID(int=number)) for number in range(1, 25)]
    captured = tmp_path / late_writes.LATE_WRITES
    captured.write_bytes(MAGIC + b"".join(encode(Write(UUID(each), CAPTURED, each.encode())) for each in objects))
    shard, told = Remembering(objects, deleted=[]), list[Begun]()
    shard.fails_at = objects[9]
    server: Any = lambda *_, **__: shard  # noqa: E731
    monkeypatch.setattr(late_writes, "open_data_port", server)

    def replayed(begun: Begun | None) -> int:
        place = place_of(tmp_path) / captured.name
        return asyncio.run(replay("h", 1, collection="C", shard="s", captured=place, begun=begun, tell=told.append))

    with pytest.raises(Transient, match="ReplayFailed"):
        replayed(None)
    assert told == [Begun(0, 8), Begun(8, 8)]
    assert set(objects) - set(shard.objects) == set(objects[8:16])
    shard.fails_at = ""
    for gone in (objects[0], objects[20]):
        shard.deleted.add(gone)
        del shard.objects[gone]
    assert replayed(told[-1]) == 15
    assert told[2:] == [Begun(8, 8), Begun(16, 8)]
    assert set(objects) - set(shard.objects) == {objects[0], objects[20]}


def test_smaller_batches_forget_nothing_of_a_larger_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another version may have them."""
    objects = [str(UUID(int=number)) for number in range(1, 9)]
    captured = tmp_path / late_writes.LATE_WRITES
    captured.write_bytes(MAGIC + b"".join(encode(Write(UUID(each), CAPTURED, each.encode())) for each in objects))
    shard, told = Remembering([*objects], deleted=objects), list[Begun]()
    shard.objects.clear()
    monkeypatch.setattr(late_writes, "BATCH_WRITES", 3)
    server: Any = lambda *_, **__: shard  # noqa: E731
    monkeypatch.setattr(late_writes, "open_data_port", server)
    place = place_of(tmp_path) / captured.name
    asyncio.run(replay("h", 1, collection="C", shard="s", captured=place, begun=Begun(0, 8), tell=told.append))
    assert told == [Begun(0, 8), Begun(3, 5), Begun(6, 2)]
    assert set(shard.objects) == set(objects)
