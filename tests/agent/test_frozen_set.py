"""What is sent is what was frozen: UPLOAD believes neither the directory nor the journal alone, and never mixes two
packings of one frozen set."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.agent.hand_frozen import COLLECTION, Node, shard_of
from tests.agent.racing import complete
from tests.agent.recorder import Recorder, recorder

from weaviate_backup.agent import durability
from weaviate_backup.agent import upload as upload_module
from weaviate_backup.agent.chunk_sender import ChunkSender, sent_of
from weaviate_backup.agent.commit import _commit
from weaviate_backup.agent.discard import _discard
from weaviate_backup.agent.fates import fates
from weaviate_backup.agent.freeze import _thaw_unsynced, take_place
from weaviate_backup.agent.upload import _upload, begin_packing, fates_of, plan_of
from weaviate_backup.agent.verify import _verify
from weaviate_backup.agent.workspace import FROZEN, Workspace
from weaviate_backup.core.session import Uploaded
from weaviate_backup.errors import Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.manifests import ChunkLine
from weaviate_backup.layout.packing import PlannedChunk, survey
from weaviate_backup.stored.meter import Meter

__all__ = ["recorder"]
UID = "0b5f2c1e-0000-4000-8000-000000000007"
SHARDS = {f"s{number}": shard_of(str(number), size_bytes=300 * number) for number in range(1, 6)}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "store").mkdir()
    node = Node(tmp_path / "node", tmp_path / "store", UID, SHARDS, chunk_size_bytes=4096)
    node.freeze()
    return node


def upload(node: Node) -> Uploaded:
    workspace = node.workspace()
    with workspace.journal:
        take_place(workspace)
        return _upload(workspace, (COLLECTION,), Meter())


def stored(node: Node) -> dict[str, bytes]:
    root = node.store
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def files_in(node: Node) -> dict[str, int]:
    """Bytes of each file in the stored chunks, as the manifest that was verified has them."""
    workspace = node.workspace()
    with workspace.journal:
        _verify(workspace, node.name, Meter())
        found: dict[str, int] = {}
        for line in lines_of(workspace):
            for path, _, length_bytes, _ in line.files:
                found[path] = found.get(path, 0) + length_bytes
    return found


def lines_of(workspace: Workspace) -> list[ChunkLine]:
    from weaviate_backup.layout.manifests import read_node_manifest

    with workspace.open_store().open(keys.node_manifest(workspace.backup_id, workspace.node)) as stream:
        return [line for line in read_node_manifest(stream, key="manifest") if isinstance(line, ChunkLine)]


EVERYTHING = {f"article/{shard}/{name}": len(content) for shard, of in SHARDS.items() for name, content in of.items()}


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.with_name("more").write_bytes(b"x"),
        lambda path: path.with_name("none").write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
    ],
    ids=["emptied", "gone", "one more", "an empty one more", "longer"],
)
def test_a_frozen_set_that_changed_is_not_sent(node: Node, change: Callable[[Path], object]) -> None:
    """As after a loss of power, before which nothing was synced."""
    change(node.file("s3", "indexcount"))
    with pytest.raises(Permanent, match=r"FrozenSetLost: the frozen files of Article/s3 were 4 of .* bytes, and are"):
        upload(node)
    assert list(stored(node)) == ["nightly/operation.json"]


def test_a_frozen_set_that_changes_while_it_is_sent_is_not_completed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many files, and as large, of other names."""

    def packed(*_: object) -> None:
        path = node.file("s3", "lsm/objects/segment-1.db")
        path.rename(path.with_name("segment-2.db"))

    monkeypatch.setattr(upload_module, "begin_packing", packed)
    with pytest.raises(Permanent, match="FrozenSetLost: the frozen files of weaviate-0 changed while they were sent"):
        upload(node)
    assert not any(key.endswith((".zst", "backup.json")) for key in stored(node))


def test_without_its_claim_an_operation_writes_nothing(node: Node) -> None:
    """Somebody deleted it, or put another in its place."""
    workspace = node.workspace()
    with workspace.journal:
        take_place(workspace)
        workspace.open_store().put(f"nightly/{node.name}/left", lambda: iter((b"x",)))
        claim = node.store / "nightly" / "operation.json"
        others = claim.read_bytes().replace(UID.encode(), b"another")
        for content, reason in ((None, "ClaimLost"), (others, "BackupExists")):
            claim.unlink()
            if content is not None:
                claim.write_bytes(content)
            before = stored(node)
            for act in (
                lambda: _upload(workspace, (COLLECTION,), Meter()),
                lambda: _commit(workspace, {node.name: "0" * 64}, Meter()),
                lambda: _discard(workspace, Meter()),
            ):
                with pytest.raises(Permanent) as refused:
                    act()
                assert refused.value.reason == reason
            assert stored(node) == before
            claim.touch()


def planned(workspace: Workspace) -> tuple[PlannedChunk, ...]:
    return tuple(plan_of(workspace, fates_of(workspace.journal, (COLLECTION,))))


def test_nothing_of_a_backup_that_is_complete_is_taken_back(node: Node) -> None:
    """Neither what its nodes stored nor what says of the whole what it is."""
    workspace = node.workspace()
    with workspace.journal:
        complete(workspace)
        before = stored(node)
        with pytest.raises(Permanent, match="BackupCommitted: backup 'nightly' is complete"):
            _discard(workspace, Meter())
    assert stored(node) == before
    assert "nightly/manifest.json" in before


def test_another_packing_begins_anew_and_nothing_of_the_first_stays(node: Node) -> None:
    """An agent of another version, or with another chunk size, after its predecessor sent some chunks and died."""
    workspace = node.workspace()
    with workspace.journal as journal:
        take_place(workspace)
        chunks = planned(workspace)
        assert len(chunks) > 3
        begin_packing(journal, survey(chunks))
        sender = ChunkSender(workspace, workspace.place_in(workspace.open_store()), Meter())
        sender.send_all((*chunks[:2], chunks[-1]))
        before = stored(node)
    other = replace(node, chunk_size_bytes=1 << 20)
    done = upload(other)
    assert files_in(other) == EVERYTHING
    left = {key for key in stored(node) if key.startswith("nightly/weaviate-0/")}
    assert len(left) == done.objects
    assert len(left) < len(before) + 2, "the chunks that only the first packing had are gone"
    assert upload(other) == done


def test_a_packing_that_goes_on_sends_nothing_twice(node: Node, recorder: Recorder) -> None:
    workspace = node.workspace()
    with workspace.journal as journal:
        take_place(workspace)
        chunks = planned(workspace)
        begin_packing(journal, survey(chunks))
        ChunkSender(workspace, workspace.place_in(workspace.open_store()), Meter()).send_all(chunks[:2])
    upload(node)
    sent = [key for what, key in recorder.events if what == "put" and "chunk-" in key]
    assert sorted(sent) == sorted(f"nightly/weaviate-0/Article/chunk-{chunk.number}" for chunk in chunks)
    assert files_in(node) == EVERYTHING


def test_a_journaled_chunk_without_a_planned_file_is_sent_again(node: Node) -> None:
    workspace = node.workspace()
    with workspace.journal as journal:
        take_place(workspace)
        chunks = planned(workspace)
        begin_packing(journal, survey(chunks))
        ChunkSender(workspace, workspace.place_in(workspace.open_store()), Meter()).send_all(chunks[:1])
        (at,) = sent_of(journal).values()
        record = journal.at(at)["record"]
        journal.append("chunk", collection=COLLECTION, number=record["number"], record=record | {"parts": []})
    upload(node)
    assert files_in(node) == EVERYTHING


def test_what_was_frozen_before_the_machine_started_anew_is_frozen_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was never synced. Once all of it was, it is believed for good."""
    workspace = node.workspace()
    with workspace.journal:
        _thaw_unsynced(workspace)
        assert len(fates(workspace.journal)[COLLECTION]) == len(SHARDS)
        boot = node.base / "boot"
        boot.write_text("another\n")
        monkeypatch.setattr(durability, "BOOT_ID", boot)
        _thaw_unsynced(workspace)
        assert fates(workspace.journal) == {}
        assert not (workspace.directory / FROZEN).exists()
    workspace = node.workspace()
    with workspace.journal:
        assert fates(workspace.journal) == {}
