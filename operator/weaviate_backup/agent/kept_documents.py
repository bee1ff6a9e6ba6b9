"""Small documents that an operation keeps beside its frozen set: whole or not there, for this user only.

They lie where Weaviate writes, too: what is read back of JSON has the fields it must have, or is refused.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from weaviate_backup.agent.journal import Kinds
from weaviate_backup.answers import document_bounds
from weaviate_backup.beneath import Place, write_all
from weaviate_backup.errors import Permanent

LIMIT_BYTES = 256 << 20
"""The sharding state of a million tenants takes less."""
PARTIAL = ".partial"


def keep_document(place: Place, document: Mapping[str, Any], *, durable: bool) -> None:
    """JSON, in place of an older one."""
    keep_content(place, json.dumps(document, separators=(",", ":")).encode(), durable=durable)


def keep_content(place: Place, content: bytes, *, durable: bool) -> None:
    """In place of what was kept there. `durable`: before its name is, which the caller syncs."""
    partial = place.beside(place.name + PARTIAL)
    place.parent.make_directory()
    partial.unlink(missing_ok=True)
    with partial.create(mode=0o600) as stream:
        write_all(stream.fileno(), content)
        if durable:
            os.fsync(stream.fileno())
    partial.rename_to(place)


def kept_document(place: Place, kinds: Kinds) -> dict[str, Any] | None:
    """What was kept, None when nothing was. `kinds` are its fields' types. `UnreadableFile` when it is another's."""
    bounds = document_bounds()
    try:
        found = bounds.parse(place.read_bytes(limit_bytes=min(LIMIT_BYTES, bounds.size_bytes)))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Permanent("UnreadableFile", f"{place} holds no JSON that can be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(name, ...), kind) for name, kind in kinds.items()):
        raise Permanent("UnreadableFile", f"{place} is not what was kept there; make a new backup")
    return found
