"""Kinds of objects: where the API server has them, and what is kept of one that is read. Pure.

Only fields that somebody here looks at are kept. Others write these objects, and no schema of ours bounds them: a pod
has annotations of 256 KiB, a container whatever environment its author likes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from weaviate_backup.api.patterns import MAX_NAME_LENGTH, OBJECT_NAME, fits
from weaviate_backup.errors import InvalidInput, excerpt

Json = dict[str, Any]
Fields = Mapping[str, "Fields | list[Fields] | None"]
"""By name: None for the whole value, fields of an object, or (in a list) those of each object of a list."""

IDENTITY: Fields = {
    "name": None,
    "namespace": None,
    "uid": None,
    "creationTimestamp": None,
    "deletionTimestamp": None,
}
LABELS = ("name", "component", "instance", "managed-by")
"""Of `app.kubernetes.io`: those that what we make carries."""
METADATA: Fields = {
    **IDENTITY,
    "labels": {f"app.kubernetes.io/{name}": None for name in LABELS},
    "ownerReferences": [{"uid": None, "controller": None}],
}
_CONTAINER: Fields = {
    "name": None,
    "command": None,
    "args": None,
    "env": None,
    "envFrom": None,
    "volumeMounts": [{"name": None, "mountPath": None, "subPath": None}],
    "readinessProbe": {"httpGet": {"port": None}},
    "securityContext": {"runAsUser": None, "runAsGroup": None, "seLinuxOptions": None},
}
_POD_SPEC: Fields = {
    "nodeName": None,
    "hostname": None,
    "priorityClassName": None,
    "tolerations": None,
    "imagePullSecrets": None,
    "volumes": None,
    "containers": [_CONTAINER],
    "securityContext": {
        "runAsUser": None,
        "runAsGroup": None,
        "fsGroup": None,
        "supplementalGroups": None,
        "seLinuxOptions": None,
    },
}
_STATE: Fields = {"reason": None, "message": None, "exitCode": None}
POD: Fields = {
    "metadata": METADATA,
    "spec": _POD_SPEC,
    "status": {
        "phase": None,
        "podIP": None,
        "reason": None,
        "message": None,
        "conditions": [{"status": None, "reason": None, "message": None}],
        "containerStatuses": [
            {"name": None, "ready": None, "restartCount": None, "state": {"waiting": _STATE, "terminated": _STATE}}
        ],
    },
}
STATEFUL_SET: Fields = {
    "metadata": METADATA,
    "spec": {
        "replicas": None,
        "ordinals": {"start": None},
        "selector": {"matchLabels": None},
        "template": {"spec": _POD_SPEC},
    },
}
CLAIM: Fields = {"metadata": METADATA, "spec": {"accessModes": None}}
EVENT: Fields = {"metadata": METADATA, "reason": None, "message": None, "lastTimestamp": None, "eventTime": None}
CONFIG_MAP: Fields = {"metadata": METADATA, "data": None}
AGENT_POD: Fields = {"metadata": METADATA, "status": POD["status"]}


@dataclass(frozen=True)
class Resource:
    """A kind of object: where the API server has it, and what is kept of one that was read (None: all of it)."""

    root: str
    plural: str
    fields: Fields | None = field(default=None, hash=False)

    def path(self, namespace: str, name: str | None = None, subresource: str | None = None) -> str:
        """Of one object, or of all in the namespace. Raises `InvalidInput` for what is no name: it would be the path
        of something else."""
        parts = [self.root, "namespaces", _segment(namespace, "a namespace"), self.plural]
        parts += [_segment(part, f"one of {self.plural}") for part in (name, subresource) if part is not None]
        return "/".join(parts)

    def kept(self, body: Json) -> Json:
        """The object as far as it is kept."""
        return body if self.fields is None else only(body, self.fields)


def _segment(name: str, what: str) -> str:
    """A name as one part of a path. Quoting would not be enough: client libraries resolve `..` and `%2e%2e`."""
    if len(name) > MAX_NAME_LENGTH or not fits(OBJECT_NAME, name):
        message = f"{excerpt(repr(name), 80)} cannot be the name of {what}; use lower case letters, digits, '-' and '.'"
        raise InvalidInput("NameInvalid", message)
    return quote(name, safe="")


def only(body: Mapping[str, Any], fields: Fields) -> Json:
    """The object with those fields alone, as far as it has them."""
    return {name: _kept(body[name], inner) for name, inner in fields.items() if name in body}


def _kept(value: Any, fields: "Fields | list[Fields] | None") -> Any:
    if fields is None:
        return value
    if isinstance(fields, list):
        return [_kept(each, fields[0]) for each in value] if isinstance(value, list) else None
    return only(value, fields) if isinstance(value, Mapping) else None
