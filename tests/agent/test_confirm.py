"""CONFIRM without a server: the proof that the very files that were placed were taken, and what is waited for."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agent.foreign_backup import COLLECTION
from tests.agent.small_restore import Restore, stock
from tests.places import place_of

from weaviate_backup.agent import confirm as confirming
from weaviate_backup.agent.confirm import (
    _replay,
    _wait_until_listed,
    _wait_until_taken,
    check_taken,
    confirm,
    object_count,
)
from weaviate_backup.agent.journal import Record
from weaviate_backup.agent.workspace import LATE
from weaviate_backup.core.session import Step, StepCommand
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.rest import ShardStatus


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where Weaviate has taken a collection of two shards."""
    for shard in ("s0", "s1"):
        (tmp_path / "article" / shard).mkdir(parents=True)
    return tmp_path


def record_of(data: Path) -> Record:
    inodes = {shard: (data / "article" / shard).stat().st_ino for shard in ("s0", "s1")}
    return {"collection": "Article", "data_inode": (data / "article").stat().st_ino, "shards": inodes}


def made_anew(directory: Path) -> None:
    """As Weaviate does when it did not take what was placed. The old one stays for its number not to be used again."""
    directory.rename(directory.with_name(f"old-{directory.name}"))
    directory.mkdir()


def gone(directory: Path) -> None:
    directory.rename(directory.with_name(f"old-{directory.name}"))


def test_directories_that_were_placed_are_proof(data: Path) -> None:
    check_taken(place_of(data), record_of(data))


@pytest.mark.parametrize("spoil", [made_anew, gone])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("article", "Weaviate made collection Article without the restored files"),
        ("article/s1", "1 shards of Article are not the restored ones, first 's1'"),
    ],
)
def test_other_directories_of_those_names_are_none(
    data: Path, name: str, said: str, spoil: Callable[[Path], None]
) -> None:
    record = record_of(data)
    spoil(data / name)
    with pytest.raises(Permanent, match=f"FilesNotTaken: {said}"):
        check_taken(place_of(data), record)


def test_a_collection_is_looked_at_once_weaviate_has_taken_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "POLL_SECONDS", 0.001)
    record, temporary = record_of(data), data / ".backup.tmp" / "Article"
    temporary.mkdir(parents=True)

    async def taken_late() -> None:
        waiting = asyncio.ensure_future(_wait_until_taken(place_of(data), record, Meter()))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        temporary.rmdir()
        await waiting

    asyncio.run(taken_late())
    temporary.mkdir()
    monkeypatch.setattr(confirming, "TAKEN_SECONDS", 0.01)
    with pytest.raises(Transient, match="NotTaken: Weaviate has not taken collection Article yet"):
        asyncio.run(_wait_until_taken(place_of(data), record, Meter()))


class Node:
    """Answers to one question after the other, the last of them again and again."""

    def __init__(self, *answers: tuple[ShardStatus, ...] | BackupError) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def shards(self, collection: str) -> tuple[ShardStatus, ...]:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, BackupError):
            raise answer
        return answer


def shard(name: str, *, collection: str = "Article", objects: int = 1, loaded: bool = True) -> ShardStatus:
    return ShardStatus(collection, name, objects, loaded, "READY", 0)


def listed(node: Any, *expected: str) -> tuple[ShardStatus, ...]:
    return asyncio.run(_wait_until_listed(node, "Article", set(expected), Meter()))


def test_shards_are_waited_for_until_all_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "POLL_SECONDS", 0)
    elsewhere = shard("s1", collection="Book")
    whole = (shard("s0"), shard("s1"), elsewhere)
    node = Node(
        Transient("ServerUnavailable", "starting"), Permanent("NotFound", "no"), (shard("s0"), elsewhere), whole
    )
    assert listed(node, "s0", "s1") == whole[:2]
    assert node.asked == 4
    monkeypatch.setattr(confirming, "TAKEN_SECONDS", 0)
    with pytest.raises(Transient, match="ShardsMissing: Weaviate does not list 1 shards of Article"):
        listed(Node(whole), "s0", "s1", "s2")


@pytest.mark.parametrize("reason", ["AuthenticationFailed", "PermissionDenied"])
def test_who_may_not_ask_does_not_wait(reason: str) -> None:
    node = Node(Permanent(reason, "no"), (shard("s0"),))
    with pytest.raises(Permanent, match=reason):
        listed(node, "s0")


def test_objects_are_counted_only_where_all_are_known() -> None:
    assert object_count((shard("s0", objects=2), shard("s1", objects=3))) == 5
    assert object_count((shard("s0", objects=2), shard("s1", objects=0, loaded=False))) is None


def test_late_writes_are_replayed_once_and_into_active_shards_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Restore(tmp_path / "node", stock(tmp_path)).workspace
    late = Path(str(workspace.directory / LATE / COLLECTION))
    late.mkdir(parents=True)
    for name in ("active", "asleep", "done"):
        (late / name).write_bytes(b"writes")
    workspace.journal.append("replayed", collection=COLLECTION, shard="done")
    workspace.journal.append("replayed", collection="Book", shard="active")
    replayed: list[tuple[str, str, list[str]]] = []

    async def replay(_: object, captured: object, *, collection: str, shard: str) -> int:
        replayed.append((collection, shard, [record["shard"] for record in workspace.journal.of("replaying")]))
        return 1

    monkeypatch.setattr(confirming, "replay_late_writes", replay)
    for _ in range(2):
        asyncio.run(_replay(workspace, COLLECTION, {"active", "done"}))
    assert replayed == [(COLLECTION, "active", ["active"])], "it is journaled before it begins"
    assert workspace.journal.last("replayed") == {"kind": "replayed", "collection": COLLECTION, "shard": "active"}


def test_without_its_journal_nothing_is_proved(tmp_path: Path) -> None:
    workspace = Restore(tmp_path / "node", stock(tmp_path)).workspace
    workspace.journal.append("placed-not", collections=[COLLECTION])
    command = StepCommand(operation_uid="x", step=Step.CONFIRM, collections=(COLLECTION,), backup_sha256="x")
    with pytest.raises(Permanent, match="JournalLost: the journal of n0"):
        asyncio.run(confirm(workspace, command, Meter()))
