"""metav1.Condition, and the three conditions by which tools judge an object: Ready, Reconciling, Stalled.

kstatus and Argo CD read them so: Ready true is current; Reconciling true is in progress; Stalled true has failed and
will not go on by itself. Reconciling and Stalled are present only while true. Reasons are our errors' words.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from weaviate_backup.api.model import ApiModel, Count, Time

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
MAX_MESSAGE = 1024
"""Characters of a condition's message; metav1 allows 32768, which a bounded status cannot."""


class Condition(ApiModel):
    """One aspect of an object's state."""

    type: Annotated[str, Field(max_length=316, pattern=r"^[A-Za-z]([A-Za-z0-9/._-]*[A-Za-z0-9])?$")]
    status: Literal["True", "False", "Unknown"]
    observed_generation: Count | None = None
    last_transition_time: Time
    """When status last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    message: Annotated[str, Field(max_length=32768)]


Conditions = tuple[Condition, ...]


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of that type."""
    return next((condition for condition in conditions if condition.type == kind), None)


def progressing(
    previous: Iterable[Condition], *, reason: str, message: str, generation: int, now: datetime
) -> Conditions:
    """Work goes on, or waits for something: Ready false, Reconciling true."""
    wanted = {READY: "False", RECONCILING: "True"}
    return _conditions(previous, wanted, reason=reason, message=message, generation=generation, now=now)


def ready(previous: Iterable[Condition], *, reason: str, message: str, generation: int, now: datetime) -> Conditions:
    """All is done and well: Ready true."""
    return _conditions(previous, {READY: "True"}, reason=reason, message=message, generation=generation, now=now)


def stalled(previous: Iterable[Condition], *, reason: str, message: str, generation: int, now: datetime) -> Conditions:
    """It failed, or cannot go on without a person: Ready false, Stalled true."""
    wanted = {READY: "False", STALLED: "True"}
    return _conditions(previous, wanted, reason=reason, message=message, generation=generation, now=now)


def _conditions(
    previous: Iterable[Condition],
    wanted: dict[str, str],
    *,
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> Conditions:
    """Ours as wanted, others' as they were; a transition time changes only with its status."""
    known = {condition.type: condition for condition in previous}
    ours = []
    for kind, status in wanted.items():
        before = known.get(kind)
        since = before.last_transition_time if before is not None and before.status == status else now
        ours.append(
            Condition.model_validate(
                {
                    "type": kind,
                    "status": status,
                    "observedGeneration": generation,
                    "lastTransitionTime": since,
                    "reason": reason,
                    "message": message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…",
                }
            )
        )
    others = [condition for kind, condition in known.items() if kind not in (READY, RECONCILING, STALLED)]
    return (*ours, *others)
