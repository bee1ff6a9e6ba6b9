"""Kubernetes Events about our objects, by our own calls: one per change that a person wants to read in `describe`.

An event that cannot be written is logged and forgotten; no operation waits for it.
"""

import logging
from datetime import datetime

from weaviate_backup.api.model import rfc3339
from weaviate_backup.api.names import API_VERSION
from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.errors import BackupError
from weaviate_backup.kube import EVENTS, Kube

COMPONENT = "weaviate-backup-operator"
MAX_MESSAGE = 1024
log = logging.getLogger(__name__)


async def record(kube: Kube, owner: Owner, *, reason: str, message: str, warning: bool, now: datetime) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{owner.name[:40]}-", "namespace": owner.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": owner.kind,
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
        },
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "message": message[:MAX_MESSAGE],
        "firstTimestamp": rfc3339(now),
        "lastTimestamp": rfc3339(now),
        "count": 1,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
    }
    try:
        await kube.create(EVENTS, body)
    except BackupError as error:
        log.warning("event %s of %s/%s was not recorded: %s", reason, owner.namespace, owner.name, error.message)
