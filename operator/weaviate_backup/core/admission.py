"""Whether an operation may start now: the same questions for a backup and a restore, asked in Pending.

A refusal is final at once when it can never pass, and after a grace when what is missing may still be created beside
the operation (one `kubectl apply` often brings location and operation together). Being second is no refusal.
"""

from dataclasses import dataclass
from datetime import datetime

from weaviate_backup.core.orders import (
    WATCH_SECONDS,
    AcquireLease,
    Command,
    Lease,
    StorePlan,
    seconds_since,
)
from weaviate_backup.core.session import Failure
from weaviate_backup.core.world import World

PENDING_GRACE_SECONDS = 60
AGAIN_SECONDS = 2.0
"""Until a command that came to nothing is given again."""


class Passing(Failure):
    """What forbids a start now and may still pass, within a patience of its own."""

    patience_seconds: float


@dataclass(frozen=True)
class Refused:
    reason: str
    message: str


@dataclass(frozen=True)
class Wait:
    """`reason` empty: keep what is said already."""

    reason: str
    message: str
    commands: tuple[Command, ...]
    look_again_seconds: float


@dataclass(frozen=True)
class Admitted:
    """The StatefulSet is ours and the plan is stored."""


def admit(world: World, *, waiting_since: datetime, now: datetime) -> Refused | Wait | Admitted:
    """`waiting_since`: from when on somebody could have seen to what is missing.

    Of what forbids a start, everything is named, not only the first.
    """
    waited_seconds = seconds_since(waiting_since, now)
    fatal = [refusal for refusal in world.refusals if not refusal.transient or waited_seconds > _patience(refusal)]
    verdict: Refused | Wait | Admitted = Admitted()
    if fatal:
        verdict = Refused(fatal[0].reason, "; ".join(dict.fromkeys(refusal.message for refusal in fatal)))
    elif world.refusals:
        verdict = Wait(world.refusals[0].reason, world.refusals[0].message, (), 1.0)
    elif world.lease in (Lease.OTHERS, Lease.UNKNOWN):
        message = f"waiting for {world.lease_holder or 'another operation'} on the same StatefulSet"
        verdict = Wait("Queued", message, (), WATCH_SECONDS)
    elif world.lease is Lease.FREE:
        verdict = _ordered(AcquireLease(), world)
    elif world.native_backup:
        verdict = Wait("Queued", f"waiting for Weaviate's own backup {world.native_backup!r}", (), WATCH_SECONDS)
    elif world.plan is None and world.proposal is None:
        verdict = Wait("Planning", "looking at the cluster", (), 2.0)
    elif world.plan is None and world.proposal is not None:
        verdict = _ordered(StorePlan(plan=world.proposal), world)
    return verdict


def _ordered(command: Command, world: World) -> Refused | Wait:
    """The command, at once; again only when it came to nothing for a reason that may pass, and after a pause."""
    failure = world.failed.get(type(command))
    if failure is None:
        return Wait("", "", (command,), 0.0)
    if not failure.transient:
        return Refused(failure.reason, failure.message)
    return Wait(failure.reason, failure.message, (command,), AGAIN_SECONDS)


def _patience(refusal: Failure) -> float:
    return refusal.patience_seconds if isinstance(refusal, Passing) else PENDING_GRACE_SECONDS
