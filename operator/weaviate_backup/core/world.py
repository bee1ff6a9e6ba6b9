"""What both machines are told in a tick, and what of it says that an operation cannot go on. Pure.

Whatever cannot be looked at or done is a value here. Only so a machine hears a cancel, a deletion and the clock in
every tick, whatever somebody laid in the operation's way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from weaviate_backup.core.orders import (
    LEASE_MARGIN_SECONDS,
    AcquireLease,
    Lease,
    NodeState,
    PlannedBackup,
    PlannedRestore,
    conflict,
    seconds_since,
)
from weaviate_backup.core.session import Failure, NodeReport, Step, StepPhase
from weaviate_backup.core.stepping import Agents

AT_WORK_SECONDS = 7200
"""Longer than the largest commit or apply takes."""
FailedCommands = Mapping[type, Failure]
"""By the command's type: those of the last tick that are no node's, and came to nothing."""


@dataclass(frozen=True)
class Request:
    """What a machine needs to know of the spec and the metadata."""

    uid: str
    created_at: datetime
    timeout_seconds: float
    seen_at: datetime | None = None
    """From when on this operator has looked at it: what it missed while it was away may still come."""
    lease_seconds: int = 600
    cancel: bool = False
    deleting: bool = False

    def seen_since(self, moment: datetime | None, now: datetime) -> datetime:
        """From when on this operator could have seen to what is so since then."""
        return max(moment or now, self.seen_at or moment or now)

    def is_late(self, now: datetime) -> bool:
        return seconds_since(self.created_at, now) > self.timeout_seconds

    def is_overdue(self, now: datetime, agent: NodeState | None, report: NodeReport | None, step: Step) -> bool:
        """So late that this agent is not waited for any more. One that is at the step has some time more, and one that
        does not answer is taken for at work until it has been silent for long: nobody knows better."""
        if report is None:
            silent_seconds = seconds_since(agent.silent_since if agent else None, now)
            at_work = silent_seconds <= patience_of(self.lease_seconds)
        else:
            at_work = step in report.steps and report.steps[step].phase is StepPhase.RUNNING
        late_seconds = seconds_since(self.created_at, now) - self.timeout_seconds
        seen_seconds = seconds_since(self.seen_at or self.created_at, now)
        patience_seconds = patience_of(self.lease_seconds) + (AT_WORK_SECONDS if at_work else 0)
        return min(late_seconds, seen_seconds) > patience_seconds


@dataclass(frozen=True)
class World:
    """`proposal`: what would be planned now. `remains`: pods or Secrets still exist, as far as is known.

    `failed`: those to a node are troubles of `agents`.
    `unseen`: why this operation could not be looked at. Nothing is known of its agents then; none is taken for gone.
    """

    agents: Agents
    lease: Lease
    lease_holder: str = ""
    native_backup: str | None = None
    refusals: tuple[Failure, ...] = ()
    proposal: PlannedBackup | PlannedRestore | None = None
    plan: PlannedBackup | PlannedRestore | None = None
    remains: bool = False
    failed: FailedCommands = field(default_factory=dict)
    unseen: Failure | None = None


def patience_of(lease_seconds: int) -> int:
    """How long what does not show is waited for: well beyond the end of every lease."""
    return 3 * (lease_seconds + LEASE_MARGIN_SECONDS)


def refused(failed: FailedCommands, command: type) -> Failure | None:
    """Why a command of that type is not given again."""
    failure = failed.get(command)
    return None if failure is None or failure.transient else failure


def lost_lease(world: World) -> Failure | None:
    """Why the StatefulSet is not ours any more."""
    if world.lease is Lease.OTHERS:
        return conflict("LeaseLost", f"{world.lease_holder} holds the StatefulSet's lease now")
    why = refused(world.failed, AcquireLease)
    if world.lease is Lease.FREE and why is not None:
        return conflict("LeaseLost", f"the StatefulSet's lease is gone and cannot be taken again: {why.message}")
    return None
