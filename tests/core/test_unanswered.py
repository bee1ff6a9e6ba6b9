"""What raft may still come to is taken back nowhere; what it refused or has is let go of as ever."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.core.backup_model import NODES, NOW, UID
from tests.core.test_exploration_restore import APPLIED, PLAN

from weaviate_backup.api.restore import RestorePhase
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.applying import outcome_is_known
from weaviate_backup.core.orders import AgentPhase, AgentPod, Lease, NodeState, Outcome, TakeStep
from weaviate_backup.core.restore_machine import (
    PLACED_STAYS,
    RestoreDecision,
    RestoreRequest,
    RestoreState,
    RestoreWorld,
    decide_restore,
)
from weaviate_backup.core.session import Failure, NodeReport, Step, StepPhase, StepReport
from weaviate_backup.core.stepping import Agents

APPLIER = NODES[0]
UNANSWERED = Failure(reason="RaftOutcomeUnknown", message="no answer", transient=True)
REFUSED = Failure(reason="CollectionExists", message="it is there", transient=False)
RUNNING = AgentPod(phase=AgentPhase.RUNNING)
TIMEOUT_SECONDS = 3600
LATE = NOW + timedelta(seconds=TIMEOUT_SECONDS + 1)


def failed(failure: Failure) -> StepReport:
    return StepReport(phase=StepPhase.FAILED, failure=failure)


def decide(state: RestoreState, *, apply: StepReport | None, session: str = "s", late: bool = False) -> RestoreDecision:
    """One tick; the others have nothing to report."""
    reports = {name: NodeReport(operation_uid=UID, session_id="s", node=name, revision=1, steps={}) for name in NODES}
    steps = {} if apply is None else {Step.APPLY: apply}
    applied = APPLIED if apply is not None and apply.phase is StepPhase.DONE else None
    reports[APPLIER] = NodeReport(
        operation_uid=UID, session_id=session, node=APPLIER, revision=1, steps=steps, applied=applied
    )
    agents = Agents(operation_uid=UID, pods=dict.fromkeys(NODES, RUNNING), reports=reports, troubles={})
    world = RestoreWorld(agents=agents, lease=Lease.OURS, plan=PLAN, remains=True)
    request = RestoreRequest(uid=UID, created_at=NOW, timeout_seconds=TIMEOUT_SECONDS)
    return decide_restore(request, state, world, LATE if late else NOW)


def state_of(phase: RestorePhase) -> RestoreState:
    nodes = tuple(NodeState(name, phase=NodePhase.PLACED, session="s") for name in NODES)
    return RestoreState(phase=phase, phase_since=NOW, nodes=nodes, applier=APPLIER, collections=("Article",))


def released(aborting: RestoreState) -> dict[str, bool]:
    """Node -> whether it was told to keep what is placed, of the next orders."""
    assert aborting.phase is RestorePhase.ABORTING
    commands = decide(aborting, apply=None).commands
    return {each.node: each.command.keep_placed for each in commands if isinstance(each, TakeStep)}


def released_after(decision: RestoreDecision) -> list[dict[str, bool]]:
    """The first orders, and those once the one who applies has let go."""
    first = decision.state
    done = tuple(replace(node, phase=NodePhase.RELEASED) if node.name == APPLIER else node for node in first.nodes)
    told = [released(first), released(replace(first, nodes=done))]
    assert (PLACED_STAYS in first.message) is any(any(each.values()) for each in told), "the status says it"
    return told


KEPT = [{APPLIER: True}, dict.fromkeys(NODES[1:], True)]
TAKEN_BACK = [dict.fromkeys(NODES, False), dict.fromkeys(NODES[1:], False)]


def test_a_command_without_an_answer_may_be_taken_long_after_the_timeout() -> None:
    """The time is over between two attempts: nobody applies, and yet raft may have it in its log."""
    stopped = decide(state_of(RestorePhase.APPLYING), apply=failed(UNANSWERED), late=True)
    assert (stopped.state.reason, stopped.state.outcome) == ("TimedOut", Outcome.FAILED)
    assert released_after(stopped) == KEPT


def test_what_was_refused_at_once_is_taken_back() -> None:
    assert released_after(decide(state_of(RestorePhase.APPLYING), apply=failed(REFUSED))) == TAKEN_BACK


@pytest.mark.parametrize("phase", [StepPhase.DONE, StepPhase.RUNNING])
def test_what_is_in_the_schema_is_nothing_that_raft_may_still_take(phase: StepPhase) -> None:
    """CONFIRM fails for another reason, whatever the one who applied remembers by now."""
    stopped = decide(state_of(RestorePhase.VERIFYING), apply=StepReport(phase=phase), late=True)
    assert released_after(stopped) == TAKEN_BACK


@pytest.mark.parametrize(
    ("apply", "attempts", "known"),
    [
        (None, 0, False),
        (StepReport(phase=StepPhase.RUNNING), 0, False),
        (StepReport(phase=StepPhase.RUNNING, failure=REFUSED), 0, False),
        (StepReport(phase=StepPhase.DONE), 1, True),
        (failed(REFUSED), 0, True),
        (failed(REFUSED), 1, False),
        (failed(UNANSWERED), 0, False),
        (StepReport(phase=StepPhase.FAILED), 0, False),
    ],
)
def test_only_an_end_that_was_told_is_known(apply: StepReport | None, attempts: int, known: bool) -> None:
    """One that is at work again may tell of its last failure."""
    steps = {} if apply is None else {Step.APPLY: apply}
    report = NodeReport(operation_uid=UID, session_id="s", node=APPLIER, revision=1, steps=steps)
    assert outcome_is_known(NodeState(APPLIER, attempts=attempts), report) is known
    assert not outcome_is_known(NodeState(APPLIER), None)


def test_a_refusal_says_nothing_of_an_attempt_before() -> None:
    waiting = decide(state_of(RestorePhase.APPLYING), apply=failed(UNANSWERED)).state
    assert waiting.phase is RestorePhase.APPLYING
    assert released_after(decide(waiting, apply=failed(REFUSED))) == KEPT


def test_an_agent_that_was_killed_may_have_told_raft() -> None:
    """Its successor remembers no step, and is refused."""
    told_again = decide(state_of(RestorePhase.APPLYING), apply=None, session="another")
    assert [each.command.step for each in told_again.commands if isinstance(each, TakeStep)] == [Step.APPLY]
    refused = decide(told_again.state, apply=failed(REFUSED), session="another")
    assert released_after(refused) == KEPT
