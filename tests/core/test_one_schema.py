"""Nobody freezes by a schema of its own: the others wait for what the leader read."""

from dataclasses import replace

import pytest
from tests.core.backup_model import NODES, PLAN, UID

from weaviate_backup.core.one_schema import by_one_schema, froze_by_others
from weaviate_backup.core.orders import AcquireLease, Command, Lease, TakeStep
from weaviate_backup.core.session import Frozen, NodeReport, Step, StepCommand, StepPhase, StepReport, Surveyed
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.world import World

LEADER = PLAN.leader
OTHERS = tuple(node for node in NODES if node != LEADER)
FREEZES: list[Command] = [TakeStep(node, StepCommand(operation_uid=UID, step=Step.FREEZE)) for node in NODES]
OTHER_COMMANDS: list[Command] = [AcquireLease(), TakeStep(OTHERS[0], StepCommand(operation_uid=UID, step=Step.UPLOAD))]


def world(freeze: StepPhase | None, surveyed: str | None) -> World:
    report = NodeReport(
        operation_uid=UID,
        session_id="s",
        node=LEADER,
        revision=1,
        steps={} if freeze is None else {Step.FREEZE: StepReport(phase=freeze)},
        surveyed=None if surveyed is None else Surveyed(sha256=surveyed),
    )
    return World(Agents(operation_uid=UID, pods={}, reports={LEADER: report}, troubles={}), Lease.OURS)


@pytest.mark.parametrize("freeze", [None, StepPhase.RUNNING])
def test_the_others_wait_until_it_is_read(freeze: StepPhase | None) -> None:
    assert list(by_one_schema([*FREEZES, *OTHER_COMMANDS], PLAN, world(freeze, None), wait=True)) == [
        FREEZES[0],
        *OTHER_COMMANDS,
    ]


def test_the_others_wait_for_a_leader_that_nobody_reaches() -> None:
    nobody = replace(world(None, None), agents=Agents(operation_uid=UID, pods={}, reports={}, troubles={}))
    assert list(by_one_schema(FREEZES, PLAN, nobody, wait=True)) == [FREEZES[0]]


@pytest.mark.parametrize("freeze", [StepPhase.RUNNING, StepPhase.DONE])
def test_the_others_are_told_which_it_is(freeze: StepPhase) -> None:
    leader, *others = by_one_schema(FREEZES, PLAN, world(freeze, "abc"), wait=True)
    assert leader == FREEZES[0]
    told = [each.command.schema_sha256 for each in others if isinstance(each, TakeStep)]
    assert told == ["abc"] * len(OTHERS)


def test_agents_of_an_earlier_version_go_on_as_they_did() -> None:
    assert list(by_one_schema(FREEZES, PLAN, world(StepPhase.DONE, None), wait=True)) == FREEZES


def test_who_may_have_frozen_already_does_not_wait() -> None:
    """An agent that is there again, while the leader is not: its frozen set needs nothing."""
    assert list(by_one_schema(FREEZES, PLAN, world(None, None), wait=False)) == FREEZES


@pytest.mark.parametrize(("frozen_by", "refused"), [("abc", False), ("", False), ("before", True)])
def test_nodes_that_froze_by_two_readings_are_no_backup(frozen_by: str, refused: bool) -> None:
    seen = world(StepPhase.DONE, "abc")
    frozen = Frozen(collections=(), shards=0, bytes_total=0, files_total=0, longest_halt_seconds=0)
    other = NodeReport(
        operation_uid=UID,
        session_id="s",
        node=OTHERS[0],
        revision=1,
        frozen=frozen.model_copy(update={"schema_sha256": frozen_by}),
    )
    seen = replace(seen, agents=replace(seen.agents, reports={**seen.agents.reports, OTHERS[0]: other}))
    found = froze_by_others(PLAN, seen)
    assert (found is not None) is refused
    if found is not None:
        assert (found.reason, found.transient) == ("SchemaChanged", False)
        assert f"{OTHERS[0]} froze by another reading of the schema than {LEADER}" in found.message
    assert froze_by_others(PLAN, world(StepPhase.DONE, None)) is None
