"""An agent that answers but cannot do what it is told does not keep an operation from ending."""

from datetime import UTC, datetime, timedelta

import pytest

from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.ending import LETTING_GO_SECONDS, LettingGo, let_go
from weaviate_backup.core.orders import LEASE_MARGIN_SECONDS, AgentPhase, AgentPod, NodeState, PutSession
from weaviate_backup.core.session import Failure, NodeReport, Step, StepPhase, StepReport
from weaviate_backup.core.stepping import Agents

UID, NODE = "uid", "weaviate-0"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
LEASE_SECONDS = 300
PATIENCE_SECONDS = 3 * (LEASE_SECONDS + LEASE_MARGIN_SECONDS)
LINK = Failure(reason="UnexpectedEntry", message="/data/.weaviate-backup is a symbolic link", transient=False)


def tick(*, release: StepReport | None, seconds: float) -> LettingGo:
    """`release` None: the agent has no session, because it refuses to begin one."""
    steps = {} if release is None else {Step.RELEASE: release}
    uid = None if release is None else UID
    report = NodeReport(operation_uid=uid, session_id="s", node=NODE, revision=1, steps=steps)
    return let_go(
        (NodeState(NODE, NodePhase.STARTING, session="s"),),
        agents=Agents(
            operation_uid=UID,
            pods={NODE: AgentPod(phase=AgentPhase.RUNNING)},
            reports={NODE: report},
            troubles={NODE: LINK} if release is None else {},
        ),
        since=SINCE,
        lease_seconds=LEASE_SECONDS,
        discard=False,
        now=SINCE + timedelta(seconds=seconds),
    )


FAILED = StepReport(phase=StepPhase.FAILED, failure=LINK)


@pytest.mark.parametrize("release", [None, FAILED], ids=["no session", "no release"])
def test_a_node_that_cannot_let_go_is_given_up_with_the_reason(release: StepReport | None) -> None:
    going = tick(release=release, seconds=PATIENCE_SECONDS + 1)
    assert going.settled
    (node,) = going.nodes
    assert (node.phase, node.reason, node.message) == (NodePhase.UNREACHABLE, LINK.reason, LINK.message)


def test_until_then_a_session_is_asked_for_again() -> None:
    going = tick(release=None, seconds=PATIENCE_SECONDS - 1)
    assert not going.settled
    assert going.commands == (PutSession(node=NODE),)


def test_one_that_is_about_to_for_ever_is_given_up_at_last() -> None:
    """Whoever has the keys of an agent can answer in its place."""
    running = StepReport(phase=StepPhase.RUNNING)
    assert not tick(release=running, seconds=LETTING_GO_SECONDS - 1).settled
    going = tick(release=running, seconds=LETTING_GO_SECONDS + 1)
    assert going.settled
    assert (going.nodes[0].phase, going.nodes[0].reason) == (NodePhase.UNREACHABLE, "AgentHolds")
