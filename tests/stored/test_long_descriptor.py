"""A descriptor of our own is read without the names of files, in memory that does not grow with them."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.descriptors import (
    ClassDescriptor,
    NodeDescriptor,
    ShardDescriptor,
    encode,
    encode_in_pieces,
    parse_node_descriptor,
)
from weaviate_backup.layout.json_bounds import DEPTH, JsonBounds
from weaviate_backup.layout.manifests import StoredDocument
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.stored import long_descriptor
from weaviate_backup.stored.long_descriptor import LongDescriptor, read_long_descriptor
from weaviate_backup.stored.storing import Budget

KEY = "b/n0/backup.json"
HEAD = NodeDescriptor.model_validate({"startedAt": "2026-05-01T10:00:00Z", "id": "b", "serverVersion": "1.39.1"})
SHARDS = (
    ShardDescriptor(name="s0", node="n0", files=("article/s0/version", "article/s0/late-writes")),
    ShardDescriptor(name="s1", node="n0", files=("article/s1/version",)),
    ShardDescriptor(name="s2", node="n0"),
)
ARTICLE = ClassDescriptor(
    name="Article",
    backup_id="b",
    sharding_state=b'{"physical":{}}',
    class_json=b'{"class":"Article"}',
    chunks={"1": ("s0", "s1"), "2": ("s1",)},
    pre_compression_size_bytes=7,
)
EMPTY = ClassDescriptor(name="Empty", sharding_state=b"{}", class_json=b"{}")


def whole() -> NodeDescriptor:
    return HEAD.model_copy(update={"classes": (ARTICLE.model_copy(update={"shards": SHARDS}), EMPTY)})


def read(directory: Path, content: bytes, *, budget: Budget | None = None) -> LongDescriptor:
    path = directory / KEY
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    expected = StoredDocument.of(content)
    return read_long_descriptor(FilesystemStore(directory), KEY, expected=expected, budget=budget or Budget())


def test_what_is_written_in_pieces_is_what_is_written_at_once() -> None:
    pieces = encode_in_pieces(HEAD, [(ARTICLE, SHARDS), (EMPTY, ())])
    assert b"".join(pieces) == encode(whole())
    assert b"".join(encode_in_pieces(HEAD, [])) == encode(HEAD)


def test_all_but_the_files_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_descriptor, "LATE_WRITES", "late-writes")
    found = read(tmp_path, encode(whole()))
    expected = parse_node_descriptor(encode(whole()), key=KEY)
    assert found.late == {"Article": {"s0"}, "Empty": set()}
    for here, there in zip(found.descriptor.classes, expected.classes, strict=True):
        assert set(here.shard_names) == {shard.name for shard in there.shards}
        assert here.chunk_numbers == there.chunk_numbers
        bare: dict[str, Any] = {"shards": (), "chunks": {}}
        assert here.model_copy(update=bare).model_dump() == there.model_copy(update=bare).model_dump()
    bare = {"classes": ()}
    assert found.descriptor.model_copy(update=bare) == expected.model_copy(update=bare)


def many_files(count: int) -> Iterator[bytes]:
    names = tuple(f"article/s0/lsm/objects/segment-{number:019}.db" for number in range(1000))
    shards = (ShardDescriptor(name=f"s{number}", node="n0", files=names) for number in range(count // len(names)))
    return encode_in_pieces(HEAD, [(ARTICLE, shards)])


def test_its_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    def peak_bytes(count: int) -> int:
        content = b"".join(many_files(count))
        tracemalloc.start()
        assert len(read(tmp_path, content).descriptor.classes[0].shard_names) == count // 1000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few = peak_bytes(2000)
    assert peak_bytes(40_000) < few + 200_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "HostileBackup"),
        (b"[]", "HostileBackup"),
        (b'{"classes":', "HostileBackup"),
        (b'{"classes.item.shards":[{"name":"s"}]}', "HostileBackup"),
        (b'{"classes":[{"name":"A"}],"classes":[]}', "HostileBackup"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "HostileBackup"),
        (b'{"classes":[{"shards":[{"name":"../x"}]}]}', "UnsafeName"),
        (b'{"id":"' + b"x" * 3000 + b'"}', "DocumentTooLarge"),
        (b'{"id":' + b"1" * 3000 + b"}", "DocumentTooLarge"),
        (json.dumps({"a": ["x"] * 900}).encode(), "DocumentTooLarge"),
    ],
)
def test_what_is_none_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    budget = Budget()
    budget.take_values(0, budget._bytes - 500_000, what="others")
    monkeypatch.setattr(long_descriptor, "PARSED_BYTES", 500)
    monkeypatch.setattr(long_descriptor, "document_bounds", lambda: JsonBounds(2000, 100))
    with pytest.raises(Permanent) as refused:
        read(tmp_path, content, budget=budget)
    assert refused.value.reason == reason
    assert len(refused.value.message) < 400


def test_the_field_that_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"HostileBackup: .* is no descriptor of Weaviate: startedAt: Field required"):
        read(tmp_path, b'{"id":"b","serverVersion":"1"}')


def test_how_deep_values_lie_is_bounded(tmp_path: Path) -> None:
    """Where nobody looks at them, too."""
    for depth, refused in ((DEPTH - 1, False), (DEPTH, True)):
        content = encode(whole())[:-1] + b',"unknown":' + b"[" * depth + b"]" * depth + b"}"
        if refused:
            with pytest.raises(Permanent, match=f"HostileBackup: .* more than {DEPTH} levels of values in values"):
                read(tmp_path, content)
        else:
            assert read(tmp_path, content).descriptor.id == "b"


@pytest.mark.parametrize("content", [encode(whole()), b'{"classes":'], ids=["another", "broken"])
def test_another_than_was_written_is_damaged_whatever_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(Permanent, match=r"BackupDamaged: b/n0/backup\.json is not what was written"):
        read_long_descriptor(FilesystemStore(tmp_path), KEY, expected=StoredDocument.of(b"x"), budget=Budget())
