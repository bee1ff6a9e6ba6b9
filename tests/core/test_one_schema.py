"""Nobody freezes by a schema of its own: the others wait for what the leader read."""

from dataclasses import replace

import pytest
from tests.core.backup_model import NODES, PLAN, UID

from weaviate_backup.core.one_schema import by_one_schema
from weaviate_backup.core.orders import AcquireLease, Command, Lease, TakeStep
from weaviate_backup.core.session import NodeReport, Step, StepCommand, StepPhase, StepReport, Surveyed
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
    assert list(by_one_schema([*FREEZES, *OTHER_COMMANDS], PLAN, world(freeze, None))) == [FREEZES[0], *OTHER_COMMANDS]


def test_the_others_wait_for_a_leader_that_nobody_reaches() -> None:
    nobody = replace(world(None, None), agents=Agents(operation_uid=UID, pods={}, reports={}, troubles={}))
    assert list(by_one_schema(FREEZES, PLAN, nobody)) == [FREEZES[0]]


@pytest.mark.parametrize("freeze", [StepPhase.RUNNING, StepPhase.DONE])
def test_the_others_are_told_which_it_is(freeze: StepPhase) -> None:
    leader, *others = by_one_schema(FREEZES, PLAN, world(freeze, "abc"))
    assert leader == FREEZES[0]
    told = [each.command.schema_sha256 for each in others if isinstance(each, TakeStep)]
    assert told == ["abc"] * len(OTHERS)


def test_agents_of_an_earlier_version_go_on_as_they_did() -> None:
    assert list(by_one_schema(FREEZES, PLAN, world(StepPhase.DONE, None))) == FREEZES
