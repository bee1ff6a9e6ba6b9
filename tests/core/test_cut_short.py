"""What ends an operation before its time, by name: what it needs is lost, an agent cannot go on, or time is up.

The explorations prove that every state has some way to an end. Here it is the right one, at once, with its reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

import pytest
from tests.core.backup_model import NODES, NOW, PLAN, REFUSED, UID
from tests.core.test_exploration_restore import PLAN as RESTORE_PLAN

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.restore import RestorePhase
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.backup_machine import (
    PREPARING_SECONDS,
    BackupDecision,
    BackupRequest,
    BackupState,
    BackupWorld,
    decide_backup,
)
from weaviate_backup.core.orders import (
    AGENT_LOST_SECONDS,
    AGENT_START_SECONDS,
    STORE_WORKER,
    AcquireLease,
    AgentPhase,
    AgentPod,
    Lease,
    NodeState,
    Outcome,
    Reports,
    TakeStep,
    Unreachable,
)
from weaviate_backup.core.restore_machine import (
    RestoreDecision,
    RestoreRequest,
    RestoreState,
    RestoreWorld,
    decide_restore,
)
from weaviate_backup.core.session import Failure, NodeReport, Step, StepPhase, StepReport, Verified
from weaviate_backup.core.stepping import Agents

TIMEOUT_SECONDS = 7200
RUNNING = AgentPod(phase=AgentPhase.RUNNING, created_at=NOW)
AT_WORK = StepReport(phase=StepPhase.RUNNING)
SILENT = Unreachable(reason="AgentUnreachable", message="no route to host")
STARTED = tuple(NodeState(name, phase=NodePhase.STARTING, session="s") for name in NODES)
Decision = BackupDecision | RestoreDecision
TO_LOSE = (
    (BackupPhase.PREPARING, Step.FREEZE),
    (BackupPhase.UPLOADING, Step.UPLOAD),
    (RestorePhase.VALIDATING, Step.INSPECT),
    (RestorePhase.DOWNLOADING, Step.DOWNLOAD),
)
"""Phases in which nothing is done yet that could not be taken back, with what agents are at."""
after_a_phase = pytest.mark.parametrize(("phase", "step"), TO_LOSE, ids=[str(phase) for phase, _ in TO_LOSE])


def answer(name: str, step: Step, report: StepReport = AT_WORK, **facts: object) -> NodeReport:
    done = StepReport(phase=StepPhase.DONE)
    steps = {Step.FREEZE: done, step: report} if step is Step.UPLOAD else {step: report}
    said = {"operation_uid": UID, "session_id": "s", "node": name, "revision": 1, "steps": steps, **facts}
    return NodeReport.model_validate(said)


def at_work(step: Step) -> dict[str, NodeReport | Unreachable]:
    return {name: answer(name, step) for name in NODES}


def decide(
    phase: BackupPhase | RestorePhase,
    reports: Reports,
    *,
    nodes: tuple[NodeState, ...] = STARTED,
    pods: Mapping[str, AgentPod] | None = None,
    lease: Lease = Lease.OURS,
    failed: Failure | None = None,
    planned: bool = True,
    now: datetime = NOW,
    **state: object,
) -> Decision:
    """One tick of either machine, in that phase since NOW."""
    seen = Agents(operation_uid=UID, pods=pods or dict.fromkeys(reports, RUNNING), reports=reports, troubles={})
    told: dict[type, Failure] = {AcquireLease: failed} if failed else {}
    if isinstance(phase, BackupPhase):
        backup = BackupWorld(
            agents=seen, lease=lease, lease_holder="b/other", plan=PLAN if planned else None, failed=told
        )
        wanted = BackupRequest(uid=UID, created_at=NOW, timeout_seconds=TIMEOUT_SECONDS)
        remembered = replace(BackupState(phase=phase, phase_since=NOW, nodes=nodes), **state)  # type: ignore[arg-type]
        return decide_backup(wanted, remembered, backup, now)
    restore = RestoreWorld(
        agents=seen, lease=lease, lease_holder="b/other", plan=RESTORE_PLAN if planned else None, failed=told
    )
    request = RestoreRequest(uid=UID, created_at=NOW, timeout_seconds=TIMEOUT_SECONDS)
    kept = replace(RestoreState(phase=phase, phase_since=NOW, nodes=nodes), **state)  # type: ignore[arg-type]
    return decide_restore(request, kept, restore, now)


def assert_aborts(decision: Decision, reason: str, said: str) -> None:
    state = decision.state
    assert (state.phase.value, state.outcome, state.reason) == ("Aborting", Outcome.FAILED, reason)
    assert said in state.message
    assert not decision.commands


def assert_goes_on(decision: Decision, phase: BackupPhase | RestorePhase) -> None:
    assert decision.state.phase is phase
    assert decision.state.outcome is None


@after_a_phase
def test_who_lost_the_lease_stops(phase: BackupPhase | RestorePhase, step: Step) -> None:
    """Another operation works on the StatefulSet by now."""
    assert_aborts(decide(phase, at_work(step), lease=Lease.OTHERS), "LeaseLost", "b/other")
    assert_goes_on(decide(phase, at_work(step), lease=Lease.UNKNOWN), phase)


@after_a_phase
def test_a_lease_that_is_gone_is_taken_again_unless_that_is_refused(
    phase: BackupPhase | RestorePhase, step: Step
) -> None:
    again = decide(phase, at_work(step), lease=Lease.FREE)
    assert_goes_on(again, phase)
    assert AcquireLease() in again.commands
    assert_aborts(decide(phase, at_work(step), lease=Lease.FREE, failed=REFUSED), "LeaseLost", REFUSED.message)
    assert_goes_on(decide(phase, at_work(step), lease=Lease.OURS, failed=REFUSED), phase)
    passing = REFUSED.model_copy(update={"transient": True})
    assert_goes_on(decide(phase, at_work(step), lease=Lease.FREE, failed=passing), phase)


@pytest.mark.parametrize("phase", [RestorePhase.APPLYING, RestorePhase.VERIFYING])
def test_a_restore_that_may_have_applied_goes_on_without_the_lease(phase: RestorePhase) -> None:
    step = Step.APPLY if phase is RestorePhase.APPLYING else Step.CONFIRM
    assert_goes_on(decide(phase, at_work(step), lease=Lease.OTHERS, applier=NODES[0]), phase)


@pytest.mark.parametrize(
    "phase",
    [
        *(BackupPhase.PREPARING, BackupPhase.UPLOADING, BackupPhase.FINALIZING),
        *(RestorePhase.VALIDATING, RestorePhase.DOWNLOADING, RestorePhase.APPLYING, RestorePhase.VERIFYING),
    ],
)
def test_without_its_plan_nothing_goes_on(phase: BackupPhase | RestorePhase) -> None:
    assert_aborts(decide(phase, {}, planned=False), "PlanLost", "Secret")


def test_a_node_that_does_not_freeze_in_time_is_named() -> None:
    frozen, slow = NODES
    nodes = (*STARTED, NodeState(STORE_WORKER))
    done = answer(frozen, Step.FREEZE, StepReport(phase=StepPhase.DONE))
    reports = {frozen: done, slow: answer(slow, Step.FREEZE)}

    def after(seconds: float) -> Decision:
        return decide(BackupPhase.PREPARING, reports, nodes=nodes, now=NOW + timedelta(seconds=seconds))

    assert_goes_on(after(PREPARING_SECONDS), BackupPhase.PREPARING)
    late = after(PREPARING_SECONDS + 1)
    assert_aborts(late, "PreparingTimedOut", f"({slow}: {NodePhase.STARTING})")


def trouble_pending(seconds: float) -> tuple[tuple[NodeState, ...], Reports, dict[str, AgentPod], datetime]:
    pods = {NODES[0]: RUNNING, NODES[1]: AgentPod(phase=AgentPhase.STARTING, created_at=NOW, reason="ErrImagePull")}
    return (STARTED[0], NodeState(NODES[1])), {NODES[1]: SILENT}, pods, NOW + timedelta(seconds=seconds)


def trouble_silent(seconds: float) -> tuple[tuple[NodeState, ...], Reports, dict[str, AgentPod], datetime]:
    nodes = (STARTED[0], replace(STARTED[1], silent_since=NOW))
    return nodes, {NODES[1]: SILENT}, dict.fromkeys(NODES, RUNNING), NOW + timedelta(seconds=seconds)


class Trouble(NamedTuple):
    of: Callable[[float], tuple[tuple[NodeState, ...], Reports, dict[str, AgentPod], datetime]]
    limit_seconds: float
    reason: str
    said: str


@after_a_phase
@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(trouble_pending, AGENT_START_SECONDS, "AgentNotStarted", "ErrImagePull"),
        Trouble(trouble_silent, AGENT_LOST_SECONDS, "AgentUnreachable", "no route to host"),
    ],
    ids=["never starts", "silent"],
)
def test_an_agent_is_waited_for_but_not_for_ever(
    phase: BackupPhase | RestorePhase, step: Step, trouble: Trouble
) -> None:
    nodes, reports, pods, now = trouble.of(trouble.limit_seconds)
    reports = {**at_work(step), **reports}
    assert_goes_on(decide(phase, reports, nodes=nodes, pods=pods, now=now), phase)
    late = decide(phase, reports, nodes=nodes, pods=pods, now=now + timedelta(seconds=1))
    assert_aborts(late, trouble.reason, trouble.said)
    assert NODES[1] in late.state.message


@after_a_phase
def test_an_agent_of_another_operation_is_none_of_ours(phase: BackupPhase | RestorePhase, step: Step) -> None:
    foreign = answer(NODES[1], step, operation_uid="another")
    assert_aborts(decide(phase, {**at_work(step), NODES[1]: foreign}), "AgentForeign", "operation another")
    nobodys = answer(NODES[1], step, operation_uid=None)
    assert_goes_on(decide(phase, {**at_work(step), NODES[1]: nobodys}), phase)


@after_a_phase
def test_the_timeout_of_the_spec_ends_it_and_says_where_it_stood(phase: BackupPhase | RestorePhase, step: Step) -> None:
    in_time, late = (NOW + timedelta(seconds=TIMEOUT_SECONDS + more) for more in (0, 1))
    begun = {"phase_since": in_time, "message": "the store is slow"}
    assert_goes_on(decide(phase, at_work(step), now=in_time, **begun), phase)  # type: ignore[arg-type]
    ended = decide(phase, at_work(step), now=late, **begun)  # type: ignore[arg-type]
    assert_aborts(ended, "TimedOut", f"not completed within {TIMEOUT_SECONDS} s (spec.timeout) while {phase}")
    assert "the store is slow" in ended.state.message


@pytest.mark.parametrize("written", [True, False])
def test_a_manifest_that_its_agent_did_not_write_is_never_committed(written: bool) -> None:
    """Somebody else's bytes may be whole, too."""
    nodes = tuple(NodeState(name, phase=NodePhase.UPLOADED, session="s", manifest_sha256=name) for name in NODES)
    others = dict(zip(NODES, reversed(NODES), strict=True))
    reports = {
        verifier: answer(verifier, Step.VERIFY, verified={
            node: Verified(node=node, manifest_sha256=node if written else "other", objects=1, bytes_stored=1)
        })
        for verifier, node in others.items()
    }  # fmt: skip
    decision = decide(BackupPhase.FINALIZING, reports, nodes=nodes)
    if written:
        assert_goes_on(decision, BackupPhase.FINALIZING)
        assert all(node.phase is NodePhase.VERIFIED for node in decision.state.nodes)
    else:
        assert_aborts(decision, "VerificationFailed", f"the stored manifest of {NODES[0]} is not the one")
    told = decide(BackupPhase.FINALIZING, reports, nodes=nodes, committer=NODES[0])
    assert_goes_on(told, BackupPhase.FINALIZING)


def test_nobody_vouches_for_what_it_wrote_itself() -> None:
    nodes = tuple(NodeState(name, phase=NodePhase.UPLOADED, session="s", manifest_sha256=name) for name in NODES)
    own = {
        name: answer(name, Step.VERIFY, verified={
            name: Verified(node=name, manifest_sha256=name, objects=1, bytes_stored=1)
        })
        for name in NODES
    }  # fmt: skip
    decision = decide(BackupPhase.FINALIZING, own, nodes=nodes)
    assert all(node.phase is NodePhase.UPLOADED for node in decision.state.nodes)


@pytest.mark.parametrize("phase", [BackupPhase.COMPLETED, RestorePhase.COMPLETED])
def test_after_a_completed_operation_agents_let_go_before_they_are_removed(phase: BackupPhase | RestorePhase) -> None:
    """What is linked or downloaded stays on the volume otherwise, where nobody looks for it any more."""
    held = decide(phase, at_work(Step.VERIFY))
    orders = {each.node: each.command.step for each in held.commands if isinstance(each, TakeStep)}
    assert orders == dict.fromkeys(NODES, Step.RELEASE)
    assert len(held.commands) == len(NODES)
    assert not held.state.cleaned_up
    let_go = {name: answer(name, Step.RELEASE, StepReport(phase=StepPhase.DONE)) for name in NODES}
    after = decide(phase, let_go)
    assert {node.phase for node in after.state.nodes} == {NodePhase.RELEASED}
    assert not any(isinstance(each, TakeStep) for each in after.commands)
    unplanned = decide(phase, at_work(Step.VERIFY), planned=False)
    assert not any(isinstance(each, TakeStep) for each in unplanned.commands), "they were removed once, keys and all"


@pytest.mark.parametrize("phase", [BackupPhase.FAILED, RestorePhase.FAILED, BackupPhase.CANCELED])
def test_who_has_let_go_before_the_end_is_not_asked_again(phase: BackupPhase | RestorePhase) -> None:
    ended = decide(phase, at_work(Step.FREEZE))
    assert not any(isinstance(each, TakeStep) for each in ended.commands)


def test_what_a_freeze_put_into_the_store_is_taken_back() -> None:
    """The claim and the schema: from its first order on a backup may have written."""
    pods = dict.fromkeys((*NODES, STORE_WORKER), RUNNING)
    pending = BackupWorld(
        agents=Agents(operation_uid=UID, pods=pods, reports={}, troubles={}), lease=Lease.OURS, proposal=PLAN, plan=PLAN
    )
    request = BackupRequest(uid=UID, created_at=NOW, timeout_seconds=TIMEOUT_SECONDS)
    preparing = decide_backup(request, BackupState(), pending, NOW).state
    assert preparing.phase is BackupPhase.PREPARING
    told = replace(preparing, nodes=STARTED)
    frozen = {name: answer(name, Step.FREEZE) for name in NODES}
    world = replace(pending, agents=Agents(operation_uid=UID, pods=pods, reports=frozen, troubles={}))
    aborting = decide_backup(replace(request, cancel=True), told, world, NOW).state
    assert aborting.phase is BackupPhase.ABORTING
    ordered = decide_backup(request, aborting, world, NOW).commands
    steps = {(each.node, each.command.step) for each in ordered if isinstance(each, TakeStep)}
    assert steps == {(name, Step.DISCARD) for name in NODES}


def test_nodes_that_froze_by_two_schemas_are_not_uploaded() -> None:
    frozen = {"collections": (), "shards": 0, "bytes_total": 0, "files_total": 0, "longest_halt_seconds": 0}
    done = StepReport(phase=StepPhase.DONE)

    def of(name: str, sha256: str, **more: object) -> NodeReport:
        return answer(name, Step.FREEZE, done, frozen=frozen | {"schema_sha256": sha256}, **more)

    leader, *others = NODES
    assert leader == PLAN.leader
    reports: dict[str, NodeReport | Unreachable] = {leader: of(leader, "b", surveyed={"sha256": "b"})}
    reports |= {name: of(name, "b") for name in others}
    nodes = tuple(replace(node, phase=NodePhase.FROZEN) for node in STARTED)
    assert decide(BackupPhase.PREPARING, reports, nodes=nodes).state.phase is BackupPhase.UPLOADING
    reports[others[0]] = of(others[0], "a")
    assert_aborts(decide(BackupPhase.PREPARING, reports, nodes=nodes), "SchemaChanged", f"{others[0]} froze by another")


def test_the_others_freeze_by_what_the_leader_says_it_read() -> None:
    leader, *others = NODES

    def told(surveyed: str | None) -> dict[str, str]:
        """Node -> the hash in its order to freeze."""
        reports: dict[str, NodeReport | Unreachable] = {
            name: NodeReport(operation_uid=UID, session_id="s", node=name, revision=1) for name in others
        }
        said = {} if surveyed is None else {"surveyed": {"sha256": surveyed}}
        reports[leader] = answer(leader, Step.FREEZE, AT_WORK, **said)
        commands = decide(BackupPhase.PREPARING, reports).commands
        steps = {each.node: each.command for each in commands if isinstance(each, TakeStep)}
        assert {step.step for step in steps.values()} <= {Step.FREEZE}
        return {node: step.schema_sha256 for node, step in steps.items()}

    assert told(None) == {}
    assert told("abc") == dict.fromkeys(others, "abc")
