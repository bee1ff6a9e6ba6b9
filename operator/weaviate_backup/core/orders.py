"""The values both machines decide with: what an operation remembers, what is seen, and what can be ordered.

An operation remembers only what is in its status; a machine gets that as a state, looks at the world of this tick and
answers with the next state and commands. Every command is small and idempotent, and a lost one is found missing by
looking again. Nothing here does anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.patterns import UID
from weaviate_backup.api.status import NodePhase
from weaviate_backup.core.session import Failure, NodeReport, StepCommand, Wire
from weaviate_backup.errors import BackupError, Permanent

STORE_WORKER = "_store-0"
"""Name of the agent without a Weaviate node: it verifies a single node, and replaces verifying agents that are lost.
No node's name begins with `_`, so a StatefulSet may well be called `store`."""
PROBING_WORKERS = (STORE_WORKER, "_store-1")
"""Who tries a location: two, so that a store which only one node sees is found out."""
AGENT_START_SECONDS = 300
"""An agent pod that has not answered after this long is given up."""
AGENT_LOST_SECONDS = 600
"""An agent that has not answered for this long, with steps to take, ends the operation."""
LEASE_MARGIN_SECONDS = 30
LONGEST_BACKOFF_SECONDS = 60
"""Before a step that failed is tried again."""
WATCH_SECONDS = 5.0
"""How soon to look again when nothing wakes us: reports and pods do."""


class Outcome(StrEnum):
    """How an aborted operation ends."""

    FAILED = "Failed"
    CANCELED = "Canceled"


@dataclass(frozen=True)
class NodeState:
    """One agent's part as remembered. `silent_since`: first look at which it did not answer, None while it does.

    `phase` is the last one reached. An agent gets no order before it is remembered as Starting.
    """

    name: str
    phase: NodePhase = NodePhase.PENDING
    session: str | None = None
    attempts: int = 0
    retry_at: datetime | None = None
    silent_since: datetime | None = None
    manifest_sha256: str | None = None
    reason: str = ""
    message: str = ""


class AgentPhase(StrEnum):
    ABSENT = "Absent"
    STARTING = "Starting"
    RUNNING = "Running"
    ENDED = "Ended"
    """Its process is known to be gone: failed, finished, or on the wrong node. It must be made again."""


@dataclass(frozen=True)
class AgentPod:
    """An agent's pod as the API server shows it. `reason` and `message` say what it waits for or why it ended."""

    phase: AgentPhase
    created_at: datetime | None = None
    reason: str = ""
    message: str = ""


ABSENT = AgentPod(phase=AgentPhase.ABSENT)


@dataclass(frozen=True)
class Unreachable:
    reason: str
    message: str


class Lease(StrEnum):
    """Of the StatefulSet: who may work on it."""

    FREE = "free"
    OURS = "ours"
    OTHERS = "others"
    UNKNOWN = "unknown"


Uid = Annotated[str, StringConstraints(pattern=UID)]


class PlannedBackup(Wire):
    """What was decided when the operation left Pending; kept beside the operation's certificates, never changed."""

    nodes: tuple[str, ...]
    leader: str
    collections: tuple[str, ...]
    server_version: str
    started_at: datetime
    stateful_set_uid: Uid
    location: LocationSpec
    """As it was, with the path that this operation uses."""
    warnings: tuple[Failure, ...] = ()
    """What the backup will not hold, as far as that is known beforehand."""


class BackupPin(Wire):
    """What the backup must be, as `said_by` has it: its SHA-256, and those of its nodes' manifests where it has some.

    Both empty: nothing is known of it beforehand, and what lies in the store is taken as it is. `signed`: agents must
    have found a signature good.
    """

    said_by: str = ""
    sha256: str = ""
    node_manifests: dict[str, str] = Field(default_factory=dict)
    signed: bool = False


UNPINNED = BackupPin()


class PlannedRestore(Wire):
    """`nodes` are the target's. `applier` speaks to raft for all."""

    nodes: tuple[str, ...]
    applier: str
    server_version: str
    started_at: datetime
    stateful_set_uid: Uid
    backup_id: str
    location: LocationSpec
    """As it was, with the path that this operation uses."""
    pin: BackupPin = UNPINNED


@dataclass(frozen=True)
class EnsureAgents:
    """Make the missing ones, and those that ended, again."""

    nodes: tuple[str, ...]


@dataclass(frozen=True)
class PutSession:
    """`renewed`: the agent has it, and is told where its Weaviate is by now, because a step failed.

    That is worth a try; one that is refused ends no operation.
    """

    node: str
    renewed: bool = False


@dataclass(frozen=True)
class TakeStep:
    node: str
    command: StepCommand


@dataclass(frozen=True)
class AcquireLease:
    pass


@dataclass(frozen=True)
class StorePlan:
    """Write the plan and the certificates of its agents, unless they are there."""

    plan: PlannedBackup | PlannedRestore


@dataclass(frozen=True)
class RemoveAgents:
    """Pods, certificates and plan."""


@dataclass(frozen=True)
class ReleaseLease:
    pass


@dataclass(frozen=True)
class RecordEvent:
    reason: str
    message: str
    warning: bool = False


class ServerVerb(StrEnum):
    """What Weaviate's own backup engine can be asked to do."""

    CREATE = "create"
    CANCEL = "cancel"
    RESTORE = "restore"
    CANCEL_RESTORE = "cancel restore"


@dataclass(frozen=True)
class ServerRun:
    """An operation of the server's own engine, as remembered before it is asked for.

    `node` coordinates it, in the memory of one process: `process` tells that from a later one (pod uid and restarts).
    `accepted`: the server said that it began, or was seen at work on it.
    """

    node: str
    process: str
    accepted: bool = False


@dataclass(frozen=True)
class CallServer:
    """A request to the coordinating node, if it is still that process. `collections`: to back up or restore."""

    verb: ServerVerb
    run: ServerRun
    collections: tuple[str, ...] = ()


Command = (
    EnsureAgents
    | PutSession
    | TakeStep
    | AcquireLease
    | StorePlan
    | RemoveAgents
    | ReleaseLease
    | RecordEvent
    | CallServer
)
Commands = tuple[Command, ...]
Reports = Mapping[str, NodeReport | Unreachable]


def backoff_seconds(attempts: int) -> float:
    """2, 4, 8 …, at most the longest."""
    return float(min(LONGEST_BACKOFF_SECONDS, 2 ** min(attempts, 6)))


def seconds_since(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else (now - moment).total_seconds()


def retry_time(attempts: int, now: datetime) -> datetime:
    return now + timedelta(seconds=backoff_seconds(attempts))


def conflict(reason: str, message: str) -> Failure:
    """A failure that asking again cannot cure."""
    return Failure(reason=reason, message=message, transient=False)


def failure_of(error: BackupError) -> Failure:
    """The error as a value, for a machine to judge."""
    return Failure(reason=error.reason, message=error.message, transient=not isinstance(error, Permanent))
