"""What is looked at once more, right before it cannot be taken back: by an upload, a commit, a discard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agent.hand_frozen import COLLECTION, Node, shard_of
from tests.agent.racing import complete

from weaviate_backup.agent import commit as committing
from weaviate_backup.agent import discard as discarding
from weaviate_backup.agent import upload as uploading
from weaviate_backup.agent.commit import _commit
from weaviate_backup.agent.discard import _discard
from weaviate_backup.agent.freeze import take_place
from weaviate_backup.agent.journal import JOURNAL
from weaviate_backup.agent.upload import _upload
from weaviate_backup.agent.verify import _verify
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.storage.retry import Retrying
from weaviate_backup.stored.meter import Meter

UID = "0b5f2c1e-0000-4000-8000-000000000007"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "store").mkdir()
    shards = {f"s{number}": shard_of(str(number), size_bytes=3000) for number in range(4)}
    node = Node(tmp_path / "node", tmp_path / "store", UID, shards, chunk_size_bytes=4096)
    node.freeze()
    return node


def verified(workspace: Workspace) -> dict[str, str]:
    take_place(workspace)
    _upload(workspace, (COLLECTION,), Meter())
    return {workspace.node: _verify(workspace, workspace.node, Meter()).manifest_sha256}


def in_the_store(node: Node, name: str) -> Path:
    return node.store / node.backup_id / name


def before_the_marker(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Once, when the manifest lies there."""
    lock, acts = committing._lock, [act]

    def then_act(*arguments: Any) -> Any:
        if acts:
            acts.pop()()
        return lock(*arguments)

    monkeypatch.setattr(committing, "_lock", then_act)


def test_what_an_operation_sent_is_found_without_its_journal(node: Node) -> None:
    """By its claim: the volume may be another by now."""
    workspace = node.workspace()
    with workspace.journal:
        verified(workspace)
    (node.directory / JOURNAL).unlink()
    workspace = node.workspace()
    with workspace.journal:
        _discard(workspace, Meter())
    assert [path.name for path in node.store.rglob("*") if path.is_file()] == ["operation.json"]


def test_an_operation_that_wrote_nothing_takes_nothing_back(node: Node) -> None:
    workspace = node.workspace()
    with workspace.journal:
        _discard(workspace, Meter())
        verified(workspace)
        in_the_store(node, "operation.json").unlink()
        with pytest.raises(Permanent, match="ClaimLost"):
            _discard(workspace, Meter())


@pytest.mark.parametrize("thief", ["another", None])
def test_a_place_that_was_lost_gets_no_marker(node: Node, monkeypatch: pytest.MonkeyPatch, thief: str | None) -> None:
    claim = in_the_store(node, "operation.json")

    def take_it() -> None:
        if thief is None:
            claim.unlink()
        else:
            claim.write_bytes(claim.read_bytes().replace(UID.encode(), thief.encode()))

    workspace = node.workspace()
    with workspace.journal:
        manifests = verified(workspace)
        before_the_marker(monkeypatch, take_it)
        with pytest.raises(Permanent, match="ClaimLost" if thief is None else "BackupExists"):
            _commit(workspace, manifests, Meter())
    assert not in_the_store(node, "backup_config.json").exists()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (b'"tool_version": "0', b'"tool_version": "9', (Transient, "CommitOverlaps")),
        (UID.encode(), b"another", (Permanent, "BackupExists")),
    ],
    ids=["of the operation", "a stranger"],
)
def test_another_that_completes_it_meanwhile_passes_if_it_is_of_the_operation(
    node: Node, monkeypatch: pytest.MonkeyPatch, before: bytes, after: bytes, told: tuple[type, str]
) -> None:
    """Its manifest is as good; the next attempt takes it over."""
    manifest = in_the_store(node, "manifest.json")

    def completed_by_another() -> None:
        content = manifest.read_bytes()
        assert before in content
        manifest.write_bytes(content.replace(before, after))

    workspace = node.workspace()
    with workspace.journal:
        manifests = verified(workspace)
        before_the_marker(monkeypatch, completed_by_another)
        with pytest.raises(BackupError) as refused:
            _commit(workspace, manifests, Meter())
    assert (type(refused.value), refused.value.reason) == told


def test_a_discard_that_is_told_to_end_deletes_no_more(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discarding, "DELETED_AT_ONCE", 1)
    meter, deleted, delete = Meter(), list[str](), Retrying.delete

    def then_stop(self: Retrying, keys: Any) -> None:
        deleted.extend(keys)
        delete(self, keys)
        meter.stop()

    workspace = node.workspace()
    with workspace.journal:
        verified(workspace)
        monkeypatch.setattr(Retrying, "delete", then_stop)
        with pytest.raises(Permanent, match="StepCanceled"):
            _discard(workspace, meter)
    assert len(deleted) == 1


def test_an_upload_whose_journal_lost_a_chunk_writes_no_documents(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "send", lambda *_: None)
    workspace = node.workspace()
    with workspace.journal:
        take_place(workspace)
        with pytest.raises(Permanent, match="JournalDamaged: the journal's record 'chunk'"):
            _upload(workspace, (COLLECTION,), Meter())
    assert [each.name for each in node.store.rglob("*") if each.is_file()] == ["operation.json"]


def test_a_descriptor_that_is_vouched_for_and_none_is_called_so(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever wrote both; one that merely differs is damaged."""
    monkeypatch.setattr(uploading, "encode_in_pieces", lambda *_: iter((b'{"id":"nightly"}',)))
    workspace = node.workspace()
    with workspace.journal:
        take_place(workspace)
        _upload(workspace, (COLLECTION,), Meter())
        with pytest.raises(Permanent, match=r"HostileBackup: nightly/weaviate-0/backup\.json is no descriptor"):
            _verify(workspace, workspace.node, Meter())


def test_nothing_of_it_all_is_refused_when_nobody_interferes(node: Node) -> None:
    workspace = node.workspace()
    with workspace.journal:
        complete(workspace)
    assert in_the_store(node, "backup_config.json").is_file()
