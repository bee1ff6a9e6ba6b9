"""Who waits for a location: operations that have not begun. Reads only."""

from datetime import datetime
from typing import Any

from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.kube import BACKUPS, RESTORES, Kube

Json = dict[str, Any]


async def wanted_since(kube: Kube, location: Owner) -> datetime | None:
    """When the newest operation that waits for this location was made; None: nobody waits."""
    found = [
        datetime.fromisoformat(body["metadata"]["creationTimestamp"])
        for resource in (BACKUPS, RESTORES)
        for body in await kube.list(resource, location.namespace)
        if (body.get("status") or {}).get("phase", "Pending") == "Pending" and location.name in _named(body["spec"])
    ]
    return max(found, default=None)


def _named(spec: Json) -> set[str]:
    """Locations that an operation's spec names; a restore of a WeaviateBackup names none."""
    references = (spec.get("locationRef"), (spec.get("source") or {}).get("locationRef"))
    return {reference["name"] for reference in references if reference}
