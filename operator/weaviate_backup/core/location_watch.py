"""When a location is tried again. Pure; what is known comes from its status, so a restarted operator goes on."""

from dataclasses import dataclass
from datetime import datetime, timedelta

PROBING = "Probing"
SUSPENDED = "LocationSuspended"
"""Reasons of a Ready condition without a verdict."""
RETRY_SECONDS = (5.0, 10.0, 20.0, 60.0, 300.0)
"""After so many failures in a row; whoever changes the location, its Secret, or wants to use it, need not wait."""


@dataclass(frozen=True)
class Known:
    """The last verdict. `generation` None: there is none."""

    generation: int | None
    secrets_version: str | None
    tried_at: datetime | None
    ready: bool
    tried: bool
    """False while a first probe of this spec is under way, and while suspended."""


def due_in_seconds(
    known: Known,
    *,
    generation: int,
    secrets_version: str,
    suspended: bool,
    wanted_at: datetime | None,
    failures: int,
    interval_seconds: float,
    now: datetime,
) -> float:
    """Until the next look at the store; 0 or less: now. `wanted_at`: when somebody last asked to use the location."""
    if known.generation != generation or known.tried_at is None:
        return 0.0
    if suspended:
        return interval_seconds
    if not known.tried or known.secrets_version != secrets_version:
        return 0.0
    if not known.ready and wanted_at is not None and wanted_at > known.tried_at:
        return 0.0
    pause = interval_seconds if known.ready else RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1 if failures else 0]
    return (known.tried_at + timedelta(seconds=pause) - now).total_seconds()
