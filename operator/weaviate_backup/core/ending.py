"""How every operation ends: agents take back what must not stay, let go, and are removed.

A node is settled when it confirmed its release, when no agent of it was ever given an order, or when its agent has been
silent for longer than its lease, by the end of which it has let go by itself. One whose agent answers, but fails to
release or to begin at all (something lies on its volume that none of us makes), is waited for three times as long; then
it is given up with the reason, and what stays there is for people, or for the next operation's sweep.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.orders import (
    LEASE_MARGIN_SECONDS,
    STORE_WORKER,
    Command,
    Lease,
    NodeState,
    ReleaseLease,
    RemoveAgents,
    seconds_since,
)
from weaviate_backup.core.session import Failure, NodeReport, Step, StepCommand
from weaviate_backup.core.stepping import Agents, Chain, advance, observe

DISCARD_ATTEMPTS = 5
"""After these the debris stays in the store and letting go is what matters."""


@dataclass(frozen=True)
class LettingGo:
    """One tick of it. `settled`: nothing of this operation is held anywhere any more."""

    nodes: tuple[NodeState, ...]
    commands: tuple[Command, ...]
    settled: bool
    look_again_seconds: float


def let_go(
    nodes: Sequence[NodeState],
    *,
    agents: Agents,
    since: datetime | None,
    lease_seconds: int,
    discard: bool,
    now: datetime,
) -> LettingGo:
    """`discard`: bytes of this operation may be in the store and are to be deleted before the release."""
    release = StepCommand(operation_uid=agents.operation_uid, step=Step.RELEASE)
    erase = StepCommand(operation_uid=agents.operation_uid, step=Step.DISCARD)
    expiry = lease_seconds + LEASE_MARGIN_SECONDS
    holding: dict[str, Chain] = {}
    settled: list[NodeState] = []
    for before, node in zip(nodes, observe(nodes, agents, now), strict=True):
        if before.phase is NodePhase.PENDING or node.name == STORE_WORKER:
            settled.append(before)
        elif node.phase in (NodePhase.RELEASED, NodePhase.UNREACHABLE):
            settled.append(node)
        elif seconds_since(node.silent_since, now) > expiry:
            settled.append(replace(node, phase=NodePhase.UNREACHABLE))
        elif (why := _stuck(agents, node.name)) and seconds_since(since, now) > 3 * expiry:
            settled.append(replace(node, phase=NodePhase.UNREACHABLE, reason=why.reason, message=why.message))
        else:
            refused = _failed(agents, node.name, Step.DISCARD)
            give_up = refused is not None and (node.attempts >= DISCARD_ATTEMPTS or not refused.transient)
            holding[node.name] = (erase, release) if discard and not give_up else (release,)
            settled.append(node)
    step = advance(
        settled,
        chains=holding,
        remembered=nodes,
        agents=agents,
        now=now,
        reached=lambda node, _: replace(node, phase=NodePhase.RELEASED),
    )
    return LettingGo(step.nodes, step.commands, step.done, min(step.look_again_seconds, 2.0))


def tidy(*, remains: bool, lease: Lease) -> tuple[Command, ...]:
    """What is left to remove once all is let go; empty when nothing is.

    The next operation need not wait for the pods' end: their agents hold nothing any more.
    """
    agents: tuple[Command, ...] = (RemoveAgents(),) if remains else ()
    return (*agents, ReleaseLease()) if lease is Lease.OURS else agents


def _stuck(agents: Agents, name: str) -> Failure | None:
    """Why an agent that answers has not let go: its release failed, or it refuses to begin a session."""
    report = agents.reports.get(name)
    waits = isinstance(report, NodeReport) and report.operation_uid is None
    return agents.troubles.get(name) if waits else _failed(agents, name, Step.RELEASE)


def _failed(agents: Agents, name: str, step: Step) -> Failure | None:
    report = agents.report(name)
    taken = report.steps.get(step) if report else None
    return taken.failure if taken else None
