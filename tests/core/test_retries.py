"""A step that failed is tried again after a pause, whatever the clock says by then."""

from datetime import datetime, timedelta

import pytest
from tests.core.backup_model import NODES, NOW, PLAN, UID

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.backup_machine import BackupDecision, BackupRequest, BackupState, BackupWorld, decide_backup
from weaviate_backup.core.orders import (
    LONGEST_BACKOFF_SECONDS,
    AgentPhase,
    AgentPod,
    Lease,
    NodeState,
    PutSession,
    TakeStep,
)
from weaviate_backup.core.session import Failure, NodeReport, Step, StepPhase, StepReport
from weaviate_backup.core.stepping import Agents

FAILED = StepReport(phase=StepPhase.FAILED, failure=Failure(reason="DiskFull", message="", transient=True))


def decided(*, attempts: int = 1, retry_at: datetime | None) -> BackupDecision:
    """With a leader whose freeze failed."""
    first = NodeState(name=NODES[0], phase=NodePhase.STARTING, session="s", attempts=attempts, retry_at=retry_at)
    others = (NodeState(name=node, phase=NodePhase.STARTING, session="s") for node in NODES[1:])
    state = BackupState(phase=BackupPhase.PREPARING, phase_since=NOW, nodes=(first, *others), wrote=True)
    report = NodeReport(operation_uid=UID, session_id="s", node=NODES[0], revision=1, steps={Step.FREEZE: FAILED})
    pods = {node: AgentPod(AgentPhase.RUNNING) for node in NODES}
    agents = Agents(operation_uid=UID, pods=pods, reports={NODES[0]: report}, troubles={})
    world = BackupWorld(agents=agents, lease=Lease.OURS, plan=PLAN)
    return decide_backup(BackupRequest(uid=UID, created_at=NOW, timeout_seconds=3600), state, world, NOW)


@pytest.mark.parametrize(
    ("wait", "due"),
    [
        (timedelta(seconds=-1), True),
        (timedelta(0), True),
        (timedelta(seconds=1), False),
        (timedelta(seconds=LONGEST_BACKOFF_SECONDS), False),
        (timedelta(seconds=LONGEST_BACKOFF_SECONDS + 1), True),
        (timedelta(days=1), True),
    ],
)
def test_a_time_that_no_pause_leads_to_was_of_another_clock(wait: timedelta, due: bool) -> None:
    commands = decided(retry_at=NOW + wait).commands
    assert any(isinstance(each, TakeStep) and each.node == NODES[0] for each in commands) is due


def test_before_the_pause_the_agent_is_told_where_weaviate_is_by_now() -> None:
    commands = [each for each in decided(retry_at=None).commands if isinstance(each, PutSession)]
    assert commands == [PutSession(NODES[0], renewed=True)]


@pytest.mark.parametrize("attempts", [0, 1, 5, 1000])
def test_no_pause_is_longer_than_the_longest(attempts: int) -> None:
    state = decided(attempts=attempts, retry_at=None).state
    (leader,) = (node for node in state.nodes if node.name == NODES[0])
    assert leader.retry_at is not None
    assert NOW < leader.retry_at <= NOW + timedelta(seconds=LONGEST_BACKOFF_SECONDS)
