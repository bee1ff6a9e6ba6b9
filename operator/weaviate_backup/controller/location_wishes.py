"""Who waits for a location: operations that have not begun. Reads only."""

from datetime import datetime

from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.kube import BACKUPS, RESTORES, Json, Kube

_REFERENCES = ((BACKUPS, "spec.locationRef.name"), (RESTORES, "spec.source.locationRef.name"))
"""Fields by which the API server selects; a restore of a WeaviateBackup names no location."""


async def wanted_since(kube: Kube, location: Owner) -> datetime | None:
    """When the newest operation that waits for this location was made; None: nobody waits."""
    found = [
        made_at
        for resource, field in _REFERENCES
        for made_at in await kube.pick(resource, location.namespace, _if_pending, fields={field: location.name})
    ]
    return max(found, default=None)


def _if_pending(body: Json) -> datetime | None:
    pending = (body.get("status") or {}).get("phase", "Pending") == "Pending"
    return datetime.fromisoformat(body["metadata"]["creationTimestamp"]) if pending else None
