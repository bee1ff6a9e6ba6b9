"""Who waits for a location: operations that have not begun. Reads only."""

from datetime import datetime

from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.kube import BACKUPS, RESTORES, Kube

_REFERENCES = ((BACKUPS, "spec.locationRef.name"), (RESTORES, "spec.source.locationRef.name"))
"""Fields by which the API server selects; a restore of a WeaviateBackup names no location."""


async def wanted_since(kube: Kube, location: Owner) -> datetime | None:
    """When the newest operation that waits for this location was made; None: nobody waits."""
    found = [
        datetime.fromisoformat(body["metadata"]["creationTimestamp"])
        for resource, field in _REFERENCES
        for body in await kube.list(resource, location.namespace, fields={field: location.name})
        if (body.get("status") or {}).get("phase", "Pending") == "Pending"
    ]
    return max(found, default=None)
