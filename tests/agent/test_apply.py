"""APPLY without a server: what raft is told once, what is somebody else's, and what becomes of a lost answer."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.agent.small_restore import Restore, stock

from weaviate_backup.agent.apply import SoFar, _apply_aliases, _apply_class, mapped_state
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.stored.backup_reading import RestoredClass
from weaviate_backup.tasks import to_its_end

STATE = {"physical": {"s0": {"name": "s0", "belongsToNode": "n0", "status": "HOT"}}, "partitioningEnabled": True}
ARTICLE = RestoredClass("Article", {"class": "Article"}, STATE, ("News", "Paper"))


class Raft:
    """What it was told; `failure` instead of its answer, which comes after it has done it when `lost`."""

    def __init__(self, *there: str, failure: BackupError | None = None, lost: bool = False) -> None:
        self.there = set(there)
        self.failure = failure
        self.lost = lost
        self.told: list[tuple[str, ...]] = []
        self.states: list[Mapping[str, Any]] = []
        self.aliases: dict[str, str] = {}

    async def class_names(self) -> tuple[str, ...]:
        return tuple(sorted(self.there))

    async def restore_class(self, name: str, class_json: Mapping[str, Any], state: Mapping[str, Any]) -> int:
        self.told.append(("restore", name))
        self.states.append(state)
        if self.failure is None or self.lost:
            self.there.add(name)
        if self.failure is not None:
            raise self.failure
        return 7

    async def resolve_alias(self, alias: str) -> str | None:
        return self.aliases.get(alias)

    async def delete_alias(self, alias: str) -> int:
        self.told.append(("delete", alias))
        return 1

    async def create_alias(self, alias: str, collection: str) -> int:
        self.told.append(("create", alias, collection))
        return 1


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Restore(tmp_path / "node", stock(tmp_path)).workspace
    order = workspace.order.model_copy(
        update={"work": workspace.restore.model_copy(update={"node_mapping": {"n0": "weaviate-0"}})}
    )
    return Workspace(workspace.settings, order, workspace.journal)


def applied(workspace: Workspace, raft: Any, *, exists: bool = False) -> int:
    so_far = SoFar.told_by(workspace.journal)
    return asyncio.run(_apply_class(workspace, raft, ARTICLE, exists=exists, so_far=so_far))


def kinds(workspace: Workspace) -> list[str]:
    return [record["kind"] for record in workspace.journal.of("applying", "applied")]


def test_a_collection_is_told_to_raft_once_and_with_the_targets_nodes(workspace: Workspace) -> None:
    raft = Raft()
    assert applied(workspace, raft) == 7
    assert applied(workspace, raft, exists=True) == 7, "its index is remembered"
    assert raft.told == [("restore", "Article")]
    assert kinds(workspace) == ["applying", "applied"]
    (state,) = raft.states
    assert state["physical"] == {"s0": {"name": "s0", "status": "HOT", "belongsToNodes": ["weaviate-0"]}}


def test_a_collection_that_is_there_already_is_somebody_elses(workspace: Workspace) -> None:
    raft = Raft("Article")
    workspace.journal.append("applying", collection="Book")
    workspace.journal.append("applied", collection="Book", index=3)
    with pytest.raises(Permanent, match=r"CollectionExists: collection 'Article' exists already"):
        applied(workspace, raft, exists=True)
    assert raft.told == []
    assert [record["collection"] for record in workspace.journal.of("applying")] == ["Book"]


def test_a_collection_that_was_being_applied_when_its_agent_died_is_ours(workspace: Workspace) -> None:
    raft = Raft("Article")
    workspace.journal.append("applying", collection="Article")
    assert applied(workspace, raft, exists=True) == 0
    assert raft.told == [], "it is not told again"
    assert kinds(workspace) == ["applying", "applied"]


def test_a_lost_answer_is_looked_for_in_the_schema(workspace: Workspace) -> None:
    answer = Transient("RaftOutcomeUnknown", "no answer")
    with pytest.raises(Transient, match="RaftOutcomeUnknown"):
        applied(workspace, Raft(failure=answer))
    assert kinds(workspace) == ["applying"]
    assert applied(workspace, Raft(failure=answer, lost=True)) == 0
    assert kinds(workspace)[-1] == "applied"


def test_what_another_made_at_the_same_time_is_not_taken_for_ours(workspace: Workspace) -> None:
    refusal = Permanent("CollectionExists", "another was quicker")
    with pytest.raises(Permanent, match="CollectionExists"):
        applied(workspace, Raft("Article", failure=refusal))
    assert "applied" not in kinds(workspace)


def test_what_raft_took_from_an_attempt_that_died_is_ours(workspace: Workspace) -> None:
    """It was not in the schema yet when this attempt looked."""
    workspace.journal.append("applying", collection="Article")
    refusal = Permanent("CollectionExists", "it is there by now")
    assert applied(workspace, Raft("Article", failure=refusal)) == 0
    assert kinds(workspace)[-1] == "applied"


def test_another_refusal_is_one_even_if_the_collection_is_there(workspace: Workspace) -> None:
    workspace.journal.append("applying", collection="Article")
    with pytest.raises(Permanent, match="RaftRefused"):
        applied(workspace, Raft("Article", failure=Permanent("RaftRefused", "no")))


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


@pytest.mark.parametrize(
    ("there", "overwrite", "told", "made", "kept"),
    [
        ({}, False, [("create", "News", "Article"), ("create", "Paper", "Article")], ("News", "Paper"), ()),
        ({"News": "Book"}, False, [("create", "Paper", "Article")], ("Paper",), ("News",)),
        (
            {"News": "Book"},
            True,
            [("delete", "News"), ("create", "News", "Article"), ("create", "Paper", "Article")],
            ("News", "Paper"),
            (),
        ),
        ({"News": "Article"}, True, [("create", "Paper", "Article")], ("News", "Paper"), ()),
        ({"News": "Article", "Paper": "Article"}, False, [], ("News", "Paper"), ()),
    ],
    ids=["none there", "another's stays", "another's moves", "ours stays", "all of an earlier attempt"],
)
def test_aliases_are_made_or_left_as_wished(
    there: dict[str, str],
    overwrite: bool,
    told: list[tuple[str, ...]],
    made: tuple[str, ...],
    kept: tuple[str, ...],
) -> None:
    raft: Any = Raft()
    raft.aliases = there
    assert asyncio.run(_apply_aliases(raft, [ARTICLE], overwrite=overwrite)) == (made, kept)
    assert raft.told == told


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
