"""A node that is not ready for a moment is waited for while a restore is planned; nothing else is."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.core.backup_model import NODES, NOW, UID
from tests.core.test_exploration_restore import INSPECTED, PLAN

from weaviate_backup.api.restore import RestorePhase
from weaviate_backup.core.orders import AgentPhase, AgentPod, Lease, NodeState
from weaviate_backup.core.restore_machine import RestoreRequest, RestoreState, RestoreWorld, decide_restore
from weaviate_backup.core.restore_plan import TargetFacts
from weaviate_backup.core.session import Failure, NodeReport, Step, StepPhase, StepReport
from weaviate_backup.core.stepping import Agents

READY = TargetFacts(nodes=dict.fromkeys(NODES, True), version="1.39.1", collections=())
ONE_DOWN = replace(READY, nodes={**READY.nodes, NODES[1]: False})
TAKEN = replace(ONE_DOWN, collections=("Article",))
SILENT = Failure(reason="NodeNotReady", message="no answer", transient=True)
BROKEN = Failure(reason="PortInvalid", message="--port is 99999999", transient=False)


@pytest.mark.parametrize(
    ("target", "seconds", "phase", "reason"),
    [
        (READY, 1, RestorePhase.DOWNLOADING, ""),
        (ONE_DOWN, 1, RestorePhase.VALIDATING, "NodeNotReady"),
        (ONE_DOWN, 121, RestorePhase.ABORTING, "NodeNotReady"),
        (TAKEN, 1, RestorePhase.ABORTING, "NodeNotReady"),
        (SILENT, 1, RestorePhase.VALIDATING, "Planning"),
        (BROKEN, 1, RestorePhase.ABORTING, "PortInvalid"),
    ],
)
def test_only_what_may_pass_is_waited_for_and_not_for_ever(
    target: TargetFacts | Failure, seconds: int, phase: RestorePhase, reason: str
) -> None:
    reports = {
        name: NodeReport(
            operation_uid=UID,
            session_id="s",
            node=name,
            revision=1,
            steps={Step.INSPECT: StepReport(phase=StepPhase.DONE)},
            inspected=INSPECTED,
        )
        for name in NODES
    }
    pods = dict.fromkeys(NODES, AgentPod(phase=AgentPhase.RUNNING, created_at=NOW))
    agents = Agents(operation_uid=UID, pods=pods, reports=reports, troubles={})
    state = RestoreState(
        phase=RestorePhase.VALIDATING, phase_since=NOW, nodes=tuple(NodeState(name=name) for name in NODES)
    )
    request = RestoreRequest(uid=UID, created_at=NOW, timeout_seconds=3600)
    world = RestoreWorld(agents=agents, lease=Lease.OURS, plan=PLAN, target=target, remains=True)
    decision = decide_restore(request, state, world, NOW + timedelta(seconds=seconds))
    assert (decision.state.phase, decision.state.reason) == (phase, reason)
    assert decision.look_again_seconds is not None
