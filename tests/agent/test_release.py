"""RELEASE and the sweep without a server: what is let go of, what stays, and what is put back before."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.agent.small_restore import UID, Restore, stock
from tests.agent.test_left_overs import dead_operation
from tests.places import place_of

from weaviate_backup.agent import release as releasing
from weaviate_backup.agent import replays
from weaviate_backup.agent.journal import JOURNAL
from weaviate_backup.agent.release import end_of_lease, let_go, release, sweep
from weaviate_backup.agent.workspace import LATE, Workspace
from weaviate_backup.core.session import DATA_DIRECTORY, Step, StepCommand
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.late_writes import MAGIC, Begun
from weaviate_backup.weaviate.shard_source import ShardCut

CUTS = [("Article", "s0"), ("Article", "s1"), ("Book", "s0")]


class Server:
    """What it was let go of, and what raft knows. `failures` by shard; `missing`: why there is no driver for it."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.released: list[tuple[str, str]] = []
        self.replayed: list[tuple[str, str, bytes]] = []
        self.begun: list[Begun | None] = []
        self.failures: dict[tuple[str, str], BackupError] = {}
        self.missing: BackupError | None = None
        self.refuses: BackupError | None = None
        self.collections: tuple[str, ...] = ()
        self.by_then: tuple[str, ...] | None = None
        """What raft knows when it is asked again."""
        self.asked = 0
        self.statuses = {"s0": "HOT", "s1": "HOT"}
        self.closed = 0

    async def open_driver(self, _: Workspace, operation_uid: str | None = None) -> "Server":
        self.opened.append(operation_uid or "")
        if self.missing is not None:
            raise self.missing
        return self

    async def release(self, cut: ShardCut) -> None:
        self.released.append((cut.collection, cut.shard))
        if failure := self.failures.get((cut.collection, cut.shard)):
            raise failure

    async def close(self) -> None:
        self.closed += 1

    async def replay(self, *_: object, collection: str, shard: str, captured: Any, tell: Any, **more: Any) -> int:
        self.replayed.append((collection, shard, captured.read_bytes(limit_bytes=100)))
        self.begun.append(more["begun"])
        tell(Begun(8, 8))
        if self.refuses:
            raise self.refuses
        return 1

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def class_names(self) -> tuple[str, ...]:
        self.asked += 1
        return self.by_then if self.asked > 1 and self.by_then is not None else self.collections

    async def sharding_state(self, _: str) -> tuple[dict[str, Any], int]:
        shards = {name: {"status": each, "belongsToNodes": ["n0"]} for name, each in self.statuses.items()}
        return {"partitioningEnabled": True, "physical": shards}, 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(Workspace, "open_driver", lambda workspace, uid=None: server.open_driver(workspace, uid))
    monkeypatch.setattr(releasing, "RaftClient", lambda *_: server)
    monkeypatch.setattr(replays, "replay", server.replay)
    return server


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Restore(tmp_path / "node", stock(tmp_path)).workspace


def data_of(workspace: Workspace) -> Path:
    return Path(str(workspace.data_root))


def released(workspace: Workspace, *, keep_placed: bool = False) -> None:
    command = StepCommand(operation_uid=UID, step=Step.RELEASE, keep_placed=keep_placed)
    with workspace.journal:
        asyncio.run(release(workspace, command, Meter()))


def cut(workspace: Workspace, *shards: tuple[str, str]) -> None:
    for collection, shard in shards:
        workspace.journal.append("cutting", collection=collection, shard=shard)


def placed(workspace: Workspace, collection: str) -> Path:
    directory = data_of(workspace) / ".backup.tmp" / collection
    directory.mkdir(parents=True)
    data = directory / collection.lower()
    (data / "s0").mkdir(parents=True)
    born = {"ready": place_of(directory).born(), "data": place_of(data).born()}
    inodes: dict[str, Any] = {"inode": directory.stat().st_ino, "data_inode": data.stat().st_ino}
    workspace.journal.append("placed", collection=collection, **inodes, shards={}, files=0, born=born)
    return directory


def moved(directory: Path) -> Path:
    """As Weaviate does when it takes a collection; when it starts, of an old command, too."""
    data = directory.parents[1] / directory.name.lower()
    (directory / data.name).rename(data)
    directory.rmdir()
    return data


# The server


def test_the_server_is_let_go_of_every_cut_whatever_becomes_of_one(workspace: Workspace, server: Server) -> None:
    server.failures = {
        CUTS[0]: Transient("ServerUnavailable", "the first"),
        CUTS[1]: Transient("ServerUnavailable", "the second"),
    }
    with pytest.raises(Transient, match="the first"):
        asyncio.run(let_go(workspace, "dead", CUTS))
    assert server.released == CUTS
    assert (server.opened, server.closed) == (["dead"], 1)


def test_who_holds_nothing_is_not_even_asked(workspace: Workspace, server: Server) -> None:
    asyncio.run(let_go(workspace, "dead", []))
    assert server.opened == []


def test_a_server_that_could_never_hold_a_cut_holds_none(workspace: Workspace, server: Server) -> None:
    server.missing = Permanent("DriverUnsupported", "another version by now")
    asyncio.run(let_go(workspace, "dead", CUTS))
    server.missing = Permanent("AuthenticationFailed", "no")
    with pytest.raises(Permanent, match="AuthenticationFailed"):
        asyncio.run(let_go(workspace, "dead", CUTS))


@pytest.mark.parametrize("by", ["its order", "the end of its lease"])
def test_an_operation_lets_go_of_the_cuts_that_its_journal_has_open(
    workspace: Workspace, server: Server, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    cut(workspace, *CUTS)
    monkeypatch.setattr(releasing, "cuts_left_over", lambda records: sorted({_of(each) for each in records})[1:])
    if by == "its order":
        released(workspace)
    else:
        asyncio.run(end_of_lease(workspace))
    assert server.released == CUTS[1:]
    assert Path(str(workspace.directory)).exists() is (by == "the end of its lease")


def _of(record: dict[str, Any]) -> tuple[str, str]:
    return record["collection"], record["shard"]


def test_its_journal_stays_until_the_server_was_told(workspace: Workspace, server: Server) -> None:
    cut(workspace, CUTS[0])
    server.failures = {CUTS[0]: Transient("ServerUnavailable", "no")}
    with pytest.raises(Transient):
        released(workspace)
    assert Path(str(workspace.directory)).exists()


# The volume


@pytest.mark.parametrize("in_schema", [False, True])
def test_what_was_placed_is_taken_back_unless_it_is_in_the_schema(
    workspace: Workspace, server: Server, in_schema: bool
) -> None:
    directory = placed(workspace, "Article")
    server.collections = ("Article",) if in_schema else ("Book",)
    released(workspace)
    assert directory.exists() is in_schema
    assert (data_of(workspace) / DATA_DIRECTORY / UID / JOURNAL).exists() is in_schema, "who knows whose it is"


@pytest.mark.parametrize("in_schema", ["", "Article", "ARTICLE"])
def test_what_was_moved_too_early_is_taken_back_unless_it_is_in_the_schema(
    workspace: Workspace, server: Server, in_schema: str
) -> None:
    """A server that starts comes to an old command for a collection of that name. One that is made later would have
    what lies there. Names that differ in case alone have one directory."""
    data = moved(placed(workspace, "Article"))
    server.collections = (in_schema,) if in_schema else ()
    released(workspace)
    assert data.exists() is bool(in_schema)
    assert server.asked == (1 if in_schema else 2), "what a server works with is not even moved"
    assert not (data_of(workspace) / DATA_DIRECTORY).exists()


@pytest.mark.parametrize("early", [False, True])
def test_what_raft_has_by_the_time_it_was_taken_back_is_put_back(
    workspace: Workspace, server: Server, early: bool
) -> None:
    directory = placed(workspace, "Article")
    data = moved(directory) if early else directory / "article"
    server.by_then = ("Article", "Book")
    released(workspace)
    assert server.asked == 2
    assert (data / "s0").is_dir()
    assert (data_of(workspace) / DATA_DIRECTORY / UID / JOURNAL).exists() is not early


@pytest.mark.parametrize("early", [False, True])
def test_it_is_not_put_back_beside_what_weaviate_made_meanwhile(
    workspace: Workspace, server: Server, early: bool
) -> None:
    directory = placed(workspace, "Article")
    if early:
        moved(directory)

    async def made_meanwhile() -> tuple[str, ...]:
        server.asked += 1
        if server.asked < 2:
            return ()
        (data_of(workspace) / "article" / "OTHERshard").mkdir(parents=True)
        return ("Article",)

    server.class_names = made_meanwhile  # type: ignore[method-assign]
    released(workspace)
    assert [each.name for each in (data_of(workspace) / "article").iterdir()] == ["OTHERshard"]
    assert not directory.exists()
    assert not (data_of(workspace) / DATA_DIRECTORY).exists()


def test_what_can_never_be_taken_any_more_goes(workspace: Workspace, server: Server) -> None:
    """The application made the collection before raft was told: each later restore of it would be refused."""
    directory = placed(workspace, "Article")
    (data_of(workspace) / "article" / "OTHERshard").mkdir(parents=True)
    server.collections = ("Article",)
    released(workspace)
    assert not directory.exists()
    assert (data_of(workspace) / "article" / "OTHERshard").exists()
    assert not (data_of(workspace) / DATA_DIRECTORY).exists()


def test_what_stays_placed_is_found_by_a_later_operation(workspace: Workspace, server: Server) -> None:
    """With late writes; what else the operation has there goes, since it takes space."""
    directory, own = placed(workspace, "Article"), Path(str(workspace.directory))
    for name in ("restore/Book/book/s0", f"{LATE}/Article", "frozen"):
        (own / name).mkdir(parents=True)
    (own / "file").write_bytes(b"x")
    server.collections = ("Article",)
    released(workspace)
    assert sorted(each.name for each in own.iterdir()) == [JOURNAL, LATE]
    os.utime(own / JOURNAL, (1, 1))
    own.rename(own.with_name("dead"))
    swept(workspace, server)
    assert directory.exists() and own.with_name("dead").exists(), "it may still be taken"
    server.collections = ()
    swept(workspace, server)
    assert not directory.exists() and not own.with_name("dead").exists()


def test_of_two_collections_each_goes_its_way(workspace: Workspace, server: Server) -> None:
    stays, goes = placed(workspace, "Article"), placed(workspace, "Book")
    server.collections = ("Article",)
    released(workspace)
    assert stays.exists() and not goes.exists()


def test_raft_is_asked_again_by_who_goes_on(
    workspace: Workspace, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A predecessor had taken it back, and was killed before it asked. Raft has it by now."""
    directory = placed(workspace, "Article")
    monkeypatch.setattr(releasing, "remove_operation", killed)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(releasing.take_back_and_remove(workspace, server, UID, [*workspace.journal.of("placed")]))  # type: ignore[arg-type]
    assert not directory.exists()
    monkeypatch.undo()
    monkeypatch.setattr(releasing, "RaftClient", lambda *_: server)
    server.collections = ("Article",)
    released(workspace)
    assert (directory / "article" / "s0").is_dir()


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("anything", [True, False])
def test_what_raft_may_be_about_to_take_stays_with_its_journal(
    workspace: Workspace, server: Server, anything: bool
) -> None:
    directory = placed(workspace, "Article") if anything else None
    released(workspace, keep_placed=True)
    assert directory is None or directory.exists()
    assert Path(str(workspace.directory)).exists() is anything


# Of dead operations


def swept(workspace: Workspace, server: Any) -> None:
    asyncio.run(sweep(workspace, server))


def died_in_a_cut(directory: Path) -> None:
    """Of the first shard; the second was let go of."""
    journal = directory / "journal.jsonl"
    last = journal.stat().st_mtime
    first, second = ({"kind": "cutting", "collection": collection, "shard": shard} for collection, shard in CUTS[:2])
    cut_then = {"driver": "d", "halt_seconds": 0.1, "object_count": None, "bytes": 1, "files": 1}
    done = {**second, **cut_then, "kind": "shard", "started_at": "", "ended_at": ""}
    with journal.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in (first, second, done))
    os.utime(journal, (last, last))


def test_a_new_operation_clears_the_server_and_the_volume_of_dead_ones(workspace: Workspace, server: Server) -> None:
    dead, other = (dead_operation(data_of(workspace), name) for name in ("dead", "more"))
    for directory in (dead, other):
        died_in_a_cut(directory)
    swept(workspace, server)
    assert server.opened == ["dead", "more"]
    assert server.released == 2 * CUTS[:1]
    assert not dead.exists() and not other.exists()


def died_in_a_replay(data: Path, *, captured: bool = True, placed: bool = True) -> Path:
    """Of shards `s0` and `s1` that were taken, while a replay into `s0` was under way; `s1` was done."""
    directory = dead_operation(data, "dead")
    for shard in ("s0", "s1"):
        (data / "article" / shard).mkdir(parents=True, exist_ok=True)
        late = directory / LATE / "Article" / shard
        late.parent.mkdir(parents=True, exist_ok=True)
        if captured:
            late.write_bytes(MAGIC + shard.encode())
    shards = {shard: (data / "article" / shard).stat().st_ino for shard in ("s0", "s1")}
    inodes = {"inode": 1, "data_inode": (data / "article").stat().st_ino, "shards": shards, "files": 2}
    records: list[dict[str, Any]] = [
        {"kind": "placed", "collection": "Article", **inodes},
        {"kind": "replaying", "collection": "Article", "shard": "s0"},
        {"kind": "replaying", "collection": "Article", "shard": "s1"},
        {"kind": "replayed", "collection": "Article", "shard": "s1"},
    ]
    append(directory / JOURNAL, records[0 if placed else 1 :])
    return directory


def append(journal: Path, records: Sequence[dict[str, Any]]) -> None:
    """It is as old as it was."""
    last = journal.stat().st_mtime
    with journal.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    os.utime(journal, (last, last))


def test_a_replay_that_was_cut_short_is_completed(workspace: Workspace, server: Server) -> None:
    """What it had deleted is put there again."""
    dead = died_in_a_replay(data_of(workspace))
    swept(workspace, server)
    assert server.replayed == [("Article", "s0", MAGIC + b"s0")]
    assert server.begun == [Begun(0, sys.maxsize)], "its journal does not say how far it came"
    assert not dead.exists()


@pytest.mark.parametrize("case", ["never placed", "another collection", "another shard", "nothing captured"])
def test_late_writes_go_into_the_very_shards_that_were_placed(workspace: Workspace, server: Server, case: str) -> None:
    data = data_of(workspace)
    died_in_a_replay(data, captured=case != "nothing captured", placed=case != "never placed")
    if case == "another collection":
        (data / "article").rename(data / "old")
        (data / "article").mkdir()
        (data / "old" / "s0").rename(data / "article" / "s0")
    elif case == "another shard":
        (data / "article" / "s0").rename(data / "old")
        (data / "article" / "s0").mkdir()
    swept(workspace, server)
    assert server.replayed == []


@pytest.mark.parametrize("status", ["HOT", "COLD"])
def test_late_writes_that_a_dead_one_never_began_with_are_replayed_unless_their_shard_sleeps(
    workspace: Workspace, server: Server, status: str
) -> None:
    data = data_of(workspace)
    dead = died_in_a_replay(data)
    (data / "article" / "s2").mkdir()
    (dead / LATE / "Article" / "s2").write_bytes(MAGIC)
    journal = dead / JOURNAL
    shards = {**_shards_in(journal), "s2": (data / "article" / "s2").stat().st_ino}
    append(journal, [{**_placed_in(journal), "shards": shards}])
    server.statuses["s2"] = status
    swept(workspace, server)
    assert {shard for _, shard, _ in server.replayed} == ({"s0", "s2"} if status == "HOT" else {"s0"})
    assert not dead.exists()


def _placed_in(journal: Path) -> dict[str, Any]:
    records = map(json.loads, journal.read_text().splitlines())
    return next(dict(record) for record in records if record["kind"] == "placed")


def _shards_in(journal: Path) -> dict[str, int]:
    return dict(_placed_in(journal)["shards"])


def test_one_whose_replay_cannot_be_completed_stays_and_is_in_nobodys_way(workspace: Workspace, server: Server) -> None:
    """And it is dead for the next one, too, though its journal was told what was replayed."""
    dead, other = died_in_a_replay(data_of(workspace)), dead_operation(data_of(workspace), "more")
    (data_of(workspace) / "article" / "s1").rename(data_of(workspace) / "old")
    server.statuses["s0"] = "COLD"
    last = (dead / JOURNAL).stat().st_mtime
    for _ in range(2):
        swept(workspace, server)
        assert (server.replayed, (dead / JOURNAL).stat().st_mtime) == ([], last)
    assert not other.exists()
    server.statuses["s0"] = "HOT"
    swept(workspace, server)
    assert not dead.exists()


def test_what_a_sweep_begins_is_begun_for_the_next_one(workspace: Workspace, server: Server) -> None:
    dead = died_in_a_replay(data_of(workspace))
    last = (dead / JOURNAL).stat().st_mtime
    server.refuses = Transient("ReplayFailed", "no")
    swept(workspace, server)
    told = [json.loads(line) for line in (dead / JOURNAL).read_text().splitlines()][-1]
    assert told == {"kind": "replaying", "collection": "Article", "shard": "s0", "done": 8, "doing": 8}
    assert (dead / JOURNAL).stat().st_mtime == last


def test_one_whose_cuts_are_still_held_keeps_its_journal(workspace: Workspace, server: Server) -> None:
    dead = dead_operation(data_of(workspace), "dead")
    died_in_a_cut(dead)
    server.failures = {CUTS[0]: Transient("ServerUnavailable", "no")}
    with pytest.raises(Transient):
        swept(workspace, server)
    assert dead.exists()


def test_what_a_dead_one_placed_of_a_collection_in_the_schema_stays(workspace: Workspace, server: Server) -> None:
    dead, temporary = dead_operation(data_of(workspace), "dead"), data_of(workspace) / ".backup.tmp"
    journal = dead / "journal.jsonl"
    last = journal.stat().st_mtime
    with journal.open("a") as file:
        for name in ("Article", "Book"):
            (temporary / name).mkdir(parents=True)
            record = {"kind": "placed", "collection": name, "inode": (temporary / name).stat().st_ino}
            file.write(json.dumps({**record, "data_inode": 0, "shards": {}, "files": 0}) + "\n")
    os.utime(journal, (last, last))
    server.collections = ("Article",)
    swept(workspace, server)
    assert [each.name for each in temporary.iterdir()] == ["Article"]
