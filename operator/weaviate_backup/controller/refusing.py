"""Ends an operation that no machine can decide on: its object, its plan, or a name in them can never be used.

It lets go of what it holds and says which field is wrong, once.
"""

from datetime import UTC, datetime

from pydantic import ValidationError

from weaviate_backup import metrics
from weaviate_backup.api import conditions
from weaviate_backup.api.backup import BackupPhase, BackupStatus
from weaviate_backup.api.bounds import status_json
from weaviate_backup.api.names import API_VERSION
from weaviate_backup.api.restore import RestorePhase, RestoreStatus
from weaviate_backup.api.status import Finding, WeaviateStatus
from weaviate_backup.controller import events
from weaviate_backup.controller.operations import Json, OperationRuntime
from weaviate_backup.core.orders import Outcome
from weaviate_backup.errors import InvalidInput
from weaviate_backup.kube import Resource


async def end_refused(
    runtime: OperationRuntime,
    resource: Resource,
    body: Json,
    status_type: type[BackupStatus] | type[RestoreStatus],
    error: InvalidInput,
) -> None:
    """Failed, unless it had ended before."""
    await runtime.discard()
    kube, owner, now = runtime.kube, runtime.owner, datetime.now(UTC)
    before = _status_of(body, status_type)
    ended = before.phase.is_terminal
    after = before.model_copy(update={"cleaned_up": True} if ended else _failed(before, body, error, now))
    metadata = {"name": owner.name, "namespace": owner.namespace}
    shown = {"apiVersion": API_VERSION, "kind": owner.kind, "metadata": metadata, "status": status_json(after)}
    await kube.apply(resource, shown, subresource="status")
    if not ended:
        await events.record(kube, owner, reason=error.reason, message=error.message, warning=True, now=now)
        kind = "backup" if status_type is BackupStatus else "restore"
        metrics.OPERATIONS.labels(kind=kind, phase=str(after.phase), reason=error.reason).inc()


def _status_of(body: Json, status_type: type[BackupStatus] | type[RestoreStatus]) -> BackupStatus | RestoreStatus:
    """Its own last status, if that can be read."""
    try:
        return status_type.model_validate(body.get("status") or {})
    except ValidationError:
        return status_type()


def _failed(before: BackupStatus | RestoreStatus, body: Json, error: InvalidInput, now: datetime) -> dict[str, object]:
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
