"""Ends an operation whose object is not what its schema says, since nothing else can be done with it.

Such an object was stored before its schema was as strict. Its agents go; its Lease is free once it is finished. The API
server refuses every write of one with a field of another type, its status included: then there is an event alone.
"""

import logging
from datetime import UTC, datetime

from weaviate_backup import metrics
from weaviate_backup.api import conditions
from weaviate_backup.api.backup import BackupStatus
from weaviate_backup.api.bounds import status_json
from weaviate_backup.api.names import API_VERSION
from weaviate_backup.api.restore import RestoreStatus
from weaviate_backup.api.status import Finding, WeaviateStatus
from weaviate_backup.api.stored_objects import Json, read_or_new
from weaviate_backup.controller import events
from weaviate_backup.controller.operations import OperationRuntime
from weaviate_backup.errors import BackupError, Permanent, excerpt
from weaviate_backup.kube import Resource

UNREADABLE_LOOK_SECONDS = 300.0
log = logging.getLogger(__name__)


async def end_unreadable(
    runtime: OperationRuntime,
    resource: Resource,
    body: Json,
    model: type[BackupStatus] | type[RestoreStatus],
    error: Permanent,
) -> float | None:
    """Failed, with the reason; a status that can be read keeps what it says. When to look again, should that not do."""
    owner, now = runtime.owner, datetime.now(UTC)
    await runtime.let_go()
    known = read_or_new(model, body.get("status") or {})
    generation = int(body["metadata"]["generation"])
    changes: Json = {"cleaned_up": True, "observed_generation": generation}
    ended = known.phase.is_terminal
    if not ended:
        changes |= {
            "phase": type(known.phase)("Failed"),
            "completion_time": now,
            "weaviate_status": WeaviateStatus.FAILED,
            "failure": Finding(reason=error.reason, message=excerpt(error.message)),
            "conditions": conditions.stalled(
                known.conditions, reason=error.reason, message=error.message, generation=generation, now=now
            ),
        }
    metadata = {"name": owner.name, "namespace": owner.namespace}
    status = status_json(known.model_copy(update=changes))
    manifest = {"apiVersion": API_VERSION, "kind": owner.kind, "metadata": metadata, "status": status}
    log.warning("%s %s/%s: %s", owner.kind, owner.namespace, owner.name, error)
    if not ended:
        await events.record(runtime.kube, owner, reason=error.reason, message=error.message, warning=True, now=now)
    try:
        await runtime.kube.apply(resource, manifest, subresource="status")
    except BackupError as refused:
        log.warning("%s %s/%s has no status: %s", owner.kind, owner.namespace, owner.name, refused)
        return UNREADABLE_LOOK_SECONDS
    if ended:
        return None
    kind = "backup" if model is BackupStatus else "restore"
    metrics.OPERATIONS.labels(kind=kind, phase="Failed", reason=error.reason).inc()
    return None
