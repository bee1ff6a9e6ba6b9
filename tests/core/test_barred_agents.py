"""An agent that is gone and can never be made again is not waited for, not even by those who wait for it alone."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from tests.core.backup_model import ALL, NODES, NOW, PLAN, UID
from tests.core.test_exploration_restore import PLAN as RESTORE_PLAN

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.restore import RestorePhase
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.backup_machine import BackupDecision, BackupRequest, BackupState, BackupWorld, decide_backup
from weaviate_backup.core.orders import (
    ABSENT,
    LEASE_MARGIN_SECONDS,
    AgentPhase,
    AgentPod,
    Lease,
    NodeState,
    PlannedBackup,
    Unreachable,
)
from weaviate_backup.core.restore_machine import (
    RestoreDecision,
    RestoreRequest,
    RestoreState,
    RestoreWorld,
    decide_restore,
)
from weaviate_backup.core.session import (
    Applied,
    Committed,
    Failure,
    Frozen,
    NodeReport,
    Step,
    StepPhase,
    StepReport,
    Verified,
)
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.world import AT_WORK_SECONDS, patience_of

TIMEOUT_SECONDS = 3600
LEASE_SECONDS = BackupRequest(uid="", created_at=NOW, timeout_seconds=0).lease_seconds
PATIENCE_SECONDS = patience_of(LEASE_SECONDS)
IN_THE_WAY = Failure(reason="PodInTheWay", message="pod wvb-1 is somebody else's", transient=False)
SILENT = Unreachable(reason="AgentUnreachable", message="no answer")
RUNNING = AgentPod(phase=AgentPhase.RUNNING, created_at=NOW)


def agents(pod: AgentPod, troubled: tuple[str, ...]) -> Agents:
    pods, reports = dict.fromkeys(ALL, pod), dict.fromkeys(ALL, SILENT)
    return Agents(operation_uid=UID, pods=pods, reports=reports, troubles=dict.fromkeys(troubled, IN_THE_WAY))


def backup(
    seen: Agents,
    *,
    committer: str | None,
    now: datetime = NOW,
    plan: PlannedBackup | None = PLAN,
    silent_since: datetime | None = NOW,
    unseen: Failure | None = None,
) -> BackupDecision:
    nodes = tuple(NodeState(name, phase=NodePhase.VERIFIED, silent_since=silent_since) for name in NODES)
    state = BackupState(
        phase=BackupPhase.FINALIZING,
        phase_since=NOW,
        nodes=(*nodes, NodeState(ALL[-1], phase=NodePhase.STARTING)),
        wrote=True,
        committer=committer,
    )
    world = BackupWorld(agents=seen, lease=Lease.OURS, plan=plan, remains=True, unseen=unseen)
    request = BackupRequest(uid=UID, created_at=NOW, timeout_seconds=TIMEOUT_SECONDS, deleting=True)
    if committer is None:
        request = BackupRequest(uid=UID, created_at=NOW, timeout_seconds=TIMEOUT_SECONDS)
    return decide_backup(request, state, world, now)


@pytest.mark.parametrize(
    ("committer", "reason"), [(NODES[0], "CommitUnconfirmed"), (None, "PodInTheWay")], ids=["told", "not told"]
)
def test_a_backup_that_nobody_can_commit_any_more_ends(committer: str | None, reason: str) -> None:
    """A pod that is not there may be a process that is: who was told to commit is silent for its lease before that."""
    silent_since = NOW - timedelta(seconds=LEASE_SECONDS + LEASE_MARGIN_SECONDS + 1)
    if committer:
        assert backup(agents(ABSENT, ALL), committer=committer).state.phase is BackupPhase.FINALIZING
    ended = backup(agents(ABSENT, ALL), committer=committer, silent_since=silent_since)
    assert (ended.state.phase, ended.state.reason) == (BackupPhase.ABORTING, reason)
    assert IN_THE_WAY.message in ended.state.message


@pytest.mark.parametrize(
    "seen", [agents(ABSENT, ()), agents(ABSENT, NODES), agents(RUNNING, ALL)], ids=["lost", "one may come", "alive"]
)
def test_as_long_as_somebody_may_it_goes_on(seen: Agents) -> None:
    waiting = backup(seen, committer=NODES[0])
    assert waiting.state.phase is BackupPhase.FINALIZING
    assert (waiting.look_again_seconds or 0) >= 1


@pytest.mark.parametrize(("late_seconds", "phase"), [(-1, BackupPhase.FINALIZING), (1, BackupPhase.ABORTING)])
def test_one_who_was_told_to_commit_is_waited_for_beyond_the_timeout(late_seconds: int, phase: BackupPhase) -> None:
    now = NOW + timedelta(seconds=TIMEOUT_SECONDS + PATIENCE_SECONDS + late_seconds)
    assert backup(agents(RUNNING, ()), committer=NODES[0], now=now).state.phase is phase


def restore(
    seen: Agents, *, now: datetime = NOW, silent_since: datetime | None = NOW, unseen: Failure | None = None
) -> RestoreDecision:
    nodes = tuple(NodeState(name, phase=NodePhase.PLACED, silent_since=silent_since) for name in NODES)
    state = RestoreState(phase=RestorePhase.APPLYING, phase_since=NOW, nodes=nodes, applier=NODES[0])
    world = RestoreWorld(agents=seen, lease=Lease.OURS, plan=RESTORE_PLAN, remains=True, unseen=unseen)
    return decide_restore(RestoreRequest(uid=UID, created_at=NOW, timeout_seconds=TIMEOUT_SECONDS), state, world, now)


def test_a_restore_whose_applying_agent_can_never_come_back_ends_and_says_what_may_be() -> None:
    ended = restore(agents(ABSENT, NODES[:1]))
    assert (ended.state.phase, ended.state.reason) == (RestorePhase.ABORTING, "PodInTheWay")
    assert "some collections may be in the schema already" in ended.state.message
    assert restore(agents(ABSENT, ())).state.phase is RestorePhase.APPLYING
    assert restore(agents(RUNNING, NODES[:1])).state.phase is RestorePhase.APPLYING


@pytest.mark.parametrize(("late_seconds", "phase"), [(-1, RestorePhase.APPLYING), (1, RestorePhase.ABORTING)])
def test_one_who_was_told_to_apply_is_waited_for_beyond_the_timeout(late_seconds: int, phase: RestorePhase) -> None:
    now = NOW + timedelta(seconds=TIMEOUT_SECONDS + PATIENCE_SECONDS + late_seconds)
    assert restore(agents(RUNNING, ()), now=now).state.phase is phase


def at_work(step: Step, phase: StepPhase, **result: object) -> Agents:
    """The one who was told answers, and says where it stands."""
    reports = {name: _answer(name, {}) for name in ALL}
    reports[NODES[0]] = _answer(NODES[0], {step: StepReport(phase=phase)}, **result)
    return Agents(operation_uid=UID, pods=dict.fromkeys(ALL, RUNNING), reports=reports, troubles={})


def _answer(name: str, steps: dict[Step, StepReport], **result: object) -> NodeReport:
    verified = {node: Verified(node=node, manifest_sha256=node, objects=1, bytes_stored=1) for node in NODES}
    return NodeReport.model_validate(
        {"operation_uid": UID, "session_id": "s", "node": name, "revision": 1, "steps": steps, "verified": verified}
        | result
    )


COMMITTED = Committed(objects=2, bytes_stored=2, bytes_total=2, completed_at=NOW)
APPLIED = Applied(raft_index=1, collections=("Article",))
OVERDUE = NOW + timedelta(seconds=TIMEOUT_SECONDS + PATIENCE_SECONDS + 60)


def test_a_commit_that_is_done_or_goes_on_is_not_given_up_by_the_clock() -> None:
    """As the first good look after a long outage finds it."""
    done = backup(at_work(Step.COMMIT, StepPhase.DONE, committed=COMMITTED), committer=NODES[0], now=OVERDUE)
    assert done.state.phase is BackupPhase.COMPLETED
    goes_on = at_work(Step.COMMIT, StepPhase.RUNNING)
    assert backup(goes_on, committer=NODES[0], now=OVERDUE).state.phase is BackupPhase.FINALIZING
    long_after = OVERDUE + timedelta(seconds=AT_WORK_SECONDS)
    assert backup(goes_on, committer=NODES[0], now=long_after).state.reason == "CommitUnconfirmed"


def test_a_restore_that_is_applied_or_is_being_applied_is_not_given_up_by_the_clock() -> None:
    done = restore(at_work(Step.APPLY, StepPhase.DONE, applied=APPLIED), now=OVERDUE)
    assert done.state.phase is RestorePhase.VERIFYING
    goes_on = at_work(Step.APPLY, StepPhase.RUNNING)
    assert restore(goes_on, now=OVERDUE).state.phase is RestorePhase.APPLYING
    assert restore(goes_on, now=OVERDUE + timedelta(seconds=AT_WORK_SECONDS)).state.phase is RestorePhase.ABORTING


NOBODY = Agents(operation_uid=UID, pods={}, reports={}, troubles={})
BUSY = Failure(reason="KubernetesUnavailable", message="429", transient=True)


@pytest.mark.parametrize("silent_seconds", [None, 0, PATIENCE_SECONDS - 1])
def test_a_moment_of_silence_or_blindness_takes_nothing_back(silent_seconds: int | None) -> None:
    """The commit or the apply may be going on: what it needs is not taken away because one question had no answer."""
    since = None if silent_seconds is None else OVERDUE - timedelta(seconds=silent_seconds)
    for seen, unseen in ((agents(RUNNING, ()), None), (NOBODY, BUSY)):
        told = backup(seen, committer=NODES[0], now=OVERDUE, silent_since=since, unseen=unseen)
        assert (told.state.phase, told.commands) == (BackupPhase.FINALIZING, ())
        applying = restore(seen, now=OVERDUE, silent_since=since, unseen=unseen)
        assert (applying.state.phase, applying.commands) == (RestorePhase.APPLYING, ())
        later = OVERDUE + timedelta(seconds=AT_WORK_SECONDS)
        assert restore(seen, now=later, silent_since=since, unseen=unseen).state.phase is RestorePhase.ABORTING


def test_an_answer_to_the_commit_that_cannot_be_read_says_nothing_of_what_it_did() -> None:
    unread = Failure(reason="AnswerTooLarge", message="more than 4 MiB", transient=False)
    seen = replace(at_work(Step.COMMIT, StepPhase.RUNNING), troubles={NODES[0]: unread})
    ended = backup(seen, committer=NODES[0])
    assert (ended.state.reason, ended.state.wrote) == ("CommitUnconfirmed", False)
    refused = StepReport(phase=StepPhase.FAILED, failure=IN_THE_WAY)
    definite = Agents(
        operation_uid=UID,
        pods=dict.fromkeys(ALL, RUNNING),
        reports={NODES[0]: _answer(NODES[0], {Step.COMMIT: refused})},
        troubles={},
    )
    ended = backup(definite, committer=NODES[0])
    assert (ended.state.reason, ended.state.wrote) == (IN_THE_WAY.reason, True)


def test_an_agent_names_no_collection_that_was_not_planned() -> None:
    """What it says was gone stays in the status for good."""
    frozen = Frozen(collections=(), missing_collections=("Foreign", *PLAN.collections), shards=0, bytes_total=0,
                    files_total=0, longest_halt_seconds=0)  # fmt: skip
    done = {Step.FREEZE: StepReport(phase=StepPhase.DONE)}
    reports = {name: _answer(name, done, frozen=frozen) for name in NODES}
    seen = Agents(operation_uid=UID, pods=dict.fromkeys(NODES, RUNNING), reports=reports, troubles={})
    nodes = tuple(NodeState(name, phase=NodePhase.STARTING, session="s") for name in NODES)
    state = BackupState(phase=BackupPhase.PREPARING, phase_since=NOW, nodes=nodes)
    world = BackupWorld(agents=seen, lease=Lease.OURS, plan=PLAN, remains=True)
    request = BackupRequest(uid=UID, created_at=NOW, timeout_seconds=TIMEOUT_SECONDS)
    assert decide_backup(request, state, world, NOW).state.missing == PLAN.collections


def test_a_lost_plan_says_what_may_have_been_committed() -> None:
    ended = backup(agents(RUNNING, ()), committer=NODES[0], plan=None)
    assert (ended.state.reason, ended.state.wrote) == ("CommitUnconfirmed", False)
    assert backup(agents(RUNNING, ()), committer=None, plan=None).state.reason == "PlanLost"
