"""What is known of an operation of Weaviate's own engine, and what that means. Shared by backup and restore. Pure.

The engine keeps an operation in the memory of the node that was asked; the store shows what that node wrote last. So a
coordinator that restarts leaves an operation that looks under way for ever: it is told from a living one by the node's
process, which is looked at before the server is asked.
"""

from dataclasses import dataclass
from enum import StrEnum

from weaviate_backup.api.status import WeaviateStatus
from weaviate_backup.core.orders import Outcome, ServerRun, conflict
from weaviate_backup.core.session import Failure

ASK_AGAIN_SECONDS = 2.0
"""The server's coordinator looks at its nodes every ten seconds."""
SETTLE_SECONDS = 60.0
"""A request under way shows by then: the server agrees with its nodes within 8 s, then writes its status."""
ASKING_SECONDS = 1800.0
"""A server that will not begin for reasons that may pass is asked for so long."""
ORPHAN_SECONDS = 30.0
"""For so long the nodes of a lost coordinator are told to stop; none of them would say that it did."""
GIVE_UP_SECONDS = 900.0
"""A cancel that shows no effect: the server itself gives a silent node up after seven minutes."""


@dataclass(frozen=True)
class ServerSight:
    """One look at the coordinating node. `status` None: it knows no such operation.

    `process`: of that node, looked at before it was asked. `accepted`, `refusal`: its answer to our last request, if
    this process of ours made one since its last look.
    """

    node: str
    process: str
    status: WeaviateStatus | None
    error: str = ""
    accepted: bool = False
    refusal: Failure | None = None


@dataclass(frozen=True)
class Recovered:
    """What is there of the collections of a restore. `unready`: shards that are not listed ready, as node/shard.

    `objects`: what the server counts in active shards of those that are there.
    """

    present: frozenset[str]
    missing: tuple[str, ...]
    unready: tuple[str, ...] = ()
    objects: int | None = None


class Course(StrEnum):
    """Where an accepted operation stands."""

    UNDER_WAY = "under way"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    GONE = "gone"
    """Neither the node nor the store knows of it."""
    ORPHANED = "orphaned"
    """Its coordinator restarted; nobody will ever write its end."""


_ENDS = {
    WeaviateStatus.SUCCESS: Course.SUCCEEDED,
    WeaviateStatus.FAILED: Course.FAILED,
    WeaviateStatus.CANCELED: Course.CANCELED,
}


def course_of(run: ServerRun, sight: ServerSight) -> Course:
    if sight.status is None:
        return Course.GONE
    if sight.status in _ENDS:
        return _ENDS[sight.status]
    return Course.UNDER_WAY if sight.process == run.process else Course.ORPHANED


def is_over(run: ServerRun, sight: ServerSight | None, *, waited_seconds: float) -> bool:
    """Whether an operation that is to stop does nothing any more, or as far as that can be known."""
    if sight is None:
        return waited_seconds > GIVE_UP_SECONDS
    match course_of(run, sight):
        case Course.UNDER_WAY:
            return waited_seconds > GIVE_UP_SECONDS
        case Course.ORPHANED:
            return waited_seconds > ORPHAN_SECONDS
        case _:  # what shows may be older than a request of ours that is still on its way
            return run.accepted or waited_seconds > SETTLE_SECONDS


def unconfirmed(run: ServerRun | None, sight: ServerSight | None) -> bool:
    """Whether the operation may still be at work when its end is no longer waited for."""
    return run is not None and (sight is None or course_of(run, sight) is Course.UNDER_WAY)


def outcome_unconfirmed(outcome: Outcome | None, failure: Failure, *, what: str) -> Failure:
    """A cancel without an answer is no cancel; any other cause stays, and what is not known is said."""
    note = f"Weaviate did not confirm that it stopped its own {what}, and may complete it"
    if outcome is Outcome.CANCELED:
        return conflict("CancelUnconfirmed", f"{note} ({failure.message})")
    return conflict(failure.reason, f"{failure.message}; {note}")


def why_it_ended(course: Course, run: ServerRun, sight: ServerSight, *, what: str) -> Failure:
    """Of a `what` ("backup", "restore") that is neither under way nor a success."""
    said = f": {sight.error}" if sight.error else ""
    match course:
        case Course.CANCELED:
            return conflict("CanceledAtServer", f"Weaviate's own {what} was canceled, not by this object{said}")
        case Course.GONE:
            message = f"Weaviate began the {what} and knows nothing of it any more; was it deleted from the store?"
            return conflict("VanishedAtServer", message)
        case Course.ORPHANED:
            message = f"Weaviate node {run.node}, which coordinated its own {what}, restarted; nobody will complete it"
            return conflict("CoordinatorLost", message)
        case _:
            return conflict("ServerFailed", f"Weaviate's own {what} failed{said}")


def is_final(refusal: Failure | None, *, asked_seconds: float) -> bool:
    """Whether a refused request is not made again."""
    return refusal is not None and (not refusal.transient or asked_seconds > ASKING_SECONDS)
