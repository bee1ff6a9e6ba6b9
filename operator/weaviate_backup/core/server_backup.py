"""Method Server: Weaviate's own backup API does the work, a store worker looks before and after. Phases of a backup.

    Preparing    the worker finds the identifier free, the server knows none; then the server is asked
    Uploading    the server's STARTED, TRANSFERRING, TRANSFERRED
    Finalizing   the worker reads the whole backup back
    Aborting     the server is told to cancel until it says that it ended

Rules that hold at every step, and that the exploration test tries to break:
* a request is remembered before it is sent, and only after the identifier was seen free: what shows up later is ours;
* an operation that is not ours is never canceled;
* Completed comes after the server's SUCCESS and a whole audit.
"""

from dataclasses import replace
from datetime import datetime

from weaviate_backup.api.backup import BackupPhase
from weaviate_backup.api.status import NodePhase, WeaviateStatus
from weaviate_backup.core.backup_machine import (
    BackupDecision,
    BackupRequest,
    BackupState,
    BackupWork,
    BackupWorld,
    advance_or_stop,
    enter,
    give_back_or_end,
    keep_lease,
    stop,
)
from weaviate_backup.core.orders import (
    STORE_WORKER,
    CallServer,
    Outcome,
    PlannedBackup,
    ServerRun,
    ServerVerb,
    conflict,
    seconds_since,
)
from weaviate_backup.core.server_following import (
    ASK_AGAIN_SECONDS,
    Course,
    course_of,
    is_final,
    is_over,
    outcome_unconfirmed,
    unconfirmed,
    why_it_ended,
)
from weaviate_backup.core.session import Failure, Step, StepCommand


def _preparing(
    request: BackupRequest, state: BackupState, plan: PlannedBackup, world: BackupWorld, now: datetime
) -> BackupDecision:
    """Looks whether the identifier is free, remembers that the server is going to be asked, then asks."""
    if state.server is not None:
        asked_seconds = seconds_since(request.seen_since(state.phase_since, now), now)
        return _asking(state, state.server, plan, world, now, asked_seconds=asked_seconds)
    vacancy = StepCommand(operation_uid=request.uid, step=Step.VACANCY)
    step = advance_or_stop(state, world, {STORE_WORKER: (vacancy,)}, now, done_phase=NodePhase.READY)
    if isinstance(step, BackupDecision):
        return step
    state = replace(state, nodes=step.nodes)
    sight = world.server
    if sight is not None and sight.status is not None:
        message = f"Weaviate knows a backup of this identifier already ({sight.status}); choose another backupID"
        return _fail(state, conflict("BackupExists", message), now)
    if sight is None or not step.done:
        pause = min(step.look_again_seconds, ASK_AGAIN_SECONDS)
        return BackupDecision(state, (*keep_lease(world), *step.commands), pause)
    return BackupDecision(replace(state, server=ServerRun(sight.node, sight.process)), (), 0.0)


def _asking(
    state: BackupState,
    run: ServerRun,
    plan: PlannedBackup,
    world: BackupWorld,
    now: datetime,
    *,
    asked_seconds: float,
) -> BackupDecision:
    """A request that was lost, or followed by a crash, is made again; one that shows at the server was made."""
    sight = world.server
    if sight is None:
        return BackupDecision(state, keep_lease(world), ASK_AGAIN_SECONDS)
    if sight.accepted or sight.status is not None:
        accepted = replace(state, server=replace(run, accepted=True), wrote=True, reason="", message="")
        return enter(BackupPhase.UPLOADING, accepted, now)
    if sight.refusal and is_final(sight.refusal, asked_seconds=asked_seconds):
        refused = state if sight.refusal.transient else replace(state, server=None)
        return _fail(refused, conflict(sight.refusal.reason, sight.refusal.message), now)
    if sight.process != run.process:  # nothing was begun by the process that is gone
        return BackupDecision(replace(state, server=ServerRun(sight.node, sight.process)), (), 0.0)
    if sight.refusal is not None:
        state = replace(state, reason=sight.refusal.reason, message=sight.refusal.message)
    create = CallServer(verb=ServerVerb.CREATE, run=run, collections=plan.collections)
    return BackupDecision(state, (*keep_lease(world), create), ASK_AGAIN_SECONDS)


def _uploading(
    _: BackupRequest, state: BackupState, __: PlannedBackup, world: BackupWorld, now: datetime
) -> BackupDecision:
    run, sight = state.server, world.server
    if run is None:
        return _fail(state, conflict("RequestLost", "the status no longer says which server was asked"), now)
    if sight is None:
        return BackupDecision(state, keep_lease(world), ASK_AGAIN_SECONDS)
    course = course_of(run, sight)
    if course is Course.UNDER_WAY:
        return BackupDecision(state, keep_lease(world), ASK_AGAIN_SECONDS)
    if course is Course.SUCCEEDED:
        return enter(BackupPhase.FINALIZING, state, now)
    return _fail(state, why_it_ended(course, run, sight, what="backup"), now)


def _finalizing(
    request: BackupRequest, state: BackupState, plan: PlannedBackup, world: BackupWorld, now: datetime
) -> BackupDecision:
    audit = StepCommand(operation_uid=request.uid, step=Step.AUDIT, collections=plan.collections)
    step = advance_or_stop(state, world, {STORE_WORKER: (audit,)}, now, done_phase=NodePhase.VERIFIED)
    if isinstance(step, BackupDecision):
        return step
    state = replace(state, nodes=step.nodes)
    report = world.agents.report(STORE_WORKER)
    if step.done and report is not None and report.audited is not None:
        return enter(BackupPhase.COMPLETED, replace(state, audited=report.audited, reason="", message=""), now)
    return BackupDecision(state, (*keep_lease(world), *step.commands), step.look_again_seconds)


def _aborting(request: BackupRequest, state: BackupState, world: BackupWorld, now: datetime) -> BackupDecision:
    """Nothing that the server wrote is deleted: its own record of a backup that did not succeed stays in the store."""
    run, sight = state.server, world.server
    since = request.seen_since(state.phase_since, now)
    if run is None:
        return give_back_or_end(state, world, since, now)
    if is_over(run, sight, waited_seconds=seconds_since(since, now)):
        if unconfirmed(run, sight):
            said = outcome_unconfirmed(state.outcome, conflict(state.reason, state.message), what="backup")
            state = replace(state, outcome=Outcome.FAILED, reason=said.reason, message=said.message)
            return enter(BackupPhase(state.outcome or Outcome.FAILED), state, now)
        if sight is not None and sight.status is WeaviateStatus.SUCCESS and run is not None:
            said_of_it = "Weaviate had completed its own backup, which stays in the store and was not verified"
            state = replace(state, message=f"{state.message}; {said_of_it}")
        return give_back_or_end(state, world, since, now)
    begun = sight is not None and sight.status is not None
    cancel = (CallServer(verb=ServerVerb.CANCEL, run=run),) if begun else ()
    return BackupDecision(state, cancel, ASK_AGAIN_SECONDS)


def _fail(state: BackupState, failure: Failure, now: datetime) -> BackupDecision:
    return stop(state, outcome=Outcome.FAILED, failure=failure, now=now)


BY_SERVER = BackupWork(
    agents=lambda _: (STORE_WORKER,),
    preparing=_preparing,
    uploading=_uploading,
    finalizing=_finalizing,
    aborting=_aborting,
)
