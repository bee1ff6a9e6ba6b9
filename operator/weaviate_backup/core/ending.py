"""How every operation ends: agents take back what must not stay, let go, and are removed.

A node is settled when it confirmed its release, when no agent of it was ever given an order, or when its agent has been
silent for longer than its lease, by the end of which it has let the server go by itself; what it has on the volume is
for the next operation's sweep. One whose agent answers, but fails to
release or to begin at all (something lies on its volume that none of us makes), is waited for three times as long, and
one that says for ever that it is about to, for hours; then it is given up with the reason, and what stays there is for
people, or for the next operation's sweep.

Nothing here waits without an end: whoever can write beside an operation could keep it, and its object, for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.orders import (
    LEASE_MARGIN_SECONDS,
    STORE_WORKER,
    WATCH_SECONDS,
    Command,
    Lease,
    NodeState,
    ReleaseLease,
    RemoveAgents,
    conflict,
    seconds_since,
)
from weaviate_backup.core.session import Failure, NodeReport, Step, StepCommand
from weaviate_backup.core.stepping import Agents, Chain, advance, observe
from weaviate_backup.core.world import World, patience_of, refused

DISCARD_ATTEMPTS = 5
"""After these the debris stays in the store and letting go is what matters."""
VACATE_ATTEMPTS = 2
LETTING_GO_SECONDS = 7200
"""An agent that has not let go after this long, whatever it says, is given up."""
TIDY_SECONDS = 600
"""For so long what may pass is waited for before something that is to be removed is left where it is."""


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
    keep_placed: bool = False,
) -> LettingGo:
    """`discard`: bytes of this operation may be in the store and are to be deleted before the release. `keep_placed`:
    what was placed on the volumes is not taken back."""
    release = StepCommand(operation_uid=agents.operation_uid, step=Step.RELEASE, keep_placed=keep_placed)
    erase = StepCommand(operation_uid=agents.operation_uid, step=Step.DISCARD)
    expiry, waited_seconds = lease_seconds + LEASE_MARGIN_SECONDS, seconds_since(since, now)
    holding: dict[str, Chain] = {}
    settled: list[NodeState] = []
    for before, node in zip(nodes, observe(nodes, agents, now), strict=True):
        if before.phase is NodePhase.PENDING or node.name == STORE_WORKER:
            settled.append(before)
        elif node.phase in (NodePhase.RELEASED, NodePhase.UNREACHABLE):
            settled.append(node)
        elif seconds_since(node.silent_since, now) > expiry:
            settled.append(replace(node, phase=NodePhase.UNREACHABLE))
        elif why := _stuck(
            agents, node.name, waited_seconds=waited_seconds, patience_seconds=patience_of(lease_seconds)
        ):
            settled.append(replace(node, phase=NodePhase.UNREACHABLE, reason=why.reason, message=why.message))
        else:
            kept = _failed(agents, node.name, Step.DISCARD)
            give_up = kept is not None and (node.attempts >= DISCARD_ATTEMPTS or not kept.transient)
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


def give_back(nodes: Sequence[NodeState], *, agents: Agents, waited_seconds: float, now: datetime) -> LettingGo | None:
    """The claim in the store goes last, when every node has let go: asked of an agent that answers, then of another.

    None: it is done, or cannot be, and the claim stays there with the name of this operation. So it is when an agent
    is only unreachable: it may still write, and what it writes would be nobody's.
    """
    begun = [node for node in nodes if node.phase is not NodePhase.PENDING]
    writing = any(node.name != STORE_WORKER and node.phase is not NodePhase.RELEASED for node in begun)
    if writing or waited_seconds > LETTING_GO_SECONDS:
        return None
    asked = next((node for node in begun if agents.report(node.name) and not _refused_to_vacate(node, agents)), None)
    if asked is None:
        return None
    vacate = StepCommand(operation_uid=agents.operation_uid, step=Step.VACATE)
    step = advance(nodes, chains={asked.name: (vacate,)}, remembered=nodes, agents=agents, now=now)
    if step.done:
        return None
    return LettingGo(step.nodes, step.commands, False, min(step.look_again_seconds, 2.0))


def _refused_to_vacate(node: NodeState, agents: Agents) -> bool:
    failed = _failed(agents, node.name, Step.VACATE)
    return failed is not None and (not failed.transient or node.attempts >= VACATE_ATTEMPTS)


def given_up(nodes: Sequence[NodeState], why: Failure) -> tuple[NodeState, ...]:
    """Of agents that can neither be told nor looked at: their leases end without us."""
    settled = (NodePhase.PENDING, NodePhase.RELEASED, NodePhase.UNREACHABLE)
    return tuple(
        node
        if node.phase in settled
        else replace(node, phase=NodePhase.UNREACHABLE, reason=why.reason, message=why.message)
        for node in nodes
    )


def clean_up(
    nodes: Sequence[NodeState],
    world: World,
    *,
    completed: bool,
    since: datetime | None,
    lease_seconds: int,
    now: datetime,
) -> LettingGo:
    """After the end: agents let go and are removed, the StatefulSet is free for the next operation.

    `completed`: its agents have not let go yet; those of another end have.
    """
    waited_seconds = seconds_since(since, now)
    if world.unseen is not None:
        passing = TIDY_SECONDS if world.unseen.transient else 0
        if waited_seconds < (patience_of(lease_seconds) if completed else passing):
            return LettingGo(tuple(nodes), (), False, WATCH_SECONDS)
        nodes = given_up(nodes, world.unseen)
    elif completed and world.plan is not None:
        going = let_go(nodes, agents=world.agents, since=since, lease_seconds=lease_seconds, discard=False, now=now)
        nodes = going.nodes
        if not going.settled:
            return going
    commands = _tidy(world, waited_seconds=waited_seconds)
    return LettingGo(tuple(nodes), commands, not commands, 1.0)


def _tidy(world: World, *, waited_seconds: float) -> tuple[Command, ...]:
    """What is left to remove once all is let go; empty when nothing is. What must not be removed stays.

    The next operation need not wait for the pods' end: their agents hold nothing any more.
    """
    left: tuple[Command, ...] = (RemoveAgents(),) if world.remains else ()
    if world.lease is Lease.OURS:
        left = (*left, ReleaseLease())
    late = waited_seconds > TIDY_SECONDS
    return tuple(
        each for each in left if not refused(world.failed, type(each)) and not (late and type(each) in world.failed)
    )


def _stuck(agents: Agents, name: str, *, waited_seconds: float, patience_seconds: float) -> Failure | None:
    """Why an agent that answers is given up: its release failed, it begins no session, or it takes too long."""
    report = agents.reports.get(name)
    waits = isinstance(report, NodeReport) and report.operation_uid is None
    why = agents.troubles.get(name) if waits else _failed(agents, name, Step.RELEASE)
    if why is not None and waited_seconds > patience_seconds:
        return why
    if waited_seconds > LETTING_GO_SECONDS:
        return conflict("AgentHolds", f"the agent on {name} did not let go within {LETTING_GO_SECONDS // 3600} h")
    return None


def _failed(agents: Agents, name: str, step: Step) -> Failure | None:
    report = agents.report(name)
    taken = report.steps.get(step) if report else None
    return taken.failure if taken else None
