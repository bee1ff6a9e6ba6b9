"""The backup's machine: state and world in, next state and commands out.

    Pending → Preparing → Uploading → Finalizing → Completed
       │          └───────────┴───────────┴─→ Aborting → Failed | Canceled
       └─→ Failed | Canceled          (nothing was started)

Rules that hold at every step, and that the exploration test tries to break:
* a tick that changes the phase orders nothing;
* no upload is ordered before every node has frozen all its shards;
* one agent commits, and once it may have been told to, the operation only goes forward: a second one may commit only
  when the first can no longer be at work, and only the committing agent's definite refusal still aborts, or that none
  can be asked any more, which says so;
* Failed and Canceled come after every planned node released what it holds, or its lease ran out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.admission import Refused, Wait, admit
from weaviate_backup.core.ending import clean_up, give_back, given_up, let_go
from weaviate_backup.core.one_schema import by_one_schema, froze_by_others
from weaviate_backup.core.orders import (
    STORE_WORKER,
    WATCH_SECONDS,
    AcquireLease,
    Command,
    EnsureAgents,
    Lease,
    NodeState,
    Outcome,
    PlannedBackup,
    ServerRun,
    conflict,
    seconds_since,
)
from weaviate_backup.core.server_following import ServerSight
from weaviate_backup.core.session import Audited, Committed, Failure, NodeReport, Step, StepCommand, StepPhase
from weaviate_backup.core.stepping import Advance, Chain, advance, observe
from weaviate_backup.core.verification import (
    can_no_longer_commit,
    commit_candidates,
    remember_verified,
    verifier_of,
)
from weaviate_backup.core.world import Request, World, lost_lease, patience_of

PREPARING_SECONDS = 1800
COMMIT_UNCONFIRMED = "CommitUnconfirmed"


class BackupRequest(Request):
    """Of a backup."""


@dataclass(frozen=True)
class BackupState:
    """What a backup remembers.

    `missing`: planned collections that were gone at the cut. `wrote`: bytes may be in the store. `committer`: the agent
    that may have been told to commit. `server`, `audited`: of method Server.
    """

    phase: BackupPhase = BackupPhase.PENDING
    phase_since: datetime | None = None
    nodes: tuple[NodeState, ...] = ()
    missing: tuple[str, ...] = ()
    wrote: bool = False
    committer: str | None = None
    committed: Committed | None = None
    outcome: Outcome | None = None
    reason: str = ""
    message: str = ""
    cleaned_up: bool = False
    server: ServerRun | None = None
    audited: Audited | None = None

    def node(self, name: str) -> NodeState | None:
        return next((node for node in self.nodes if node.name == name), None)


@dataclass(frozen=True)
class BackupWorld(World):
    """What is seen in this tick. `server`: Weaviate's own engine, for method Server; None while it cannot be asked."""

    proposal: PlannedBackup | None = None
    plan: PlannedBackup | None = None
    server: ServerSight | None = None


@dataclass(frozen=True)
class BackupDecision:
    """`look_again_seconds` None: nothing is left to do, ever."""

    state: BackupState
    commands: tuple[Command, ...]
    look_again_seconds: float | None


Work = Callable[[BackupRequest, BackupState, PlannedBackup, BackupWorld, datetime], BackupDecision]


@dataclass(frozen=True)
class BackupWork:
    """What one method does in each phase between Pending and the end. `agents`: whom it needs, of a plan."""

    agents: Callable[[PlannedBackup], tuple[str, ...]]
    preparing: Work
    uploading: Work
    finalizing: Work
    aborting: Callable[[BackupRequest, BackupState, BackupWorld, datetime], BackupDecision]


def decide_backup(  # noqa: PLR0911 (one return per phase)
    request: BackupRequest, state: BackupState, world: BackupWorld, now: datetime, work: BackupWork | None = None
) -> BackupDecision:
    """One tick. `work` None: by agents."""
    work = work or BY_AGENTS
    if state.phase_since is None:
        state = replace(state, phase_since=now)
    if state.phase.is_terminal:
        return _clean_up(request, state, world, now)
    why = _reason_to_stop(request, state, world, now)
    if why:
        return stop(state, outcome=why[0], failure=why[1], now=now)
    if world.unseen is not None:
        return _unseen(request, state, world, world.unseen, now, work)
    if state.phase is BackupPhase.PENDING:
        return _pending(request, state, world, now, work)
    if state.phase is BackupPhase.ABORTING:
        return work.aborting(request, state, world, now)
    if world.plan is None:
        lost = conflict("PlanLost", "the Secret with this operation's plan and keys was deleted or is not its own")
        failure = _unconfirmed(lost.message) if state.committer else lost
        return stop(state, outcome=Outcome.FAILED, failure=failure, now=now)
    if state.phase is BackupPhase.PREPARING:
        return work.preparing(request, state, world.plan, world, now)
    if state.phase is BackupPhase.UPLOADING:
        return work.uploading(request, state, world.plan, world, now)
    return work.finalizing(request, state, world.plan, world, now)


def alive_collections(plan: PlannedBackup, state: BackupState) -> tuple[str, ...]:
    return tuple(name for name in plan.collections if name not in state.missing)


def enter(phase: BackupPhase, state: BackupState, now: datetime) -> BackupDecision:
    nodes = tuple(replace(node, attempts=0, retry_at=None) for node in state.nodes)
    return BackupDecision(replace(state, phase=phase, phase_since=now, nodes=nodes), (), 0.0)


def stop(state: BackupState, *, outcome: Outcome, failure: Failure, now: datetime) -> BackupDecision:
    """Aborts what has begun; what has not ends at once."""
    wrote = state.wrote and failure.reason != COMMIT_UNCONFIRMED  # what may be a backup by now is not taken back
    stopped = replace(state, outcome=outcome, reason=failure.reason, message=failure.message, wrote=wrote)
    begun = state.phase is not BackupPhase.PENDING
    return enter(BackupPhase.ABORTING if begun else BackupPhase(outcome), stopped, now)


def _reason_to_stop(
    request: BackupRequest, state: BackupState, world: BackupWorld, now: datetime
) -> tuple[Outcome, Failure] | None:
    if state.phase is BackupPhase.ABORTING:
        return None
    if state.committer:
        report = world.agents.report(state.committer)
        done = report is not None and report.committed is not None
        overdue = not done and request.is_overdue(now, state.node(state.committer), report, Step.COMMIT)
        return (Outcome.FAILED, _unconfirmed("spec.timeout is long over")) if overdue else None
    if request.deleting:
        return Outcome.CANCELED, conflict("Deleted", "the object was deleted while its backup ran")
    if request.cancel:
        return Outcome.CANCELED, conflict("Canceled", "spec.cancel was set")
    if request.is_late(now):
        message = f"not completed within {request.timeout_seconds:.0f} s (spec.timeout) while {state.phase}"
        return Outcome.FAILED, conflict("TimedOut", f"{message}: {state.message}" if state.message else message)
    return None


def _unconfirmed(why: str) -> Failure:
    """Nobody can say any more whether the one who was told to commit did."""
    message = f"an agent was told to commit, and did not say that it did ({why}); look whether the store has the backup"
    return conflict(COMMIT_UNCONFIRMED, message)


def _unseen(  # noqa: PLR0917 (all of one tick)
    request: BackupRequest, state: BackupState, world: BackupWorld, why: Failure, now: datetime, work: BackupWork
) -> BackupDecision:
    """Nothing is ordered blindly: what has not begun is refused or waits, what aborts is waited for, within a bound."""
    if state.phase is BackupPhase.ABORTING and state.server is not None:
        return work.aborting(request, state, world, now)  # it has bounds of its own, and knows what is not known
    if state.phase is BackupPhase.PENDING and not why.transient:
        return stop(state, outcome=Outcome.FAILED, failure=why, now=now)
    since = request.seen_since(state.phase_since, now)
    if state.phase is BackupPhase.ABORTING and seconds_since(since, now) > patience_of(request.lease_seconds):
        state = replace(state, nodes=given_up(state.nodes, why))
        return enter(BackupPhase(state.outcome or Outcome.FAILED), state, now)
    if state.phase is BackupPhase.PENDING:
        state = replace(state, reason=why.reason, message=why.message)
    return BackupDecision(state, (), WATCH_SECONDS)


def _pending(
    request: BackupRequest, state: BackupState, world: BackupWorld, now: datetime, work: BackupWork
) -> BackupDecision:
    verdict = admit(world, waiting_since=request.seen_since(request.created_at, now), now=now)
    if isinstance(verdict, Refused):
        return stop(state, outcome=Outcome.FAILED, failure=conflict(verdict.reason, verdict.message), now=now)
    if isinstance(verdict, Wait):
        if verdict.reason:
            state = replace(state, reason=verdict.reason, message=verdict.message)
        return BackupDecision(state, verdict.commands, verdict.look_again_seconds)
    assert world.plan is not None
    nodes = tuple(NodeState(name=name) for name in work.agents(world.plan))
    return enter(BackupPhase.PREPARING, replace(state, nodes=nodes, reason="", message="", wrote=True), now)


def _preparing(
    request: BackupRequest, state: BackupState, plan: PlannedBackup, world: BackupWorld, now: datetime
) -> BackupDecision:
    freeze = StepCommand(operation_uid=request.uid, step=Step.FREEZE)
    step = advance_or_stop(state, world, dict.fromkeys(plan.nodes, (freeze,)), now, done_phase=NodePhase.FROZEN)
    if isinstance(step, BackupDecision):
        return step
    state = replace(state, nodes=step.nodes)
    if step.done:
        reports = [report for name in plan.nodes if (report := world.agents.report(name))]
        gone = {name for report in reports if report.frozen for name in report.frozen.missing_collections}
        missing = tuple(name for name in plan.collections if name in gone)
        if mixed := froze_by_others(plan, world):
            return stop(state, outcome=Outcome.FAILED, failure=mixed, now=now)
        return enter(BackupPhase.UPLOADING, replace(state, missing=missing), now)
    if seconds_since(request.seen_since(state.phase_since, now), now) > PREPARING_SECONDS:
        waiting = [node for node in step.nodes if node.phase is not NodePhase.FROZEN and node.name != STORE_WORKER]
        detail = "; ".join(f"{node.name}: {node.message or node.phase}" for node in waiting)
        failure = conflict("PreparingTimedOut", f"not all nodes froze within {PREPARING_SECONDS} s ({detail})")
        return stop(state, outcome=Outcome.FAILED, failure=failure, now=now)
    commands = (*keep_lease(world), *by_one_schema(step.commands, plan, world, wait=True))
    return BackupDecision(state, commands, step.look_again_seconds)


def _uploading(
    request: BackupRequest, state: BackupState, plan: PlannedBackup, world: BackupWorld, now: datetime
) -> BackupDecision:
    freeze = StepCommand(operation_uid=request.uid, step=Step.FREEZE)
    collections = alive_collections(plan, state)
    upload = StepCommand(operation_uid=request.uid, step=Step.UPLOAD, collections=collections)
    step = advance_or_stop(
        state, world, dict.fromkeys(plan.nodes, (freeze, upload)), now, done_phase=NodePhase.UPLOADED
    )
    if isinstance(step, BackupDecision):
        return step
    state = replace(state, nodes=step.nodes)
    if mixed := froze_by_others(plan, world):  # the leader may have lost its volume meanwhile
        return stop(state, outcome=Outcome.FAILED, failure=mixed, now=now)
    if step.done:
        return enter(BackupPhase.FINALIZING, state, now)
    commands = (
        *keep_lease(world),
        *by_one_schema(step.commands, plan, world, wait=False),
        *_warm_store_worker(state, world),
    )
    return BackupDecision(state, commands, step.look_again_seconds)


def _finalizing(
    request: BackupRequest, state: BackupState, plan: PlannedBackup, world: BackupWorld, now: datetime
) -> BackupDecision:
    remembered = state.nodes
    nodes, mismatch = remember_verified(observe(remembered, world.agents, now), plan=plan, agents=world.agents)
    state = replace(state, nodes=nodes)
    if mismatch and not state.committer:
        return stop(state, outcome=Outcome.FAILED, failure=mismatch, now=now)
    unverified = [node.name for node in nodes if node.name in plan.nodes and node.phase is not NodePhase.VERIFIED]
    if unverified:
        chains: dict[str, Chain] = {}
        for name in unverified:
            verifier = verifier_of(name, nodes, world.agents, now)
            command = StepCommand(operation_uid=request.uid, step=Step.VERIFY, verify_node=name)
            chains[verifier] = (*chains.get(verifier, ()), command)
        return _order(_with_worker(state, tuple(chains)), world, chains, remembered, now)
    committer = state.node(state.committer) if state.committer else None
    if committer is None or can_no_longer_commit(committer, world.agents, lease_seconds=request.lease_seconds, now=now):
        chosen = next((name for name in commit_candidates(plan, nodes) if world.agents.report(name)), None)
        if chosen:
            return BackupDecision(replace(state, committer=chosen), (), 0.0)  # remembered before it is told
        return _revive(_with_worker(state, (STORE_WORKER,)), plan, world, now)
    digests = {node.name: node.manifest_sha256 or "" for node in nodes if node.name in plan.nodes}
    command = StepCommand(operation_uid=request.uid, step=Step.COMMIT, verified=digests)
    report = world.agents.report(committer.name)
    if report is not None and report.committed is not None:
        done = replace(state, committed=report.committed, reason="", message="")
        return enter(BackupPhase.COMPLETED, done, now)
    return _order(state, world, {committer.name: (command,)}, remembered, now)


def _order(
    state: BackupState,
    world: BackupWorld,
    chains: Mapping[str, Chain],
    remembered: tuple[NodeState, ...],
    now: datetime,
) -> BackupDecision:
    """Advances verifying and committing agents: a lost one is replaced, a definite refusal aborts."""
    step = advance(state.nodes, chains=chains, remembered=remembered, agents=world.agents, now=now)
    state = replace(state, nodes=step.nodes)
    report = world.agents.report(step.failure[0]) if step.failure else None
    if step.failure and report is not None:
        told = state.committer == report.node
        refused = Step.COMMIT in report.steps and report.steps[Step.COMMIT].phase is StepPhase.FAILED
        failure = _at(step.failure)  # an answer to the command that could not be read says nothing of what it did
        failure = failure if refused or not told else _unconfirmed(failure.message)
        return stop(state, outcome=Outcome.FAILED, failure=failure, now=now)
    return BackupDecision(state, step.commands, step.look_again_seconds)


def _aborting(request: BackupRequest, state: BackupState, world: BackupWorld, now: datetime) -> BackupDecision:
    """Takes back what was written, then lets go on every node; a lost agent's lease is waited for."""
    since = request.seen_since(state.phase_since, now)
    going = let_go(
        state.nodes,
        agents=world.agents,
        since=since,
        lease_seconds=request.lease_seconds,
        discard=state.wrote,
        now=now,
    )
    state = replace(state, nodes=going.nodes)
    if going.settled:
        return give_back_or_end(state, world, since, now)
    return BackupDecision(state, going.commands, going.look_again_seconds)


def give_back_or_end(state: BackupState, world: BackupWorld, since: datetime, now: datetime) -> BackupDecision:
    """What was taken back left the identifier free, as far as anybody can be asked."""
    giving = give_back(state.nodes, agents=world.agents, waited_seconds=seconds_since(since, now), now=now)
    if giving is None:
        return enter(BackupPhase(state.outcome or Outcome.FAILED), state, now)
    return BackupDecision(replace(state, nodes=giving.nodes), giving.commands, giving.look_again_seconds)


def _clean_up(request: BackupRequest, state: BackupState, world: BackupWorld, now: datetime) -> BackupDecision:
    if state.cleaned_up:
        return BackupDecision(state, (), None)
    going = clean_up(
        state.nodes,
        world,
        completed=state.phase is BackupPhase.COMPLETED,
        since=request.seen_since(state.phase_since, now),
        lease_seconds=request.lease_seconds,
        now=now,
    )
    state = replace(state, nodes=going.nodes)
    if going.settled:
        return BackupDecision(replace(state, cleaned_up=True), (), 0.0)
    return BackupDecision(state, going.commands, going.look_again_seconds)


def advance_or_stop(
    state: BackupState, world: BackupWorld, chains: Mapping[str, Chain], now: datetime, *, done_phase: NodePhase
) -> Advance | BackupDecision:
    """Advances the chains, or aborts because of what cannot be cured."""

    def reached(node: NodeState, report: NodeReport) -> NodeState:
        digest = report.uploaded.manifest_sha256 if report.uploaded else node.manifest_sha256
        return replace(node, phase=done_phase, manifest_sha256=digest)

    nodes = observe(state.nodes, world.agents, now)
    step = advance(nodes, chains=chains, remembered=state.nodes, agents=world.agents, now=now, reached=reached)
    state = replace(state, nodes=step.nodes)
    if step.failure:
        return stop(state, outcome=Outcome.FAILED, failure=_at(step.failure), now=now)
    lost = lost_lease(world)
    return stop(state, outcome=Outcome.FAILED, failure=lost, now=now) if lost else step


def _with_worker(state: BackupState, names: tuple[str, ...]) -> BackupState:
    if STORE_WORKER in names and state.node(STORE_WORKER) is None:
        return replace(state, nodes=(*state.nodes, NodeState(name=STORE_WORKER)))
    return state


def _revive(state: BackupState, plan: PlannedBackup, world: BackupWorld, now: datetime) -> BackupDecision:
    """No agent answers that could commit: bring back those that are gone, if they may come."""
    gone = tuple(node.name for node in state.nodes if world.agents.gone(node.name))
    barred = [world.agents.barred(name) for name in commit_candidates(plan, state.nodes)]
    if barred and all(barred) and barred[0] is not None:
        failure = _unconfirmed(barred[0].message) if state.committer else barred[0]
        return stop(state, outcome=Outcome.FAILED, failure=failure, now=now)
    return BackupDecision(state, (EnsureAgents(nodes=gone),) if gone else (), 1.0)


def _warm_store_worker(state: BackupState, world: BackupWorld) -> tuple[Command, ...]:
    """A single node is verified by the worker, which starts while the upload runs."""
    if state.node(STORE_WORKER) and world.agents.gone(STORE_WORKER):
        return (EnsureAgents(nodes=(STORE_WORKER,)),)
    return ()


def keep_lease(world: BackupWorld) -> tuple[Command, ...]:
    return (AcquireLease(),) if world.lease is Lease.FREE else ()


def _at(failure: tuple[str, Failure]) -> Failure:
    name, cause = failure
    return conflict(cause.reason, f"{name}: {cause.message}")


def _agents(plan: PlannedBackup) -> tuple[str, ...]:
    """With a single node, a worker beside it, which verifies."""
    return plan.nodes if len(plan.nodes) > 1 else (*plan.nodes, STORE_WORKER)


BY_AGENTS = BackupWork(
    agents=_agents, preparing=_preparing, uploading=_uploading, finalizing=_finalizing, aborting=_aborting
)
