"""All nodes freeze by the schema that the leader read, whoever dies meanwhile; nobody takes another one."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.agent.failing_disk import FailingDisk
from tests.agent.hand_frozen import COLLECTION, Node, shard_of
from tests.agent.racing import complete
from tests.agent.recorder import Recorder, recorder

from weaviate_backup.agent.freeze import take_place
from weaviate_backup.agent.kept_documents import keep_document
from weaviate_backup.agent.survey import SURVEY, Taken, read_schema, take_schema
from weaviate_backup.agent.verify import _verify, read_contents
from weaviate_backup.agent.workspace import SCHEMA, Workspace
from weaviate_backup.core.session import Step, StepCommand, Surveyed, Wire
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout import keys
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.stored.meter import Meter

__all__ = ["recorder"]
UID, NODES = "0b5f2c1e", ("weaviate-0", "weaviate-1")
LARGE = (1 << 64) - 1


@dataclass
class Raft:
    """What the leader asks; a tenant comes with each reading."""

    collections: dict[str, int] = field(default_factory=lambda: {COLLECTION: 0})
    readings: int = 0
    watch: Any = None

    async def aliases(self) -> dict[str, str]:
        return {"News": COLLECTION, "Other": "Another"}

    async def snapshot(self, name: str) -> tuple[dict[str, Any], dict[str, Any], int]:
        if name not in self.collections:
            raise Permanent("CollectionNotFound", name)
        self.readings += 1
        physical = {f"t{number}": {"belongsToNodes": list(NODES), "upper": LARGE} for number in range(self.readings)}
        return {"class": name}, {"partitioningEnabled": True, "physical": physical}, 7


@dataclass
class Agent:
    """One process of a node's agent after the other, on the same volume."""

    node: Node
    raft: Raft
    told: list[Wire] = field(default_factory=list)

    def take(self, sha256: str = "") -> frozenset[str]:
        workspace = self.node.workspace()
        command = StepCommand(operation_uid=UID, step=Step.FREEZE, schema_sha256=sha256)
        with workspace.journal:
            take_place(workspace)
            meter = Meter(self.told.append)
            return asyncio.run(take_schema(workspace, command, cast(Any, self.raft), meter)).collections

    @property
    def digest(self) -> str:
        surveyed = self.told[-1]
        assert isinstance(surveyed, Surveyed)
        return surveyed.sha256

    @property
    def tenants(self) -> set[str]:
        with self.opened() as workspace:
            return set(read_schema(workspace, COLLECTION)["state"]["physical"])

    def opened(self) -> "Opened":
        return Opened(self.node.workspace())


@dataclass
class Opened:
    workspace: Workspace

    def __enter__(self) -> Workspace:
        return self.workspace

    def __exit__(self, *_: object) -> None:
        self.workspace.journal.close()


@pytest.fixture
def leader(tmp_path: Path) -> Agent:
    (tmp_path / "store").mkdir()
    return Agent(Node(tmp_path / "first", tmp_path / "store", UID, {}, name=NODES[0], nodes=NODES), Raft())


@pytest.fixture
def other(leader: Agent, tmp_path: Path) -> Agent:
    return Agent(replace(leader.node, base=tmp_path / "second", name=NODES[1]), Raft())


def stored(agent: Agent) -> Path:
    return agent.node.store / keys.schema(agent.node.backup_id, NODES[0])


def test_the_others_take_what_the_leader_read(leader: Agent, other: Agent) -> None:
    assert leader.take() == {COLLECTION} == other.take(leader.digest)
    assert hashlib.sha256(stored(leader).read_bytes()).hexdigest() == leader.digest
    assert leader.tenants == other.tenants == {"t0"}
    assert (leader.raft.readings, other.raft.readings, other.told) == (1, 0, [])
    with other.opened() as workspace:
        schema = read_schema(workspace, COLLECTION)
    assert (schema["aliases"], schema["version"]) == ({"News": COLLECTION}, 7)
    assert schema["state"]["physical"]["t0"]["upper"] == LARGE, "to the last bit"


def test_a_collection_that_is_gone_is_missing_everywhere(leader: Agent, other: Agent) -> None:
    leader.raft.collections.clear()
    assert leader.take() == frozenset() == other.take(leader.digest)


def test_an_agent_that_starts_again_goes_on_with_it(leader: Agent, other: Agent) -> None:
    leader.take()
    other.take(leader.digest)
    stored(leader).unlink()
    for agent, digest in ((other, leader.digest), (leader, "")):
        assert agent.take(digest) == {COLLECTION}
    assert hashlib.sha256(stored(leader).read_bytes()).hexdigest() == leader.digest, "it lies there again"
    assert leader.told[0] == leader.told[1], "told again: the others may not know"
    assert leader.raft.readings == 1


def test_what_was_never_synced_is_taken_again(leader: Agent, other: Agent) -> None:
    leader.take()
    other.take(leader.digest)
    for agent, digest in ((leader, ""), (other, leader.digest)):
        with agent.opened() as workspace:
            (workspace.directory / SCHEMA).remove_tree()
        assert agent.take(digest) == {COLLECTION}
        assert agent.tenants == {"t0"}
    assert leader.raft.readings == 1


def test_it_outlasts_a_loss_of_power_before_the_first_cut(leader: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    leader.node.directory.mkdir(parents=True)
    disk = FailingDisk(leader.node.data)
    with disk.below(monkeypatch):
        leader.take()
    disk.after_power_loss()
    assert leader.take() == {COLLECTION}
    assert leader.tenants == {"t0"}
    assert leader.raft.readings == 1


def test_what_is_kept_of_it_is_whole_wherever_its_name_is(leader: Agent, recorder: Recorder) -> None:
    """A file system may write a name before the bytes, and the journal says that they are there."""
    leader.take()
    for name in (SURVEY, f"{COLLECTION}.json"):
        (made,), (named,) = recorder.all("create", f"{name}.partial"), recorder.all("rename_to", f"{name}.partial")
        assert [what for what, _ in recorder.events[made : named + 1]] == ["create", "write", "fsync", "rename_to"]
    recorder.refuse_disorder(
        recorder.all("rename_to", f"{SURVEY}.partial"),
        recorder.all("sync", leader.node.directory.name)[-1:],
        recorder.all("journal", "surveyed"),
        recorder.all("rename_to", f"{COLLECTION}.json.partial"),
        recorder.all("journal", "schema"),
    )


class AskedAnew:
    """Raft's leader starts again during the first reading: it had not replayed its log."""

    async def settled(self, ask: Callable[[], Awaitable[list[bytes]]]) -> list[bytes]:
        await ask()
        return await ask()


def test_it_is_read_as_a_whole_from_one_leader(leader: Agent) -> None:
    leader.raft.watch = AskedAnew()
    leader.take()
    assert leader.tenants == {"t0", "t1"}, "the second reading, and nothing of the first"


def test_a_collection_that_was_not_taken_has_no_schema(leader: Agent) -> None:
    leader.take()
    with leader.opened() as workspace, pytest.raises(Permanent, match="CollectionNotFrozen: collection 'Book' was not"):
        read_schema(workspace, "Book")


def test_what_somebody_else_put_there_is_replaced_unread(leader: Agent) -> None:
    leader.take()
    stored(leader).write_bytes(b"x" * 5000)
    assert leader.take() == {COLLECTION}
    assert hashlib.sha256(stored(leader).read_bytes()).hexdigest() == leader.digest
    assert leader.raft.readings == 1


@pytest.mark.parametrize("content", [None, b"another"])
def test_a_reading_that_is_not_what_the_journal_says_is_nobodys(leader: Agent, content: bytes | None) -> None:
    leader.take()
    kept = leader.node.directory / SURVEY
    kept.unlink() if content is None else kept.write_bytes(content)
    with pytest.raises(Permanent, match=r"SchemaLost: .* is not the schema that weaviate-0 read; make a new backup"):
        leader.take()


def test_names_that_are_not_of_the_backup_are_not_believed(leader: Agent) -> None:
    leader.take()
    with leader.opened() as workspace:
        taken = Taken(sha256=leader.digest, collections=frozenset({"Stranger"}))
        workspace.journal.append("schema", result=taken.model_dump(mode="json"))
        place = workspace.directory / SCHEMA / "Stranger.json"
        keep_document(place, {"class": {}, "state": {}, "aliases": {}, "version": 1}, durable=False)
    assert leader.take() == {COLLECTION}


def test_a_leader_that_lost_its_volume_reads_anew_and_the_others_follow(leader: Agent, other: Agent) -> None:
    leader.take()
    first = leader.digest
    (leader.node.directory / "journal.jsonl").unlink()
    leader.take()
    assert leader.digest != first
    with pytest.raises(Transient, match=r"SchemaChanging: .* is not what weaviate-0 told of"):
        other.take(first)
    other.take(leader.digest)
    assert other.tenants == leader.tenants == {"t0", "t1"}


def test_where_it_was_taken_away_nothing_is_frozen(leader: Agent, other: Agent) -> None:
    leader.take()
    stored(leader).unlink()
    with pytest.raises(Permanent, match=r"SchemaLost: nightly/weaviate-0/schema\.json\.zst, by which all nodes freeze"):
        other.take(leader.digest)


def test_a_follower_is_told_what_to_take(leader: Agent, other: Agent) -> None:
    leader.take()
    with pytest.raises(Transient, match="SchemaUnknown: weaviate-1 freezes by what weaviate-0 read"):
        other.take()


class OneShard(Raft):
    async def snapshot(self, name: str) -> tuple[dict[str, Any], dict[str, Any], int]:
        return {"class": name}, {"physical": {"s1": {"belongsToNodes": [NODES[0]]}}}, 7


@pytest.fixture
def alone(tmp_path: Path) -> Agent:
    """The only node, whose shard is frozen."""
    (tmp_path / "store").mkdir()
    agent = Agent(Node(tmp_path / "node", tmp_path / "store", UID, {"s1": shard_of("1")}), OneShard())
    agent.node.freeze()
    agent.take()
    return agent


def test_it_is_a_part_of_the_backup_and_checked_as_all_else_is(alone: Agent) -> None:
    with alone.opened() as workspace:
        complete(workspace)
        assert (
            keys.schema(alone.node.backup_id, NODES[0])
            in read_contents(workspace.open_store(), workspace.backup_id, NODES[0], operation_uid=UID).expected
        )
        whole = stored(alone).read_bytes()
        for spoiled in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], None):
            stored(alone).unlink() if spoiled is None else stored(alone).write_bytes(spoiled)
            with pytest.raises(Permanent, match=r"VerificationFailed: .*schema\.json\.zst"):
                _verify(workspace, NODES[0], Meter())


def test_one_that_was_taken_away_is_put_there_again(alone: Agent) -> None:
    stored(alone).unlink()
    with alone.opened() as workspace:
        complete(workspace)
    assert hashlib.sha256(stored(alone).read_bytes()).hexdigest() == alone.digest


def test_nothing_is_deleted_by_a_backup_that_goes_well(alone: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locations may have a writer that can delete nothing."""
    deleted: list[str] = []
    monkeypatch.setattr(FilesystemStore, "delete", lambda _, names: deleted.extend(names))
    with alone.opened() as workspace:
        complete(workspace)
    assert deleted == []
