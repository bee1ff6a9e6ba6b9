"""The restore's machine: state and world in, next state and commands out.

    Pending → Validating → Downloading → Applying → Verifying → Completed
       │           └────────────┴────────────┴──────────┴─→ Aborting → Failed | Canceled
       └─→ Failed | Canceled

Rules that hold at every step, and that the exploration test tries to break:
* a tick that changes the phase orders nothing;
* nothing is downloaded before the plan has passed, nothing placed before every node has everything;
* one agent applies, chosen and remembered before it is told, and never replaced by another;
* from Applying on there is no way back: cancel is not heard, a failure names what was done.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from weaviate_backup.api.restore import RestorePhase
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.admission import Gate, Refused, Wait, admit
from weaviate_backup.core.ending import let_go, tidy
from weaviate_backup.core.orders import (
    AcquireLease,
    Command,
    Lease,
    NodeState,
    Outcome,
    PlannedRestore,
    conflict,
    seconds_since,
)
from weaviate_backup.core.restore_plan import RestoreVerdict, RestoreWishes, TargetFacts, plan_restore
from weaviate_backup.core.session import Applied, Failure, NodeReport, Step, StepCommand, StepPhase
from weaviate_backup.core.stepping import Advance, Agents, Chain, advance, observe

POINT_OF_NO_RETURN = frozenset({RestorePhase.APPLYING, RestorePhase.VERIFYING, RestorePhase.ABORTING})


@dataclass(frozen=True)
class RestoreRequest:
    """What the machine needs to know of the spec and the metadata."""

    uid: str
    created_at: datetime
    timeout_seconds: float
    wishes: RestoreWishes = field(default_factory=RestoreWishes)
    lease_seconds: int = 300
    cancel: bool = False
    deleting: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class RestoreState:
    """What a restore remembers. `applier`: the agent that may have been told to apply."""

    phase: RestorePhase = RestorePhase.PENDING
    phase_since: datetime | None = None
    nodes: tuple[NodeState, ...] = ()
    collections: tuple[str, ...] = ()
    verdict: RestoreVerdict | None = None
    applier: str | None = None
    applied: Applied | None = None
    outcome: Outcome | None = None
    reason: str = ""
    message: str = ""
    cleaned_up: bool = False


@dataclass(frozen=True)
class RestoreWorld:
    """What is seen in this tick. `target`: None while it cannot be asked."""

    agents: Agents
    lease: Lease
    lease_holder: str = ""
    native_backup: str | None = None
    refusals: tuple[Failure, ...] = ()
    proposal: PlannedRestore | None = None
    plan: PlannedRestore | None = None
    target: TargetFacts | None = None
    remains: bool = False


@dataclass(frozen=True)
class RestoreDecision:
    """`look_again_seconds` None: nothing is left to do, ever."""

    state: RestoreState
    commands: tuple[Command, ...]
    look_again_seconds: float | None


def decide_restore(  # noqa: PLR0911 (one return per phase)
    request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime
) -> RestoreDecision:
    """One tick."""
    if state.phase_since is None:
        state = replace(state, phase_since=now)
    if state.phase.is_terminal:
        return _clean_up(request, state, world, now)
    stop = _reason_to_stop(request, state, world, now)
    if stop:
        return _stop(state, outcome=stop[0], failure=stop[1], now=now)
    if state.phase is RestorePhase.PENDING:
        return _pending(request, state, world, now)
    if state.phase is RestorePhase.ABORTING:
        return _aborting(request, state, world, now)
    if world.plan is None:
        lost = conflict("PlanLost", "the Secret with this operation's plan and certificates was deleted")
        return _stop(state, outcome=Outcome.FAILED, failure=lost, now=now)
    if state.phase is RestorePhase.VALIDATING:
        return _validating(request, state, world.plan, world, now)
    if state.phase is RestorePhase.APPLYING:
        return _applying(request, state, world.plan, world, now)
    download = state.phase is RestorePhase.DOWNLOADING
    command = StepCommand(
        operation_uid=request.uid,
        step=Step.DOWNLOAD if download else Step.CONFIRM,
        collections=state.collections,
    )
    reached = NodePhase.DOWNLOADED if download else NodePhase.CONFIRMED
    step = _step(state, world, dict.fromkeys(world.plan.nodes, (command,)), now, done_phase=reached)
    if isinstance(step, RestoreDecision):
        return step
    state = replace(state, nodes=step.nodes)
    if step.done:
        after = RestorePhase.APPLYING if download else RestorePhase.COMPLETED
        return _enter(after, replace(state, reason="", message=""), now)
    return RestoreDecision(state, (*_keep_lease(world), *step.commands), step.look_again_seconds)


def source_node(target_node: str, *, backup_nodes: tuple[str, ...], node_mapping: Mapping[str, str]) -> str | None:
    """The node of the backup whose shards the target's node gets."""
    return next((node for node in backup_nodes if node_mapping.get(node, node) == target_node), None)


def _enter(phase: RestorePhase, state: RestoreState, now: datetime) -> RestoreDecision:
    nodes = tuple(replace(node, attempts=0, retry_at=None) for node in state.nodes)
    return RestoreDecision(replace(state, phase=phase, phase_since=now, nodes=nodes), (), 0.0)


def _stop(state: RestoreState, *, outcome: Outcome, failure: Failure, now: datetime) -> RestoreDecision:
    """Aborts what has begun; what has not ends at once."""
    stopped = replace(state, outcome=outcome, reason=failure.reason, message=failure.message)
    begun = state.phase is not RestorePhase.PENDING
    return _enter(RestorePhase.ABORTING if begun else RestorePhase(outcome), stopped, now)


def _reason_to_stop(
    request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime
) -> tuple[Outcome, Failure] | None:
    late = seconds_since(request.created_at, now) > request.timeout_seconds
    if late and state.phase is not RestorePhase.ABORTING and not _may_be_applying(state, world):
        message = f"not completed within {request.timeout_seconds:.0f} s (spec.timeout) while {state.phase}"
        return Outcome.FAILED, conflict("TimedOut", f"{message}: {state.message}" if state.message else message)
    if state.phase in POINT_OF_NO_RETURN:
        return None
    if request.deleting:
        return Outcome.CANCELED, conflict("Deleted", "the object was deleted while its restore ran")
    if request.cancel:
        return Outcome.CANCELED, conflict("Canceled", "spec.cancel was set")
    return None


def _may_be_applying(state: RestoreState, world: RestoreWorld) -> bool:
    """The applying agent was told, or may have been, and did not report an end."""
    if state.phase is not RestorePhase.APPLYING or state.applier is None:
        return False
    report = world.agents.report(state.applier)
    step = report.steps.get(Step.APPLY) if report else None
    return step is None or step.phase is not StepPhase.FAILED


def _pending(request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime) -> RestoreDecision:
    gate = Gate(
        lease=world.lease,
        lease_holder=world.lease_holder,
        native_backup=world.native_backup,
        refusals=world.refusals,
        proposal=world.proposal,
        plan_stored=world.plan is not None,
    )
    verdict = admit(gate, created_at=request.created_at, now=now)
    if isinstance(verdict, Refused):
        return _stop(state, outcome=Outcome.FAILED, failure=conflict(verdict.reason, verdict.message), now=now)
    if isinstance(verdict, Wait):
        if verdict.reason:
            state = replace(state, reason=verdict.reason, message=verdict.message)
        return RestoreDecision(state, verdict.commands, verdict.look_again_seconds)
    assert world.plan is not None
    nodes = tuple(NodeState(name=name) for name in world.plan.nodes)
    return _enter(RestorePhase.VALIDATING, replace(state, nodes=nodes, reason="", message=""), now)


def _validating(
    request: RestoreRequest, state: RestoreState, plan: PlannedRestore, world: RestoreWorld, now: datetime
) -> RestoreDecision:
    inspect = StepCommand(operation_uid=request.uid, step=Step.INSPECT)
    step = _step(state, world, dict.fromkeys(plan.nodes, (inspect,)), now, done_phase=NodePhase.INSPECTED)
    if isinstance(step, RestoreDecision):
        return step
    state = replace(state, nodes=step.nodes)
    if not step.done:
        return RestoreDecision(state, (*_keep_lease(world), *step.commands), step.look_again_seconds)
    inspected = {
        name: report.inspected
        for name in plan.nodes
        if (report := world.agents.report(name)) is not None and report.inspected is not None
    }
    if world.target is None or len(inspected) != len(plan.nodes):
        return RestoreDecision(replace(state, reason="Planning", message="looking at the target"), (), 1.0)
    verdict = plan_restore(request.wishes, inspected, world.target)
    state = replace(state, verdict=verdict, collections=verdict.collections)
    if verdict.refusals:
        message = "; ".join(refusal.message for refusal in verdict.refusals)
        failure = conflict(verdict.refusals[0].reason, message)
        return _stop(state, outcome=Outcome.FAILED, failure=failure, now=now)
    if request.dry_run:
        done = replace(state, reason="DryRun", message="the plan has passed; nothing was written")
        return _enter(RestorePhase.COMPLETED, done, now)
    return _enter(RestorePhase.DOWNLOADING, replace(state, reason="", message=""), now)


def _applying(
    request: RestoreRequest, state: RestoreState, plan: PlannedRestore, world: RestoreWorld, now: datetime
) -> RestoreDecision:
    """Places on every node, then lets one agent apply. Once it may have been told, nothing is placed again."""
    uid = request.uid
    if state.applier is None:
        download = StepCommand(operation_uid=uid, step=Step.DOWNLOAD, collections=state.collections)
        place = StepCommand(operation_uid=uid, step=Step.PLACE, collections=state.collections)
        step = _step(state, world, dict.fromkeys(plan.nodes, (download, place)), now, done_phase=NodePhase.PLACED)
        if isinstance(step, RestoreDecision):
            return step
        state = replace(state, nodes=step.nodes)
        if step.done:
            return RestoreDecision(replace(state, applier=plan.applier), (), 0.0)
        return RestoreDecision(state, step.commands, step.look_again_seconds)
    command = StepCommand(
        operation_uid=uid,
        step=Step.APPLY,
        collections=state.collections,
        overwrite_alias=request.wishes.overwrite_alias,
    )
    step = _step(state, world, {state.applier: (command,)}, now, done_phase=NodePhase.PLACED)
    if isinstance(step, RestoreDecision):
        return step
    state = replace(state, nodes=step.nodes)
    report = world.agents.report(state.applier or "")
    if step.done and report is not None:
        return _enter(RestorePhase.VERIFYING, replace(state, applied=report.applied), now)
    return RestoreDecision(state, step.commands, step.look_again_seconds)


def _aborting(request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime) -> RestoreDecision:
    going = let_go(
        state.nodes,
        agents=world.agents,
        since=state.phase_since,
        lease_seconds=request.lease_seconds,
        discard=False,
        now=now,
    )
    state = replace(state, nodes=going.nodes)
    if going.settled:
        return _enter(RestorePhase(state.outcome or Outcome.FAILED), state, now)
    return RestoreDecision(state, going.commands, going.look_again_seconds)


def _clean_up(request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime) -> RestoreDecision:
    """After the end: agents let go and are removed, the StatefulSet is free for the next operation."""
    if state.cleaned_up:
        return RestoreDecision(state, (), None)
    if world.plan is not None and state.phase is RestorePhase.COMPLETED:
        going = let_go(
            state.nodes,
            agents=world.agents,
            since=state.phase_since,
            lease_seconds=request.lease_seconds,
            discard=False,
            now=now,
        )
        state = replace(state, nodes=going.nodes)
        if not going.settled:
            return RestoreDecision(state, going.commands, going.look_again_seconds)
    commands = tidy(remains=world.remains, lease=world.lease)
    if commands:
        return RestoreDecision(state, commands, 1.0)
    return RestoreDecision(replace(state, cleaned_up=True), (), 0.0)


def _step(
    state: RestoreState, world: RestoreWorld, chains: Mapping[str, Chain], now: datetime, *, done_phase: NodePhase
) -> Advance | RestoreDecision:
    """Advances the chains, or aborts because of what cannot be cured."""

    def reached(node: NodeState, _: NodeReport) -> NodeState:
        return replace(node, phase=done_phase)

    nodes = observe(state.nodes, world.agents, now)
    step = advance(nodes, chains=chains, remembered=state.nodes, agents=world.agents, now=now, reached=reached)
    state = replace(state, nodes=step.nodes)
    if step.failure and not (state.applier and world.agents.report(step.failure[0]) is None):
        name, cause = step.failure
        failure = conflict(cause.reason, f"{name}: {cause.message}{_what_was_done(state)}")
        return _stop(state, outcome=Outcome.FAILED, failure=failure, now=now)
    if world.lease is Lease.OTHERS and state.phase not in POINT_OF_NO_RETURN:
        failure = conflict("LeaseLost", f"{world.lease_holder} holds the StatefulSet's lease now")
        return _stop(state, outcome=Outcome.FAILED, failure=failure, now=now)
    return step


def _what_was_done(state: RestoreState) -> str:
    """A failure after the point of no return says what stays."""
    if state.applied:
        return f" (these collections are in the schema now: {', '.join(state.applied.collections)})"
    return " (some collections may be in the schema already)" if state.applier else ""


def _keep_lease(world: RestoreWorld) -> tuple[Command, ...]:
    return (AcquireLease(),) if world.lease is Lease.FREE else ()
