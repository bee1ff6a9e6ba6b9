"""Whether an operation may start now: the same questions for a backup and a restore, asked in Pending.

A refusal is final at once when it can never pass, and after a grace when what is missing may still be created beside
the operation (one `kubectl apply` often brings location and operation together). Being second is no refusal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from weaviate_backup.core.orders import (
    WATCH_SECONDS,
    AcquireLease,
    Command,
    Lease,
    PlannedBackup,
    PlannedRestore,
    StorePlan,
    seconds_since,
)
from weaviate_backup.core.session import Failure

PENDING_GRACE_SECONDS = 60


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


@dataclass(frozen=True)
class Gate:
    """What is seen of all that stands before a start. `refusals`: everything that forbids it, not only the first."""

    lease: Lease
    lease_holder: str
    native_backup: str | None
    refusals: Sequence[Failure]
    proposal: PlannedBackup | PlannedRestore | None
    plan_stored: bool


def admit(gate: Gate, *, waiting_since: datetime, now: datetime) -> Refused | Wait | Admitted:
    """`waiting_since`: from when on somebody could have seen to what is missing."""
    waited_seconds = seconds_since(waiting_since, now)
    fatal = [refusal for refusal in gate.refusals if not refusal.transient or waited_seconds > _patience(refusal)]
    verdict: Refused | Wait | Admitted = Admitted()
    if fatal:
        verdict = Refused(fatal[0].reason, "; ".join(dict.fromkeys(refusal.message for refusal in fatal)))
    elif gate.refusals:
        verdict = Wait(gate.refusals[0].reason, gate.refusals[0].message, (), 1.0)
    elif gate.lease in (Lease.OTHERS, Lease.UNKNOWN):
        message = f"waiting for {gate.lease_holder or 'another operation'} on the same StatefulSet"
        verdict = Wait("Queued", message, (), WATCH_SECONDS)
    elif gate.lease is Lease.FREE:
        verdict = Wait("", "", (AcquireLease(),), 0.0)
    elif gate.native_backup:
        verdict = Wait("Queued", f"waiting for Weaviate's own backup {gate.native_backup!r}", (), WATCH_SECONDS)
    elif not gate.plan_stored and gate.proposal is None:
        verdict = Wait("Planning", "looking at the cluster", (), 2.0)
    elif not gate.plan_stored and gate.proposal is not None:
        verdict = Wait("", "", (StorePlan(plan=gate.proposal),), 0.0)
    return verdict


def _patience(refusal: Failure) -> float:
    return refusal.patience_seconds if isinstance(refusal, Passing) else PENDING_GRACE_SECONDS
