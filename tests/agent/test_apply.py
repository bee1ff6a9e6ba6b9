"""APPLY without a server: what raft is told once, what is somebody else's, and what becomes of a lost answer."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.agent.small_restore import Restore, stock

from weaviate_backup.agent import apply as applying
from weaviate_backup.agent.aliases import apply_aliases
from weaviate_backup.agent.apply import SoFar, _apply_class, mapped_state
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import Step, StepCommand
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.stored.backup_reading import RestoredClass
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import to_its_end

TENANTS = {"multiTenancyConfig": {"enabled": True}}
CLASS = {"class": "Article", "properties": [{"name": "title", "dataType": ["text"]}], "vectorIndexType": "hnsw"}
ON_N0 = {"belongsToNode": "n0", "status": "HOT"}
STATE = {"physical": {"kJ3hZ8sQwE1x": {"name": "kJ3hZ8sQwE1x", **ON_N0}}}
ARTICLE = RestoredClass("Article", CLASS, STATE, ("News", "Paper"))
TENANTED = RestoredClass(
    "Article",
    {**CLASS, **TENANTS},
    {"partitioningEnabled": True, "physical": {"a": {"name": "a", **ON_N0}, "b": {"name": "b", **ON_N0}}},
    (),
)
EMPTY = RestoredClass("Article", {**CLASS, **TENANTS}, {"partitioningEnabled": True, "physical": {}}, ())
Seen = tuple[Mapping[str, Any], Mapping[str, Any]]
LOST = Transient("RaftOutcomeUnknown", "no answer")
EXISTS = Permanent("CollectionExists", "class name Article already exists")


def sent(restored: RestoredClass, **changes: Mapping[str, Any]) -> Seen:
    """The class and state that raft has when it took it; `changes` of shards since then."""
    state = mapped_state(restored.state, {"n0": "weaviate-0"})
    return restored.class_json, {**state, "physical": {**state["physical"], **changes}}


def made_by_others(restored: RestoredClass, *shards: str, node: str = "weaviate-0") -> Seen:
    physical = {name: {"name": name, "belongsToNodes": [node]} for name in shards}
    return restored.class_json, {**restored.state, "physical": physical}


class Raft:
    """What it was told. `failure`: given instead of its answer, after it has done it when `lost`. `seen`: the
    collection that it has; `quicker`: another, which somebody makes before it comes to the command."""

    def __init__(
        self,
        *there: str,
        failure: BackupError | None = None,
        lost: bool = False,
        seen: Seen | None = None,
        quicker: str = "",
    ) -> None:
        self.there = set(there)
        self.failure = failure
        self.lost = lost
        self.seen = seen
        self.quicker = quicker
        self.told: list[tuple[str, ...]] = []
        self.states: list[Mapping[str, Any]] = []
        self.standing: dict[str, str] = {}

    async def __aenter__(self) -> "Raft":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def class_names(self) -> tuple[str, ...]:
        return tuple(sorted(self.there))

    async def aliases(self) -> dict[str, str]:
        return dict(self.standing)

    async def snapshot(self, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
        if name not in self.there or self.seen is None:
            raise Permanent("CollectionNotFound", name)
        return *self.seen, 1

    async def restore_class(self, name: str, class_json: Mapping[str, Any], state: Mapping[str, Any]) -> int:
        self.told.append(("restore", name))
        self.states.append(state)
        self.there |= {self.quicker} - {""}
        if self.failure is None or self.lost:
            self.there.add(name)
            self.seen = class_json, state
        if self.failure is not None:
            raise self.failure
        return 7

    async def delete_alias(self, alias: str) -> int:
        self.told.append(("delete", alias))
        self.standing.pop(alias, None)
        return 1

    async def create_alias(self, alias: str, collection: str) -> int:
        self.told.append(("create", alias, collection))
        if any(each.lower() == alias.lower() for each in self.standing):
            raise Permanent("AliasExists", f"alias {alias} exists")
        self.standing[alias] = collection
        return 1


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Restore(tmp_path / "node", stock(tmp_path)).workspace
    order = workspace.order.model_copy(
        update={"work": workspace.restore.model_copy(update={"node_mapping": {"n0": "weaviate-0"}})}
    )
    return Workspace(workspace.settings, order, workspace.journal)


def applied(workspace: Workspace, raft: Any, restored: RestoredClass = ARTICLE) -> int:
    return asyncio.run(_apply_class(workspace, raft, restored, so_far=SoFar.told_by(workspace.journal)))


def kinds(workspace: Workspace) -> list[str]:
    return [record["kind"] for record in workspace.journal.of("applying", "applied")]


def test_a_collection_is_told_to_raft_once_and_with_the_targets_nodes(workspace: Workspace) -> None:
    raft = Raft()
    assert applied(workspace, raft) == 7
    assert applied(workspace, raft) == 7, "its index is remembered"
    assert raft.told == [("restore", "Article")]
    assert kinds(workspace) == ["applying", "applied"]
    (state,) = raft.states
    (shard,) = state["physical"].values()
    assert shard == {"name": "kJ3hZ8sQwE1x", "status": "HOT", "belongsToNodes": ["weaviate-0"]}


def test_a_collection_that_is_there_already_is_somebody_elses(workspace: Workspace) -> None:
    raft = Raft("Article", seen=sent(ARTICLE))
    workspace.journal.append("applying", collection="Book")
    workspace.journal.append("applied", collection="Book", index=3)
    with pytest.raises(Permanent, match=r"CollectionExists: collection 'Article' exists already"):
        applied(workspace, raft)
    assert raft.told == []
    assert [record["collection"] for record in workspace.journal.of("applying")] == ["Book"]


def test_a_collection_that_was_being_applied_when_its_agent_died_is_ours(workspace: Workspace) -> None:
    raft = Raft("Article", seen=sent(ARTICLE))
    workspace.journal.append("applying", collection="Article")
    assert applied(workspace, raft) == 0
    assert raft.told == [], "it is not told again"
    assert kinds(workspace) == ["applying", "applied"]


def test_a_lost_answer_is_looked_for_in_the_schema(workspace: Workspace) -> None:
    with pytest.raises(Transient, match="RaftOutcomeUnknown"):
        applied(workspace, Raft(failure=LOST))
    assert kinds(workspace) == ["applying"]
    assert applied(workspace, Raft(failure=LOST, lost=True)) == 0
    assert kinds(workspace)[-1] == "applied"


def test_what_a_server_asked_for_twice_by_itself_is_ours(workspace: Workspace) -> None:
    assert applied(workspace, Raft(failure=EXISTS, lost=True)) == 0
    assert kinds(workspace)[-1] == "applied"


@pytest.mark.parametrize("failure", [LOST, EXISTS], ids=["without an answer", "refused"])
def test_what_another_made_at_the_same_time_is_not_taken_for_ours(workspace: Workspace, failure: BackupError) -> None:
    raft = Raft(failure=failure, quicker="Article", seen=made_by_others(ARTICLE, "p0Lm2nB4vC6x"))
    with pytest.raises(Permanent, match=r"CollectionExists: .* by somebody else .*: it has no shard kJ3hZ8sQwE1x"):
        applied(workspace, raft)
    assert "applied" not in kinds(workspace)


def test_what_another_made_after_an_attempt_without_an_answer_is_not_ours(workspace: Workspace) -> None:
    workspace.journal.append("applying", collection="Article")
    raft = Raft("Article", seen=made_by_others(ARTICLE, "p0Lm2nB4vC6x"))
    with pytest.raises(Permanent, match=r"it has no shard kJ3hZ8sQwE1x; delete it and restore again"):
        applied(workspace, raft)
    assert raft.told == []


def test_what_raft_took_from_an_attempt_that_died_is_ours(workspace: Workspace) -> None:
    """It was not in the schema yet when this attempt looked."""
    workspace.journal.append("applying", collection="Article")
    assert applied(workspace, Raft(failure=EXISTS, quicker="Article", seen=sent(ARTICLE))) == 0
    assert kinds(workspace)[-1] == "applied"


class Deleted(Raft):
    """The collection is deleted between the look at names and the one at its definition."""

    async def snapshot(self, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
        self.there.discard(name)
        return await super().snapshot(name)


def test_one_that_was_deleted_again_is_asked_for_again(workspace: Workspace) -> None:
    workspace.journal.append("applying", collection="Article")
    assert applied(workspace, Deleted("Article", seen=sent(ARTICLE))) == 7


def test_another_refusal_is_one_even_if_the_collection_is_there(workspace: Workspace) -> None:
    refusal = Permanent("RaftRefused", "no")
    with pytest.raises(Permanent, match="RaftRefused"):
        applied(workspace, Raft(failure=refusal, quicker="Article", seen=sent(ARTICLE)))


OURS: dict[str, tuple[RestoredClass, Seen]] = {
    "a replica moved": (ARTICLE, made_by_others(ARTICLE, "kJ3hZ8sQwE1x", node="weaviate-1")),
    "all tenants": (TENANTED, sent(TENANTED)),
    "a tenant that fell asleep": (TENANTED, sent(TENANTED, a={"belongsToNodes": ["weaviate-0"], "status": "COLD"})),
    "a tenant more": (TENANTED, sent(TENANTED, c={"belongsToNodes": ["weaviate-2"]})),
    "none had been sent": (EMPTY, sent(EMPTY)),
    "none had been sent, one was made": (EMPTY, made_by_others(EMPTY, "c")),
}
ANOTHERS: dict[str, tuple[RestoredClass, Seen, str]] = {
    "other tenants": (TENANTED, made_by_others(TENANTED, "a"), "it has no tenant b"),
    "tenants elsewhere": (
        TENANTED,
        made_by_others(TENANTED, "a", "b", node="weaviate-1"),
        "tenant a is on weaviate-1, not on weaviate-0",
    ),
    "another definition": (
        TENANTED,
        ({**TENANTED.class_json, "vectorIndexType": "flat"}, sent(TENANTED)[1]),
        "vectorIndexType is 'hnsw' and 'flat'",
    ),
    "none had been sent, and a property is missing": (
        EMPTY,
        ({**EMPTY.class_json, "properties": None}, EMPTY.state),
        "properties.title.dataType is in one of them alone",
    ),
}


@pytest.mark.parametrize("kind", OURS)
def test_what_has_all_that_was_sent_is_ours(workspace: Workspace, kind: str) -> None:
    restored, seen = OURS[kind]
    workspace.journal.append("applying", collection="Article")
    assert applied(workspace, Raft("Article", seen=seen), restored) == 0


@pytest.mark.parametrize("kind", ANOTHERS)
def test_what_has_not_is_somebody_elses(workspace: Workspace, kind: str) -> None:
    restored, seen, why = ANOTHERS[kind]
    workspace.journal.append("applying", collection="Article")
    with pytest.raises(Permanent) as caught:
        applied(workspace, Raft("Article", seen=seen), restored)
    assert caught.value.reason == "CollectionExists"
    assert why in caught.value.message
    assert "applied" not in kinds(workspace)


def placed(workspace: Workspace, *, taken: bool) -> Path:
    """A collection that was placed, with the journal's record of it. Returns the data root."""
    root = Path(str(workspace.data_root))
    ready = root / ".backup.tmp" / "Article"
    (ready / "article").mkdir(parents=True)
    inode, data_inode = ready.stat().st_ino, (ready / "article").stat().st_ino
    workspace.journal.append("placed", collection="Article", inode=inode, data_inode=data_inode, shards={}, files=0)
    workspace.journal.append("applying", collection="Article")
    if taken:
        (ready / "article").rename(root / "article")
        ready.rmdir()
    return root


def test_tenants_that_were_deleted_since_do_not_make_it_anothers(workspace: Workspace) -> None:
    """This node's Weaviate uses the very directory that was placed."""
    placed(workspace, taken=True)
    assert applied(workspace, Raft("Article", seen=made_by_others(TENANTED, "b")), TENANTED) == 0


def test_a_node_that_lags_behind_raft_says_nothing_against_it(workspace: Workspace) -> None:
    placed(workspace, taken=False)
    assert applied(workspace, Raft("Article", seen=sent(TENANTED)), TENANTED) == 0


def test_one_with_the_same_tenants_that_does_not_use_what_was_placed_is_anothers(workspace: Workspace) -> None:
    (placed(workspace, taken=False) / "article").mkdir()
    with pytest.raises(Permanent, match=r"CollectionExists: .* does not use the files that were placed for it"):
        applied(workspace, Raft("Article", seen=sent(TENANTED)), TENANTED)


def test_the_shards_of_one_without_tenants_say_more_than_the_disk(workspace: Workspace) -> None:
    """It is ours without its files, on a node that caught up with raft: CONFIRM says so."""
    (placed(workspace, taken=False) / "article").mkdir()
    assert applied(workspace, Raft("Article", seen=sent(ARTICLE))) == 0


@pytest.mark.parametrize(
    ("collections", "aliases", "said"),
    [
        (("ARTICLE",), {}, "collection 'Article' exists as 'ARTICLE', and case does not tell them apart"),
        (("Book",), {"aRTICLE": "Book"}, "collection 'Article' has the name of alias 'aRTICLE' of 'Book'"),
    ],
)
def test_a_name_that_came_into_use_since_the_plan_is_refused_in_any_spelling(
    workspace: Workspace, collections: tuple[str, ...], aliases: dict[str, str], said: str
) -> None:
    """Servers before 1.38.3 would put both collections into one directory."""
    raft = Raft(*collections)
    raft.standing = aliases
    with pytest.raises(Permanent) as caught:
        applied(workspace, raft)
    assert said in caught.value.message
    assert f"delete {'ARTICLE' if not aliases else 'aRTICLE'!r} or exclude 'Article'" in caught.value.message
    assert (raft.told, kinds(workspace)) == ([], [])


def both_applied(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, raft: Raft) -> None:
    """APPLY of two collections."""
    classes = [ARTICLE, RestoredClass("Book", {"class": "Book"}, {"physical": {}}, ())]
    monkeypatch.setattr(applying, "RaftClient", lambda *_: raft)
    monkeypatch.setattr(applying, "_read", lambda *_: (classes, None))
    command = StepCommand(operation_uid="u", step=Step.APPLY, collections=("Article", "Book"))
    asyncio.run(applying.apply(workspace, command, Meter()))


def test_nothing_is_made_known_when_a_name_is_in_use_before(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    raft = Raft("BOOK")
    with pytest.raises(Permanent, match="exists as 'BOOK'"):
        both_applied(workspace, monkeypatch, raft)
    assert raft.told == []


def test_names_are_looked_at_anew_before_each_collection(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application made it while the first was restored."""
    raft = Raft(quicker="BOOK")
    with pytest.raises(Permanent, match="exists as 'BOOK'"):
        both_applied(workspace, monkeypatch, raft)
    assert raft.told == [("restore", "Article")]


def test_states_of_every_version_are_given_in_the_form_that_all_read() -> None:
    state = {
        "physical": {"a": {"belongsToNode": "n0"}, "b": {"belongsToNodes": ["n0", "n1"], "status": "COLD"}},
        "replicationFactor": 3,
    }
    assert mapped_state(state, {"n0": "m0"}) == {
        "physical": {"a": {"belongsToNodes": ["m0"]}, "b": {"belongsToNodes": ["m0", "n1"], "status": "COLD"}},
        "replicationFactor": 3,
    }
    assert mapped_state({}, {}) == {"physical": {}, "replicationFactor": 1}


NEW = [("create", "News", "Article"), ("create", "Paper", "Article")]


@pytest.mark.parametrize(
    ("there", "overwrite", "told", "made", "kept"),
    [
        ({}, False, NEW, ("News", "Paper"), ()),
        ({"News": "Book"}, False, NEW[1:], ("Paper",), ("News",)),
        ({"News": "Book"}, True, [("delete", "News"), *NEW], ("News", "Paper"), ()),
        ({"NEWS": "Book"}, False, NEW[1:], ("Paper",), ("News",)),
        ({"NEWS": "Book"}, True, [("delete", "NEWS"), *NEW], ("News", "Paper"), ()),
        ({"NEWS": "Article"}, True, NEW[1:], ("News", "Paper"), ()),
        ({"News": "Article"}, True, NEW[1:], ("News", "Paper"), ()),
        ({"News": "Article", "Paper": "Article"}, False, [], ("News", "Paper"), ()),
    ],
    ids=[
        "none there",
        "another's stays",
        "another's moves",
        "another's stays in its spelling",
        "another's moves from its spelling",
        "ours in another spelling",
        "ours stays",
        "all of an earlier attempt",
    ],
)
def test_aliases_are_made_or_left_as_wished(
    there: dict[str, str],
    overwrite: bool,
    told: list[tuple[str, ...]],
    made: tuple[str, ...],
    kept: tuple[str, ...],
) -> None:
    raft: Any = Raft("Article", "Book")
    raft.standing = there
    assert asyncio.run(apply_aliases(raft, [ARTICLE], overwrite=overwrite)) == (made, kept)
    assert raft.told == told


def test_an_alias_with_the_name_of_a_collection_is_left_out() -> None:
    """The application made it when all was restored already."""
    raft: Any = Raft("Article", "NEWS")
    raft.standing = {"Paper": "Article"}
    assert asyncio.run(apply_aliases(raft, [ARTICLE], overwrite=True)) == (("Paper",), ("News",))
    assert raft.told == []


class Quicker(Raft):
    """The application makes the alias, in its spelling, before we do, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__("Article", "Book")
        self.times = times

    async def create_alias(self, alias: str, collection: str) -> int:
        if self.times:
            self.times -= 1
            self.standing["NEWS"] = "Book"
        return await super().create_alias(alias, collection)


@pytest.mark.parametrize(
    ("times", "overwrite", "stands_for"), [(1, False, "Book"), (1, True, "Article"), (99, True, "Book")]
)
def test_an_alias_that_others_make_at_the_same_time_fails_nothing(times: int, overwrite: bool, stands_for: str) -> None:
    raft: Any = Quicker(times)
    alone = RestoredClass("Article", {}, {}, ("News",))
    made, kept = asyncio.run(apply_aliases(raft, [alone], overwrite=overwrite))
    assert (made, kept) == ((("News",), ()) if stands_for == "Article" else ((), ("News",)))
    assert {each.lower(): target for each, target in raft.standing.items()} == {"news": stands_for}


def test_another_failure_of_an_alias_is_one() -> None:
    raft: Any = Raft("Article")

    async def gone(*_: str) -> int:
        raise Permanent("CollectionNotFound", "class Article does not exist")

    raft.create_alias = gone
    with pytest.raises(Permanent, match="CollectionNotFound"):
        asyncio.run(apply_aliases(raft, [ARTICLE], overwrite=False))


def test_who_is_told_to_end_waits_for_what_raft_is_about_to_take() -> None:
    async def scene() -> list[str]:
        happened: list[str] = []
        go = asyncio.Event()

        async def command() -> None:
            await go.wait()
            happened.append("taken")
            raise Transient("RaftOutcomeUnknown", "and nobody asks for it")

        work = asyncio.ensure_future(to_its_end(command()))
        await asyncio.sleep(0)
        work.cancel()
        await asyncio.sleep(0)
        assert not work.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await work
        return happened

    assert asyncio.run(scene()) == ["taken"]
