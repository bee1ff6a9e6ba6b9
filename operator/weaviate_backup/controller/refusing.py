"""Ends an operation that no machine can decide on: its object, its plan, or a name in them can never be used.

It lets go of what it holds and says which field is wrong, once. The API server refuses every write of an object with a
field of another type than its schema's, its status included: then there is an event alone.
"""

import logging
from datetime import UTC, datetime

from weaviate_backup import metrics
from weaviate_backup.api import conditions
from weaviate_backup.api.backup import BackupPhase, BackupStatus
from weaviate_backup.api.bounds import status_json
from weaviate_backup.api.names import API_VERSION
from weaviate_backup.api.operation_spec import TargetReference
from weaviate_backup.api.resources import Resource
from weaviate_backup.api.restore import RestorePhase, RestoreStatus
from weaviate_backup.api.status import Finding, WeaviateStatus
from weaviate_backup.api.stored_objects import read_or_new
from weaviate_backup.controller import events
from weaviate_backup.controller.operations import Json, OperationRuntime
from weaviate_backup.core.orders import Outcome
from weaviate_backup.errors import BackupError

UNREADABLE_LOOK_SECONDS = 300.0
log = logging.getLogger(__name__)


async def end_refused(
    runtime: OperationRuntime,
    resource: Resource,
    body: Json,
    status_type: type[BackupStatus] | type[RestoreStatus],
    error: BackupError,
    *,
    deleting: bool,
) -> float | None:
    """Failed, unless it had ended before. When to look again, should its status not take that and the object stay."""
    await runtime.discard(_stateful_set_of(body))
    kube, owner, now = runtime.kube, runtime.owner, datetime.now(UTC)
    before = read_or_new(status_type, body.get("status") or {})
    ended = before.phase.is_terminal
    after = before.model_copy(update={"cleaned_up": True} if ended else _failed(before, body, error, now))
    metadata = {"name": owner.name, "namespace": owner.namespace}
    shown = {"apiVersion": API_VERSION, "kind": owner.kind, "metadata": metadata, "status": status_json(after)}
    if not ended:
        await events.record(kube, owner, reason=error.reason, message=error.message, warning=True, now=now)
    try:
        await kube.apply(resource, shown, subresource="status")
    except BackupError as refused:
        log.warning("%s %s/%s has no status: %s", owner.kind, owner.namespace, owner.name, refused)
        return None if deleting else UNREADABLE_LOOK_SECONDS
    if not ended:
        kind = "backup" if status_type is BackupStatus else "restore"
        metrics.OPERATIONS.labels(kind=kind, phase=str(after.phase), reason=error.reason).inc()
    return None


def _stateful_set_of(body: Json) -> str:
    """As the spec has it, which may be of any shape: a name that is none is refused before it is asked for."""
    spec = body.get("spec")
    target = spec.get("target") if isinstance(spec, dict) else None
    name = target.get("statefulSet") if isinstance(target, dict) else None
    return str(name or TargetReference().stateful_set)


def _failed(before: BackupStatus | RestoreStatus, body: Json, error: BackupError, now: datetime) -> dict[str, object]:
    generation = int(body["metadata"].get("generation", 1))
    return {
        "phase": BackupPhase.FAILED if isinstance(before, BackupStatus) else RestorePhase.FAILED,
        "observed_generation": generation,
        "conditions": conditions.stalled(
            before.conditions, reason=error.reason, message=error.message, generation=generation, now=now
        ),
        "completion_time": now,
        "phase_start_time": now,
        "weaviate_status": WeaviateStatus.FAILED,
        "outcome": str(Outcome.FAILED),
        "failure": Finding(reason=error.reason, message=error.message),
        "cleaned_up": True,
    }
