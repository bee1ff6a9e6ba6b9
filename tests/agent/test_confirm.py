"""CONFIRM without a server: the proof that the very files that were placed were taken, and what is waited for."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agent.foreign_backup import COLLECTION
from tests.agent.small_restore import Restore, stock
from tests.agent.taken_restore import Taken
from tests.places import place_of

from weaviate_backup.agent import confirm as confirming
from weaviate_backup.agent.confirm import (
    _wait_until_listed,
    _wait_until_taken,
    confirm,
    lost_shards,
    object_count,
)
from weaviate_backup.agent.journal import Record
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
    assert lost_shards(place_of(data), record_of(data)) == []


@pytest.mark.parametrize("spoil", [made_anew, gone])
def test_other_directories_of_those_names_are_none(data: Path, spoil: Callable[[Path], None]) -> None:
    record = record_of(data)
    spoil(data / "article" / "s1")
    assert lost_shards(place_of(data), record) == ["s1"]
    spoil(data / "article")
    with pytest.raises(Permanent, match="FilesNotTaken: Weaviate made collection Article without the restored files"):
        lost_shards(place_of(data), record)


def test_a_collection_is_looked_at_once_weaviate_has_taken_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "POLL_SECONDS", 0.001)
    record, temporary = record_of(data), data / ".backup.tmp" / "Article"
    temporary.mkdir(parents=True)
    (data / "article").rename(temporary / "article")

    async def taken_late() -> None:
        waiting = asyncio.ensure_future(_wait_until_taken(place_of(data), record, Meter()))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        (temporary / "article").rename(data / "article")
        await asyncio.sleep(0.02)
        assert not waiting.done()
        temporary.rmdir()
        await waiting

    asyncio.run(taken_late())


def test_it_is_waited_for_within_a_bound(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(confirming, "TAKEN_SECONDS", 0.01)
    record, temporary = record_of(data), data / ".backup.tmp" / "Article"
    temporary.mkdir(parents=True)
    asyncio.run(_wait_until_taken(place_of(data), record, Meter()))  # what stays of its place proves nothing
    (data / "article").rename(temporary / "article")
    with pytest.raises(Transient, match="NotTaken: Weaviate has not taken collection Article yet"):
        asyncio.run(_wait_until_taken(place_of(data), record, Meter()))


def test_what_can_never_be_taken_is_not_waited_for(data: Path) -> None:
    """Weaviate takes nothing into a place that another directory has."""
    record, temporary = record_of(data), data / ".backup.tmp" / "Article"
    temporary.mkdir(parents=True)
    (data / "article").rename(temporary / "article")
    (data / "article" / "OTHERshard").mkdir(parents=True)
    with pytest.raises(Permanent, match="FilesNotTaken"):
        asyncio.run(asyncio.wait_for(_wait_until_taken(place_of(data), record, Meter()), 5))


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


@pytest.fixture
def taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Taken:
    monkeypatch.setattr(confirming, "POLL_SECONDS", 0.001)
    taken = Taken(tmp_path)
    taken.seen_by(monkeypatch)
    return taken


@pytest.mark.parametrize("became", ["deleted", "offloaded", "on its way to be offloaded", "moved to another node"])
def test_a_tenant_that_is_gone_since_fails_no_restore(
    taken: Taken, caplog: pytest.LogCaptureFixture, became: str
) -> None:
    taken.lose("s1")
    shard = taken.physical.pop("s1")
    others = {
        "offloaded": {**shard, "status": "FROZEN"},
        "on its way to be offloaded": {**shard, "status": "FREEZING"},
        "moved to another node": {**shard, "belongsToNodes": ["n1"]},
    }
    if became in others:
        taken.physical["s1"] = others[became]
    assert taken.confirm().shards == len([each for each in taken.physical.values() if "n0" in each["belongsToNodes"]])
    assert "1 tenants of Article were deleted or offloaded since, first s1" in caplog.text


@pytest.mark.parametrize("status", ["HOT", "COLD"])
def test_a_tenant_that_is_placed_here_and_has_other_files_is_lost(taken: Taken, status: str) -> None:
    taken.lose("s1")
    taken.physical["s1"]["status"] = status
    with pytest.raises(Permanent, match="FilesNotTaken: 1 shards of Article are not the restored ones, first 's1'"):
        taken.confirm()


def test_a_shard_of_a_collection_without_tenants_is_never_deleted_alone(taken: Taken) -> None:
    taken.lose("s1")
    taken.state["partitioningEnabled"] = False
    del taken.physical["s1"]
    with pytest.raises(Permanent, match="FilesNotTaken"):
        taken.confirm()


@pytest.mark.parametrize("files", ["taken", "gone", "waiting"])
def test_a_collection_that_was_deleted_since_ends_with_that_word(
    taken: Taken, monkeypatch: pytest.MonkeyPatch, files: str
) -> None:
    monkeypatch.setattr(confirming, "TAKEN_SECONDS", 0.01)
    taken.state.clear()
    if files == "gone":
        gone(taken.data / "article")
    elif files == "waiting":
        (taken.data / ".backup.tmp" / COLLECTION).mkdir()
        (taken.data / "article").rename(taken.data / ".backup.tmp" / COLLECTION / "article")
    with pytest.raises(Permanent, match="CollectionDeleted: collection Article was restored, and deleted before"):
        taken.confirm()


@pytest.mark.parametrize("reason", ["NotTaken", "ShardsMissing"])
def test_what_never_comes_is_waited_for_some_rounds_by_any_process(
    taken: Taken, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(confirming, "TAKEN_SECONDS", 0.001)
    if reason == "NotTaken":
        (taken.data / ".backup.tmp" / COLLECTION).mkdir()
        (taken.data / "article").rename(taken.data / ".backup.tmp" / COLLECTION / "article")
    else:
        taken.unlisted.add("s1")
    for _ in range(confirming.ROUNDS - 1):
        with pytest.raises(Transient, match=reason):
            taken.confirm()
        taken.reopen()
    with pytest.raises(Permanent, match=f"{reason}: .* after 6 waits of"):
        taken.confirm()


def test_a_tenant_that_fell_asleep_while_it_was_waited_for_need_not_be_listed(
    taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "TAKEN_SECONDS", 0.001)
    taken.unlisted.add("s1")
    taken.then_sleeps = "s1"
    assert taken.confirm().shards == 2


def test_without_its_journal_nothing_is_proved(tmp_path: Path) -> None:
    workspace = Restore(tmp_path / "node", stock(tmp_path)).workspace
    workspace.journal.append("placed-not", collections=[COLLECTION])
    command = StepCommand(operation_uid="x", step=Step.CONFIRM, collections=(COLLECTION,), backup_sha256="x")
    with pytest.raises(Permanent, match="JournalLost: the journal of n0"):
        asyncio.run(confirm(workspace, command, Meter()))
