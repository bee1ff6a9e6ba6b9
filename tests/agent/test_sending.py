"""How chunks are sent: what lies there already is ours only byte for byte, and what is counted is what was done."""

import dataclasses
from pathlib import Path

import pytest
from tests.agent.hand_frozen import COLLECTION, Node, shard_of
from tests.agent.recorder import Recorder, recorder

from weaviate_backup.agent import chunk_sender
from weaviate_backup.agent.chunk_sender import ChunkSender, record_of
from weaviate_backup.agent.freeze import take_place
from weaviate_backup.agent.upload import _upload, fates_of, plan_of
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import Progress
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.packing import PlannedChunk
from weaviate_backup.stored.meter import Meter

__all__ = ["recorder"]
SHARDS = {f"s{number}": shard_of(str(number), size_bytes=3000) for number in range(3)}
SOURCE_BYTES = sum(len(content) for of in SHARDS.values() for content in of.values())
CHUNKS = 6
FILES = sum(len(of) for of in SHARDS.values())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "store").mkdir()
    node = Node(tmp_path / "node", tmp_path / "store", "0b5f2c1e", SHARDS, chunk_size_bytes=4096)
    node.freeze()
    workspace = node.workspace()
    with workspace.journal:
        take_place(workspace)
    return node


def chunk_of(node: Node, number: int = 1) -> Path:
    return node.store / node.backup_id / node.name / COLLECTION / f"chunk-{number}"


def planned(workspace: Workspace) -> tuple[PlannedChunk, ...]:
    return tuple(plan_of(workspace, fates_of(workspace.journal, (COLLECTION,))))


def send(node: Node, *, forget: bool = False) -> Progress:
    """All chunks, by an agent that goes on; `forget`: its predecessor died before it journaled any."""
    meter = Meter()
    workspace = node.workspace()
    if forget:
        lines = (node.directory / "journal.jsonl").read_text().splitlines(keepends=True)
        (node.directory / "journal.jsonl").write_text("".join(line for line in lines if '"kind":"chunk"' not in line))
        workspace.journal.close()
        workspace = node.workspace()
    with workspace.journal:
        place = workspace.place_in(workspace.open_store())
        ChunkSender(workspace, place, meter).send_all(planned(workspace))
    return meter.snapshot()


def test_what_was_sent_is_counted_once(node: Node) -> None:
    done = send(node)
    stored = [path.stat().st_size for path in chunk_of(node).parent.iterdir()]
    assert len(stored) == CHUNKS
    assert (done.bytes_done, done.bytes_reused, done.files_done) == (SOURCE_BYTES, 0, FILES)
    assert done.bytes_stored == sum(stored)
    again = send(node)
    assert (again.bytes_done, again.bytes_reused, again.files_done) == (SOURCE_BYTES, SOURCE_BYTES, FILES)
    assert again.bytes_stored == 0


def test_chunks_that_were_stored_and_never_journaled_are_adopted(node: Node, recorder: Recorder) -> None:
    send(node)
    before = {path: path.stat().st_mtime_ns for path in chunk_of(node).parent.iterdir()}
    done = send(node, forget=True)
    assert {path: path.stat().st_mtime_ns for path in chunk_of(node).parent.iterdir()} == before
    assert (done.bytes_done, done.files_done) == (SOURCE_BYTES, FILES), "read again to compare, and counted once"
    assert len(recorder.all("journal", "chunk")) == 2 * CHUNKS


@pytest.mark.parametrize("others", [b"", b"others", None], ids=["empty", "others", "one bit"])
def test_other_bytes_under_the_name_of_a_chunk_are_replaced(node: Node, others: bytes | None) -> None:
    send(node)
    right = chunk_of(node).read_bytes()
    content = bytearray(right)
    content[len(content) // 2] ^= 1
    chunk_of(node).write_bytes(bytes(content) if others is None else others)
    send(node, forget=True)
    assert chunk_of(node).read_bytes() == right


def test_nothing_of_a_committed_backup_is_replaced(node: Node) -> None:
    send(node)
    chunk_of(node).write_bytes(b"others")
    (node.store / node.backup_id / "backup_config.json").write_bytes(b"{}")
    with pytest.raises(Permanent, match="BackupCommitted"):
        send(node, forget=True)
    assert chunk_of(node).read_bytes() == b"others"


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_an_upload_looks_now_and_then_whose_the_place_is(
    node: Node, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(chunk_sender, "CLAIM_SECONDS", seconds)
    (node.store / node.backup_id / "operation.json").unlink()
    if seconds:
        send(node)
        return
    with pytest.raises(Permanent, match="ClaimLost"):
        send(node)
    assert not chunk_of(node).exists()


def test_the_first_failure_is_told_and_ends_the_others(node: Node) -> None:
    node.file("s0", "lsm/objects/segment-1.db").unlink()
    workspace, meter = node.workspace(), Meter()
    with workspace.journal:
        chunks = planned_before(node, workspace)
        with pytest.raises(FileNotFoundError):
            ChunkSender(workspace, workspace.place_in(workspace.open_store()), meter).send_all(chunks * 20)
        with pytest.raises(Permanent, match="StepCanceled"):
            meter.check()


def planned_before(node: Node, workspace: Workspace) -> tuple[PlannedChunk, ...]:
    """As if the file were still there."""
    path = node.file("s0", "lsm/objects/segment-1.db")
    path.write_bytes(SHARDS["s0"]["lsm/objects/segment-1.db"])
    chunks = planned(workspace)
    path.unlink()
    return chunks


@pytest.mark.parametrize("wrong", [{}, {"parts": [{}]}, {"parts": [], "number": 1, "more": 2}, {"parts": 1}])
def test_a_record_of_a_chunk_that_says_something_else_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(Permanent, match="JournalDamaged: the journal's record 'chunk' is none of ours"):
        record_of(wrong)


def test_large_files_are_split_where_the_server_can_read_it(node: Node) -> None:
    for version, splits in (("1.39.1", True), ("1.30.0", False)):
        workspace = node.workspace()
        with workspace.journal:
            work = workspace.backup.model_copy(update={"chunk_size_bytes": 1000, "split_file_bytes": 2000})
            order = workspace.order.model_copy(update={"work": work, "server_version": version})
            chunks = planned(dataclasses.replace(workspace, order=order))
        offsets = {part.offset for chunk in chunks for part in chunk.parts}
        assert (offsets != {0}) is splits


def test_an_upload_is_described_by_what_lies_there(node: Node) -> None:
    workspace = node.workspace()
    with workspace.journal:
        done = _upload(workspace, (COLLECTION,), Meter())
    folder = node.store / node.backup_id / node.name
    stored = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert done.objects == len(stored)
    assert done.bytes_stored == sum(stored.values())


def test_whose_the_place_is_is_looked_at_before_the_documents(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor makes chunks what a server restores."""
    send_all = ChunkSender.send_all

    def lost_afterwards(self: ChunkSender, chunks: tuple[PlannedChunk, ...]) -> object:
        stored = send_all(self, chunks)
        (node.store / node.backup_id / "operation.json").unlink()
        return stored

    monkeypatch.setattr(ChunkSender, "send_all", lost_afterwards)
    workspace = node.workspace()
    with workspace.journal, pytest.raises(Permanent, match="ClaimLost"):
        _upload(workspace, (COLLECTION,), Meter())
    left = [path.name for path in (node.store / node.backup_id / node.name).iterdir()]
    assert left == [COLLECTION]
