"""Reading what an API server holds: any shape and size of it, told as an error of ours or made small.

An object may have been stored before its schema was as strict as it is now, and metadata has no schema of ours at all.
"""

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from weaviate_backup.api.names import BACKUP_PLURAL, GROUP, RESTORE_PLURAL

MAX_DEPTH = 100
"""Levels of an answer that are read. No object of Kubernetes has so many, and Python's parser ends at about 1,000."""
PLAIN_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
)
KEPT_LABELS = frozenset({"app.kubernetes.io/managed-by"})
KEPT_ANNOTATIONS = frozenset(
    f"{GROUP}/{name}" for name in (f"{BACKUP_PLURAL}-delete", f"{RESTORE_PLURAL}-delete", "touch-dummy")
)
"""What the framework remembers of a deletion under way."""
KEPT_STATUS = ("phase", "observedGeneration", "cleanedUp")
MAX_FINALIZERS = 64
MAX_OWNERS = 16
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
Json = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


def read_or_new(model: type[Model], value: object) -> Model:
    """A status of ours that can be had again, empty when it cannot be read."""
    try:
        return model.model_validate(value)
    except ValidationError:
        return model()


def read_json(text: bytes) -> Any:
    """The document; below `MAX_DEPTH` levels, if it is deeper than can be parsed, null. Raises ValueError as `json`."""
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(shallow(text))


def brief(body: Json) -> Json:
    """The object as far as somebody is to know that it is there and where it stands: a few kilobytes at most."""
    made: Json = {name: body[name] for name in ("apiVersion", "kind") if name in body}
    status = body.get("status") or {}
    return {
        **made,
        "metadata": brief_metadata(body.get("metadata") or {}),
        "status": {name: status[name] for name in KEPT_STATUS if name in status},
    }


def brief_metadata(metadata: Json) -> Json:
    """No schema bounds labels, annotations, finalizers, owners and managed fields: only those that we go by are kept.

    Finalizers beyond the first are cut off, which leaves their places in a patch right.
    """
    made = {name: metadata[name] for name in PLAIN_METADATA if name in metadata}
    for name, kept in (("labels", KEPT_LABELS), ("annotations", KEPT_ANNOTATIONS)):
        if found := {key: value for key, value in (metadata.get(name) or {}).items() if key in kept}:
            made[name] = found
    if finalizers := metadata.get("finalizers"):
        made["finalizers"] = finalizers[:MAX_FINALIZERS]
    if owners := metadata.get("ownerReferences"):
        made["ownerReferences"] = [{"uid": owner.get("uid")} for owner in owners[:MAX_OWNERS]]
    return made


def shallow(text: bytes) -> bytes:
    """The document with null for what lies deeper than `MAX_DEPTH`."""
    kept: list[bytes] = []
    depth = start = 0
    for token in _TOKEN.finditer(text):
        if token[0] in b"[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept.append(text[start : token.start()])
        elif token[0] in b"]}":
            if depth == MAX_DEPTH + 1:
                kept.append(b"null")
                start = token.end()
            depth -= 1
    if depth <= MAX_DEPTH:  # else it ends within, and is no JSON
        kept.append(text[start:])
    return b"".join(kept)
