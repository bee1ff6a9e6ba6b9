"""Method Server: Weaviate's own restore API does the work, a store worker looks before. Phases of a restore.

    Validating   the worker reads the backup, the target is asked; every reason to refuse is named
    Downloading  the server is asked; then its STARTED, TRANSFERRING, TRANSFERRED
    Applying     the server's FINALIZING: it changes the schema, and cannot be canceled any more
    Verifying    the collections are there, their shards are ready on every node
    Aborting     the server is told to cancel until it says that it ended

The server remembers only the last restore of a backup, and does not say when it was. So a status alone is no proof that
a request arrived: one that is under way is (nobody else may work on the StatefulSet now), and SUCCESS with collections
that were absent before. Rules that hold at every step, and that the exploration test tries to break:
* a request is remembered before it is sent, and sent only while none of the collections is there;
* Completed comes after the server's SUCCESS, with every collection there and ready;
* what the server cannot stop is not called canceled: it goes on to its end, and says so.
"""

from dataclasses import replace
from datetime import datetime

from weaviate_backup.api.restore import RestorePhase
from weaviate_backup.api.status import WeaviateStatus
from weaviate_backup.core.orders import (
    STORE_WORKER,
    CallServer,
    Outcome,
    PlannedRestore,
    ServerRun,
    ServerVerb,
    conflict,
    seconds_since,
)
from weaviate_backup.core.restore_machine import (
    RestoreDecision,
    RestoreRequest,
    RestoreState,
    RestoreWork,
    RestoreWorld,
    enter,
    keep_lease,
    stop,
    validate,
)
from weaviate_backup.core.server_following import (
    ASK_AGAIN_SECONDS,
    GIVE_UP_SECONDS,
    Course,
    Recovered,
    ServerSight,
    course_of,
    is_final,
    is_over,
    outcome_unconfirmed,
    unconfirmed,
    why_it_ended,
)
from weaviate_backup.core.session import Failure
from weaviate_backup.layout.versions import version_key

CANCELABLE_SINCE = (1, 36)
"""Restores can be canceled at the server from this version on."""
VERIFYING_SECONDS = 600
MAY_BE_THERE = "some collections may be in the schema already"


def is_cancelable(server_version: str) -> bool:
    return version_key(server_version)[:2] >= CANCELABLE_SINCE


def _may_stop(state: RestoreState, world: RestoreWorld, wished: bool) -> bool:
    """The clock ends everything, if need be without the server; a person only what the server can still undo."""
    if not wished or state.phase in (RestorePhase.PENDING, RestorePhase.VALIDATING):
        return True
    if state.phase is not RestorePhase.DOWNLOADING:
        return False
    return state.server is None or (world.plan is not None and is_cancelable(world.plan.server_version))


def _downloading(
    request: RestoreRequest, state: RestoreState, _: PlannedRestore, world: RestoreWorld, now: datetime
) -> RestoreDecision:
    run, sight = state.server, world.server
    if sight is None:
        return _wait(state, world)
    if run is None:
        return RestoreDecision(replace(state, server=ServerRun(sight.node, sight.process)), (), 0.0)
    if not run.accepted:
        asked_seconds = seconds_since(request.seen_since(state.phase_since, now), now)
        return _asking(state, run, sight, world, now, asked_seconds=asked_seconds)
    if sight.status is WeaviateStatus.FINALIZING and sight.process == run.process:
        return enter(RestorePhase.APPLYING, state, now)
    return _follow(state, run, sight, world, now)


def _asking(
    state: RestoreState, run: ServerRun, sight: ServerSight, world: RestoreWorld, now: datetime, *, asked_seconds: float
) -> RestoreDecision:
    """A request that was lost, or followed by a crash, is made again while nothing of it shows."""
    if world.recovered is None:
        return _wait(state, world)
    if sight.accepted or _shows(sight, world.recovered):
        return RestoreDecision(replace(state, server=replace(run, accepted=True), reason="", message=""), (), 0.0)
    if sight.refusal and is_final(sight.refusal, asked_seconds=asked_seconds):
        refused = state if sight.refusal.transient else replace(state, server=None)
        return _fail(refused, conflict(sight.refusal.reason, sight.refusal.message), now)
    if world.recovered.present:
        names = ", ".join(sorted(world.recovered.present)[:10])
        message = f"{names}: there before Weaviate's own restore was known to begin; delete them and restore again"
        return _fail(state, conflict("CollectionExists", message), now)
    if sight.process != run.process:  # nothing was begun by the process that is gone
        return RestoreDecision(replace(state, server=ServerRun(sight.node, sight.process)), (), 0.0)
    if sight.refusal is not None:
        state = replace(state, reason=sight.refusal.reason, message=sight.refusal.message)
    call = CallServer(verb=ServerVerb.RESTORE, run=run, collections=state.collections)
    return RestoreDecision(state, (*keep_lease(world), call), ASK_AGAIN_SECONDS)


def _shows(sight: ServerSight, recovered: Recovered) -> bool:
    if sight.status is None or sight.status in (WeaviateStatus.FAILED, WeaviateStatus.CANCELED):
        return False
    return sight.status is not WeaviateStatus.SUCCESS or not recovered.missing


def _applying(
    _: RestoreRequest, state: RestoreState, __: PlannedRestore, world: RestoreWorld, now: datetime
) -> RestoreDecision:
    run, sight = state.server, world.server
    if run is None or sight is None:
        return _wait(state, world)
    return _follow(state, run, sight, world, now)


def _follow(
    state: RestoreState, run: ServerRun, sight: ServerSight, world: RestoreWorld, now: datetime
) -> RestoreDecision:
    course = course_of(run, sight)
    if course is Course.UNDER_WAY:
        return _wait(state, world)
    if course is Course.SUCCEEDED:
        return enter(RestorePhase.VERIFYING, state, now)
    return _fail(state, why_it_ended(course, run, sight, what="restore"), now)


def _verifying(
    request: RestoreRequest, state: RestoreState, _: PlannedRestore, world: RestoreWorld, now: datetime
) -> RestoreDecision:
    """What is loaded late gets some time."""
    found = world.recovered
    if found is not None and not found.missing and not found.unready:
        return enter(RestorePhase.COMPLETED, replace(state, reason="", message=""), now)
    if found is not None and seconds_since(request.seen_since(state.phase_since, now), now) > VERIFYING_SECONDS:
        missing = f"not in the schema: {', '.join(found.missing[:10])}" if found.missing else ""
        unready = f"not ready: {', '.join(found.unready[:10])}" if found.unready else ""
        message = "; ".join(part for part in (missing, unready) if part)
        return _fail(state, conflict("VerificationFailed", message), now)
    return _wait(state, world)


def _aborting(request: RestoreRequest, state: RestoreState, world: RestoreWorld, now: datetime) -> RestoreDecision:
    """Canceled is only what the server canceled; what it brought further than that goes on to its end."""
    run, sight = state.server, world.server
    waited = seconds_since(request.seen_since(state.phase_since, now), now)
    too_late = sight is not None and sight.status in (WeaviateStatus.FINALIZING, WeaviateStatus.SUCCESS)
    if state.outcome is Outcome.CANCELED and run is not None and too_late and (run.accepted or _all_there(world)):
        back = replace(state, server=replace(run, accepted=True), outcome=None, reason="", message="")
        return enter(RestorePhase.APPLYING, back, now)
    known = world.recovered is not None or waited > GIVE_UP_SECONDS
    if run is None or (known and is_over(run, sight, waited_seconds=waited)):
        state = _settle_outcome(state, world)
        return enter(RestorePhase(state.outcome or Outcome.FAILED), state, now)
    begun = sight is not None and sight.status not in (None, WeaviateStatus.FINALIZING, WeaviateStatus.SUCCESS)
    cancelable = world.plan is not None and is_cancelable(world.plan.server_version)
    cancel = (CallServer(verb=ServerVerb.CANCEL_RESTORE, run=run),) if begun and cancelable else ()
    return RestoreDecision(state, cancel, ASK_AGAIN_SECONDS)


def _settle_outcome(state: RestoreState, world: RestoreWorld) -> RestoreState:
    """Canceled only if nothing was changed, as far as that can be seen."""
    run, failure = state.server, conflict(state.reason, state.message)
    unknown = run is not None and world.recovered is None
    if unconfirmed(run, world.server) or (unknown and state.outcome is Outcome.CANCELED):
        failure = outcome_unconfirmed(state.outcome, failure, what="restore")
    elif run is not None and state.outcome is Outcome.CANCELED and world.recovered and world.recovered.present:
        names = ", ".join(sorted(world.recovered.present)[:10])
        failure = conflict("CanceledTooLate", f"{failure.message}, when Weaviate had already restored {names}")
    else:
        return state
    return replace(state, outcome=Outcome.FAILED, reason=failure.reason, message=failure.message)


def _all_there(world: RestoreWorld) -> bool:
    return world.recovered is not None and not world.recovered.missing


def _fail(state: RestoreState, failure: Failure, now: datetime) -> RestoreDecision:
    """Every class is a change of its own, so a failed restore may have made some."""
    changed = state.server is not None and state.server.accepted
    message = f"{failure.message} ({MAY_BE_THERE})" if changed else failure.message
    return stop(state, outcome=Outcome.FAILED, failure=conflict(failure.reason, message), now=now)


def _wait(state: RestoreState, world: RestoreWorld) -> RestoreDecision:
    return RestoreDecision(state, keep_lease(world), ASK_AGAIN_SECONDS)


BY_SERVER = RestoreWork(
    agents=lambda _: (STORE_WORKER,),
    may_stop=_may_stop,
    validating=validate,
    downloading=_downloading,
    applying=_applying,
    verifying=_verifying,
    aborting=_aborting,
)
