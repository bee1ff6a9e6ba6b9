"""VERIFY without a server: what counts is what the store gives back, down to the last byte of it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.agent.hand_frozen import COLLECTION, Node, shard_of
from tests.whole_manifest import NodeManifest, decode_node_manifest, encode_node_manifest

from weaviate_backup.agent.freeze import take_place
from weaviate_backup.agent.upload import _upload
from weaviate_backup.agent.verify import _verify, verify
from weaviate_backup.core.session import Step, StepCommand, Verified
from weaviate_backup.errors import Permanent
from weaviate_backup.stored.meter import Meter

CHUNK, DESCRIPTOR, MANIFEST = f"{COLLECTION}/chunk-1", "backup.json", "manifest.json.zst"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """One that has uploaded some chunks."""
    (tmp_path / "store").mkdir()
    shards = {f"s{number}": shard_of(str(number), size_bytes=2000) for number in range(3)}
    node = Node(tmp_path / "node", tmp_path / "store", "0b5f2c1e", shards, chunk_size_bytes=4096)
    node.freeze()
    workspace = node.workspace()
    with workspace.journal:
        take_place(workspace)
        assert _upload(workspace, (COLLECTION,), Meter()).objects > 3
    return node


def folder(node: Node) -> Path:
    return node.store / node.backup_id / node.name


def verified(node: Node, meter: Meter | None = None) -> Verified:
    workspace = node.workspace()
    with workspace.journal:
        return _verify(workspace, node.name, meter or Meter())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewritten(node: Node, change: Callable[[NodeManifest], NodeManifest]) -> None:
    place = folder(node) / MANIFEST
    place.write_bytes(encode_node_manifest(change(decode_node_manifest(place.read_bytes(), key="k"))))


def test_all_of_a_nodes_objects_are_counted_and_read(node: Node) -> None:
    meter = Meter()
    found = verified(node, meter)
    objects = {path: path.stat().st_size for path in folder(node).rglob("*") if path.is_file()}
    assert (found.node, found.objects, found.bytes_stored) == (node.name, len(objects), sum(objects.values()))
    done = meter.snapshot()
    chunks = [size for path, size in objects.items() if path.name.startswith("chunk-")]
    assert (done.bytes_done, done.bytes_total) == (sum(chunks), sum(chunks))
    assert (done.files_done, done.files_total) == (len(chunks), len(chunks))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda it: flip(it / CHUNK), r"Article/chunk-1 is not what was written"),
        (lambda it: (it / CHUNK).write_bytes((it / CHUNK).read_bytes()[:-1]), r"chunk-1"),
        (lambda it: (it / CHUNK).unlink(), r"chunk-1"),
        (lambda it: (it / "more").write_bytes(b""), r"more"),
        (lambda it: flip(it / DESCRIPTOR), r"backup.json is not what was written"),
        (lambda it: (it / DESCRIPTOR).unlink(), r"backup.json"),
        (lambda it: (it / MANIFEST).unlink(), r"manifest.json.zst is missing"),
    ],
    ids=[
        "one bit",
        "one byte less",
        "a chunk is gone",
        "one object more",
        "one bit of what Weaviate restores by",
        "that is gone",
        "our manifest is gone",
    ],
)
def test_what_is_not_what_was_written_is_found(node: Node, spoil: Callable[[Path], object], said: str) -> None:
    spoil(folder(node))
    with pytest.raises(Permanent, match=f"VerificationFailed: .*{said}"):
        verified(node)


@pytest.mark.parametrize("field", ["operation_uid", "backup_id", "node"])
def test_a_manifest_of_another_operation_backup_or_node_vouches_for_nothing(node: Node, field: str) -> None:
    rewritten(node, lambda it: replace(it, header=it.header.model_copy(update={field: "another"})))
    with pytest.raises(Permanent, match=r"VerificationFailed: .*was written by operation .*, not by this one"):
        verified(node)


def test_chunks_that_only_the_servers_document_names_are_missed(node: Node) -> None:
    """Both documents are whole, and what our manifest names is there: a server would look for one more."""
    rewritten(node, lambda it: replace(it, chunks=it.chunks[1:]))
    (folder(node) / CHUNK).unlink()
    with pytest.raises(Permanent, match=r"backup.json names other chunks than the manifest of weaviate-0"):
        verified(node)


def test_who_is_told_no_node_verifies_none(node: Node) -> None:
    workspace = node.workspace()
    with workspace.journal, pytest.raises(Permanent, match="InvalidRequest: verify needs verify_node"):
        asyncio.run(verify(workspace, StepCommand(operation_uid=node.uid, step=Step.VERIFY), Meter()))
