"""The restore's machine: state and world in, next state and commands out.

    Pending → Validating → Downloading → Applying → Verifying → Completed
       │           └────────────┴────────────┴──────────┴─→ Aborting → Failed | Canceled
       └─→ Failed | Canceled

Rules that hold at every step, and that the exploration test tries to break:
* a tick that changes the phase orders nothing;
* nothing is downloaded before the plan has passed, nothing placed before every node has everything;
* one agent applies, chosen and remembered before it is told, and never replaced by another;
* from Applying on there is no way back: cancel is not heard, a failure names what was done;
* an agent that may be applying is waited for beyond spec.timeout, but not for ever;
* what raft may still take is taken back nowhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from weaviate_backup.api.restore import RestorePhase
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.admission import Refused, Wait, admit
from weaviate_backup.core.applying import may_be_applying, outcome_is_known, with_restart
from weaviate_backup.core.ending import clean_up, given_up, let_go
from weaviate_backup.core.orders import (
    WATCH_SECONDS,
    AcquireLease,
    Command,
    Lease,
    NodeState,
    Outcome,
    PlannedRestore,
    ServerRun,
    conflict,
    seconds_since,
)
from weaviate_backup.core.restore_plan import RestoreVerdict, RestoreWishes, TargetFacts, plan_restore
from weaviate_backup.core.server_following import Recovered, ServerSight
from weaviate_backup.core.session import Applied, Failure, NodeReport, Step, StepCommand
from weaviate_backup.core.stepping import Advance, Chain, advance, observe
from weaviate_backup.core.world import Request, World, lost_lease, patience_of

POINT_OF_NO_RETURN = frozenset({RestorePhase.APPLYING, RestorePhase.VERIFYING, RestorePhase.ABORTING})
PLACED_STAYS = "what was placed stays on the volumes until the next backup or restore"
PATIENCE_SECONDS = 120.0
"""A node that does not answer for a moment, on a busy machine or in a rollout, is waited for before a plan fails."""


@dataclass(frozen=True)
class RestoreRequest(Request):
    """Of a restore."""

    wishes: RestoreWishes = field(default_factory=RestoreWishes)
    dry_run: bool = False


@dataclass(frozen=True)
class RestoreState:
    """What a restore remembers. `applier`: the agent that may have been told to apply; once it aborts, only if raft may
    still take what nobody saw it take. `server`: of method Server.

    `backup_sha256`: of the backup that the plan was made from; agents use no other.
    """

    phase: RestorePhase = RestorePhase.PENDING
    phase_since: datetime | None = None
    nodes: tuple[NodeState, ...] = ()
    collections: tuple[str, ...] = ()
    backup_sha256: str = ""
    verdict: RestoreVerdict | None = None
    applier: str | None = None
    applied: Applied | None = None
    outcome: Outcome | None = None
    reason: str = ""
    message: str = ""
    cleaned_up: bool = False
    server: ServerRun | None = None


@dataclass(frozen=True)
class RestoreWorld(World):
    """What is seen in this tick. `target`: None while it is not asked, or why it cannot be.

    `server`, `recovered`: of method Server, likewise; the latter what is there of the collections by now.
    """

    proposal: PlannedRestore | None = None
    plan: PlannedRestore | None = None
    target: TargetFacts | Failure | None = None
    server: ServerSight | None = None
    recovered: Recovered | None = None


@dataclass(frozen=True)
class RestoreDecision:
    """`look_again_seconds` None: nothing is left to do, ever."""

    state: RestoreState
    commands: tuple[Command, ...]
    look_again_seconds: float | None


Work = Callable[[RestoreRequest, RestoreState, PlannedRestore, RestoreWorld, datetime], RestoreDecision]


@dataclass(frozen=True)
class RestoreWork:
    """What one method does in each phase between Pending and the end. `agents`: whom it needs, of a plan.

    `may_stop`: by reason of the clock or, with `wished`, of a person.
    """

    agents: Callable[[PlannedRestore], tuple[str, ...]]
    may_stop: Callable[[RestoreState, RestoreWorld, bool], bool]
    validating: Work
    downloading: Work
    applying: Work
    verifying: Work
    aborting: Callable[[RestoreRequest, RestoreState, RestoreWorld, datetime], RestoreDecision]


def decide_restore(  # noqa: PLR0911 (one return per phase)
    request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime, work: RestoreWork | None = None
) -> RestoreDecision:
    """One tick. `work` None: by agents."""
    work = work or BY_AGENTS
    if state.phase_since is None:
        state = replace(state, phase_since=now)
    if state.phase.is_terminal:
        return _clean_up(request, state, world, now)
    why = _reason_to_stop(request, state, world, now, work)
    if why:
        return stop(state, outcome=why[0], failure=why[1], now=now, world=world)
    if world.unseen is not None:
        return _unseen(request, state, world, world.unseen, now, work)
    if state.phase is RestorePhase.PENDING:
        return _pending(request, state, world, now, work)
    if state.phase is RestorePhase.ABORTING:
        return work.aborting(request, state, world, now)
    if world.plan is None:
        lost = conflict("PlanLost", "the Secret with this operation's plan and keys was deleted or is not its own")
        return stop(state, outcome=Outcome.FAILED, failure=lost, now=now, world=world)
    at_work = {
        RestorePhase.VALIDATING: work.validating,
        RestorePhase.DOWNLOADING: work.downloading,
        RestorePhase.APPLYING: work.applying,
        RestorePhase.VERIFYING: work.verifying,
    }
    return at_work[state.phase](request, state, world.plan, world, now)


def _on_all_nodes(step: Step, reached: NodePhase, after: RestorePhase) -> Work:
    """Every node takes the one step, then the next phase begins."""

    def work(
        request: RestoreRequest, state: RestoreState, plan: PlannedRestore, world: RestoreWorld, now: datetime
    ) -> RestoreDecision:
        command = _command(step, request, state)
        taken = advance_or_stop(state, world, dict.fromkeys(plan.nodes, (command,)), now, done_phase=reached)
        if isinstance(taken, RestoreDecision):
            return taken
        state = replace(state, nodes=taken.nodes)
        if taken.done:
            return enter(after, replace(state, reason="", message=""), now)
        return RestoreDecision(state, (*keep_lease(world), *taken.commands), taken.look_again_seconds)

    return work


def _command(step: Step, request: RestoreRequest, state: RestoreState) -> StepCommand:
    """For the collections that were planned, of the backup that was judged."""
    return StepCommand(
        operation_uid=request.uid,
        step=step,
        collections=state.collections,
        overwrite_alias=request.wishes.overwrite_alias,
        backup_sha256=state.backup_sha256,
    )


def enter(phase: RestorePhase, state: RestoreState, now: datetime) -> RestoreDecision:
    nodes = tuple(replace(node, attempts=0, retry_at=None) for node in state.nodes)
    return RestoreDecision(replace(state, phase=phase, phase_since=now, nodes=nodes), (), 0.0)


def stop(
    state: RestoreState, *, outcome: Outcome, failure: Failure, now: datetime, world: RestoreWorld | None = None
) -> RestoreDecision:
    """Aborts what has begun; what has not ends at once. Only a `world` can tell that raft will take nothing more."""
    stopped = replace(state, outcome=outcome, reason=failure.reason, message=failure.message)
    if world is not None and _is_known(state, world):
        stopped = replace(stopped, applier=None)
    if stopped.applier is not None:
        stopped = replace(stopped, message=f"{stopped.message}; {PLACED_STAYS}")
    begun = state.phase is not RestorePhase.PENDING
    return enter(RestorePhase.ABORTING if begun else RestorePhase(outcome), stopped, now)


def _reason_to_stop(
    request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime, work: RestoreWork
) -> tuple[Outcome, Failure] | None:
    if state.phase is RestorePhase.ABORTING:
        return None
    report = world.agents.report(state.applier) if state.applier else None
    done = report is not None and report.applied is not None
    applier = next((node for node in state.nodes if node.name == state.applier), None)
    overdue = not done and request.is_overdue(now, applier, report, Step.APPLY)
    if overdue or (request.is_late(now) and work.may_stop(state, world, False)):
        message = f"not completed within {request.timeout_seconds:.0f} s (spec.timeout) while {state.phase}"
        message = f"{message}: {state.message}" if state.message else message
        return Outcome.FAILED, conflict("TimedOut", f"{message}{_what_was_done(state)}")
    if not work.may_stop(state, world, True):
        return None
    if request.deleting:
        return Outcome.CANCELED, conflict("Deleted", "the object was deleted while its restore ran")
    if request.cancel:
        return Outcome.CANCELED, conflict("Canceled", "spec.cancel was set")
    return None


def _may_stop(state: RestoreState, world: RestoreWorld, wished: bool) -> bool:
    return state.phase not in POINT_OF_NO_RETURN if wished else not _may_be_applying(state, world)


def _may_be_applying(state: RestoreState, world: RestoreWorld) -> bool:
    told = state.applier if state.phase is RestorePhase.APPLYING else None
    return told is not None and may_be_applying(world.agents.report(told))


def _is_known(state: RestoreState, world: RestoreWorld) -> bool:
    """What raft was told is done or refused, all of it."""
    if state.phase is RestorePhase.VERIFYING:
        return True
    applier = next((node for node in state.nodes if node.name == state.applier), None)
    return applier is not None and outcome_is_known(applier, world.agents.report(applier.name))


def _unseen(  # noqa: PLR0917 (all of one tick)
    request: RestoreRequest, state: RestoreState, world: RestoreWorld, why: Failure, now: datetime, work: RestoreWork
) -> RestoreDecision:
    """Nothing is ordered blindly: what has not begun is refused or waits, what aborts is waited for, within a bound."""
    if state.phase is RestorePhase.ABORTING and state.server is not None:
        return work.aborting(request, state, world, now)  # it has bounds of its own, and knows what is not known
    if state.phase is RestorePhase.PENDING and not why.transient:
        return stop(state, outcome=Outcome.FAILED, failure=why, now=now)
    since = request.seen_since(state.phase_since, now)
    if state.phase is RestorePhase.ABORTING and seconds_since(since, now) > patience_of(request.lease_seconds):
        state = replace(state, nodes=given_up(state.nodes, why))
        return enter(RestorePhase(state.outcome or Outcome.FAILED), state, now)
    if state.phase is RestorePhase.PENDING:
        state = replace(state, reason=why.reason, message=why.message)
    return RestoreDecision(state, (), WATCH_SECONDS)


def _pending(
    request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime, work: RestoreWork
) -> RestoreDecision:
    verdict = admit(world, waiting_since=request.seen_since(request.created_at, now), now=now)
    if isinstance(verdict, Refused):
        return stop(state, outcome=Outcome.FAILED, failure=conflict(verdict.reason, verdict.message), now=now)
    if isinstance(verdict, Wait):
        if verdict.reason:
            state = replace(state, reason=verdict.reason, message=verdict.message)
        return RestoreDecision(state, verdict.commands, verdict.look_again_seconds)
    assert world.plan is not None
    nodes = tuple(NodeState(name=name) for name in work.agents(world.plan))
    return enter(RestorePhase.VALIDATING, replace(state, nodes=nodes, reason="", message=""), now)


def validate(
    request: RestoreRequest, state: RestoreState, plan: PlannedRestore, world: RestoreWorld, now: datetime
) -> RestoreDecision:
    """What the inspecting agents read and what the target is, against each other: go on, or every reason not to."""
    inspectors = tuple(node.name for node in state.nodes)
    inspect = StepCommand(operation_uid=request.uid, step=Step.INSPECT)
    step = advance_or_stop(state, world, dict.fromkeys(inspectors, (inspect,)), now, done_phase=NodePhase.INSPECTED)
    if isinstance(step, RestoreDecision):
        return step
    state = replace(state, nodes=step.nodes)
    if not step.done:
        return RestoreDecision(state, (*keep_lease(world), *step.commands), step.look_again_seconds)
    inspected = {
        name: report.inspected
        for name in inspectors
        if (report := world.agents.report(name)) is not None and report.inspected is not None
    }
    if isinstance(world.target, Failure) and not world.target.transient:
        return stop(state, outcome=Outcome.FAILED, failure=world.target, now=now)
    if not isinstance(world.target, TargetFacts) or len(inspected) != len(inspectors):
        said = f": {world.target.message}" if isinstance(world.target, Failure) else ""
        return RestoreDecision(replace(state, reason="Planning", message=f"looking at the target{said}"), (), 1.0)
    verdict = plan_restore(request.wishes, inspected, world.target, pin=plan.pin)
    passing = verdict.refusals if all(refusal.transient for refusal in verdict.refusals) else ()
    if passing and seconds_since(request.seen_since(state.phase_since, now), now) < PATIENCE_SECONDS:
        waiting = replace(state, reason=passing[0].reason, message=passing[0].message)
        return RestoreDecision(waiting, keep_lease(world), 2.0)
    state = replace(state, verdict=verdict, collections=verdict.collections, backup_sha256=verdict.backup_sha256)
    return _decide_plan(request, state, verdict, now)


def _decide_plan(
    request: RestoreRequest, state: RestoreState, verdict: RestoreVerdict, now: datetime
) -> RestoreDecision:
    if verdict.refusals:
        message = "; ".join(refusal.message for refusal in verdict.refusals)
        failure = conflict(verdict.refusals[0].reason, message)
        return stop(state, outcome=Outcome.FAILED, failure=failure, now=now)
    if request.dry_run:
        done = replace(state, reason="DryRun", message="the plan has passed; nothing was written")
        return enter(RestorePhase.COMPLETED, done, now)
    return enter(RestorePhase.DOWNLOADING, replace(state, reason="", message=""), now)


def _applying(
    request: RestoreRequest, state: RestoreState, plan: PlannedRestore, world: RestoreWorld, now: datetime
) -> RestoreDecision:
    """Places on every node, then lets one agent apply. Once it may have been told, nothing is placed again."""
    if state.applier is None:
        placing = (_command(Step.DOWNLOAD, request, state), _command(Step.PLACE, request, state))
        step = advance_or_stop(state, world, dict.fromkeys(plan.nodes, placing), now, done_phase=NodePhase.PLACED)
        if isinstance(step, RestoreDecision):
            return step
        state = replace(state, nodes=step.nodes)
        if step.done:
            return RestoreDecision(replace(state, applier=plan.applier), (), 0.0)
        return RestoreDecision(state, step.commands, step.look_again_seconds)
    apply = _command(Step.APPLY, request, state)
    step = advance_or_stop(state, world, {state.applier: (apply,)}, now, done_phase=NodePhase.PLACED)
    if isinstance(step, RestoreDecision):
        return step
    state = replace(state, nodes=tuple(map(with_restart, state.nodes, step.nodes)))
    report = world.agents.report(state.applier or "")
    if step.done and report is not None:
        return enter(RestorePhase.VERIFYING, replace(state, applied=report.applied), now)
    return RestoreDecision(state, step.commands, step.look_again_seconds)


def _aborting(request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime) -> RestoreDecision:
    """Whoever may be applying lets go first. Then nobody knows what raft was told and still comes to, so no node takes
    back what it placed: raft would find an empty collection there."""
    applier = next((node for node in state.nodes if node.name == state.applier), None)
    first = applier is not None and applier.phase not in (NodePhase.RELEASED, NodePhase.UNREACHABLE)
    going = let_go(
        [node for node in state.nodes if node is applier or not first],
        agents=world.agents,
        since=request.seen_since(state.phase_since, now),
        lease_seconds=request.lease_seconds,
        discard=False,
        keep_placed=applier is not None,
        now=now,
    )
    after = {node.name: node for node in going.nodes}
    state = replace(state, nodes=tuple(after.get(node.name, node) for node in state.nodes))
    if going.settled and first:
        return RestoreDecision(state, (), 0.0)
    if going.settled:
        return enter(RestorePhase(state.outcome or Outcome.FAILED), state, now)
    return RestoreDecision(state, going.commands, going.look_again_seconds)


def _clean_up(request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime) -> RestoreDecision:
    if state.cleaned_up:
        return RestoreDecision(state, (), None)
    going = clean_up(
        state.nodes,
        world,
        completed=state.phase is RestorePhase.COMPLETED,
        since=request.seen_since(state.phase_since, now),
        lease_seconds=request.lease_seconds,
        now=now,
    )
    state = replace(state, nodes=going.nodes)
    if going.settled:
        return RestoreDecision(replace(state, cleaned_up=True), (), 0.0)
    return RestoreDecision(state, going.commands, going.look_again_seconds)


def advance_or_stop(
    state: RestoreState, world: RestoreWorld, chains: Mapping[str, Chain], now: datetime, *, done_phase: NodePhase
) -> Advance | RestoreDecision:
    """Advances the chains, or aborts because of what cannot be cured."""

    def reached(node: NodeState, _: NodeReport) -> NodeState:
        return replace(node, phase=done_phase)

    nodes = observe(state.nodes, world.agents, now)
    step = advance(nodes, chains=chains, remembered=state.nodes, agents=world.agents, now=now, reached=reached)
    state = replace(state, nodes=step.nodes)
    if step.failure and not (state.applier and _may_come_back(step.failure[0], world)):
        name, cause = step.failure
        failure = conflict(cause.reason, f"{name}: {cause.message}{_what_was_done(state)}")
        return stop(state, outcome=Outcome.FAILED, failure=failure, now=now, world=world)
    lost = lost_lease(world) if state.phase not in POINT_OF_NO_RETURN else None
    return stop(state, outcome=Outcome.FAILED, failure=lost, now=now) if lost else step


def _may_come_back(node: str, world: RestoreWorld) -> bool:
    """An agent that does not answer now, and that may be at work, or be made again."""
    return world.agents.report(node) is None and world.agents.barred(node) is None


def _what_was_done(state: RestoreState) -> str:
    """A failure after the point of no return says what stays."""
    if state.applied:
        return f" (these collections are in the schema now: {', '.join(state.applied.collections)})"
    return " (some collections may be in the schema already)" if state.applier else ""


def keep_lease(world: RestoreWorld) -> tuple[Command, ...]:
    return (AcquireLease(),) if world.lease is Lease.FREE else ()


BY_AGENTS = RestoreWork(
    agents=lambda plan: plan.nodes,
    may_stop=_may_stop,
    validating=validate,
    downloading=_on_all_nodes(Step.DOWNLOAD, NodePhase.DOWNLOADED, RestorePhase.APPLYING),
    applying=_applying,
    verifying=_on_all_nodes(Step.CONFIRM, NodePhase.CONFIRMED, RestorePhase.COMPLETED),
    aborting=_aborting,
)
