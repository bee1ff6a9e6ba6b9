"""Nobody freezes by a schema of its own: the others wait for what the leader read."""

from dataclasses import replace

import pytest
from tests.core.backup_model import NODES, NOW, PLAN, UID

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.backup_machine import BackupRequest, BackupState, BackupWorld, decide_backup
from weaviate_backup.core.one_schema import by_one_schema, froze_by_others
from weaviate_backup.core.orders import AcquireLease, AgentPhase, AgentPod, Command, Lease, NodeState, TakeStep
from weaviate_backup.core.session import (
    Frozen,
    NodeReport,
    Step,
    StepCommand,
    StepPhase,
    StepReport,
    Surveyed,
    Uploaded,
)
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.world import World

LEADER = PLAN.leader
OTHERS = tuple(node for node in NODES if node != LEADER)
FROZEN = Frozen(collections=(), shards=0, bytes_total=0, files_total=0, longest_halt_seconds=0)
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


def report_of(node: str, schema: str) -> NodeReport:
    done = StepReport(phase=StepPhase.DONE)
    return NodeReport(
        operation_uid=UID,
        session_id="s",
        node=node,
        revision=1,
        steps={Step.FREEZE: done, Step.UPLOAD: done},
        surveyed=Surveyed(sha256=schema) if node == LEADER else None,
        frozen=FROZEN.model_copy(update={"schema_sha256": schema}),
        uploaded=Uploaded(manifest_sha256=node, objects=1, bytes_stored=1),
    )


@pytest.mark.parametrize("phase", [BackupPhase.PREPARING, BackupPhase.UPLOADING])
@pytest.mark.parametrize("by_others", [False, True])
def test_a_leader_that_reads_anew_ends_the_backup_whenever_it_does(phase: BackupPhase, by_others: bool) -> None:
    reports = {node: report_of(node, "old" if by_others and node != LEADER else "new") for node in NODES}
    nodes = tuple(NodeState(name=node, phase=NodePhase.FROZEN, session="s") for node in NODES)
    pods = {node: AgentPod(AgentPhase.RUNNING) for node in NODES}
    seen = World(Agents(operation_uid=UID, pods=pods, reports=reports, troubles={}), Lease.OURS)
    state = BackupState(phase=phase, phase_since=NOW, wrote=True, nodes=nodes)
    request = BackupRequest(uid=UID, created_at=NOW, timeout_seconds=3600)
    decided = decide_backup(request, state, BackupWorld(agents=seen.agents, lease=seen.lease, plan=PLAN), NOW).state
    if by_others:
        assert (decided.phase, decided.reason) == (BackupPhase.ABORTING, "SchemaChanged")
    else:
        assert decided.phase is (BackupPhase.UPLOADING if phase is BackupPhase.PREPARING else BackupPhase.FINALIZING)


@pytest.mark.parametrize(("frozen_by", "refused"), [("abc", False), ("", False), ("before", True)])
def test_nodes_that_froze_by_two_readings_are_no_backup(frozen_by: str, refused: bool) -> None:
    seen = world(StepPhase.DONE, "abc")
    other = NodeReport(
        operation_uid=UID,
        session_id="s",
        node=OTHERS[0],
        revision=1,
        frozen=FROZEN.model_copy(update={"schema_sha256": frozen_by}),
    )
    seen = replace(seen, agents=replace(seen.agents, reports={**seen.agents.reports, OTHERS[0]: other}))
    found = froze_by_others(PLAN, seen)
    assert (found is not None) is refused
    if found is not None:
        assert (found.reason, found.transient) == ("SchemaChanged", False)
        assert f"{OTHERS[0]} froze by another reading of the schema than {LEADER}" in found.message
    assert froze_by_others(PLAN, world(StepPhase.DONE, None)) is None
