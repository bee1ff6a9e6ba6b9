"""What all nodes freeze by: class, sharding state and aliases of each collection, in zstd-compressed JSON lines.

It lies in the store from before the first cut on. Integers of 64 bits stay exact.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import zstandard

from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout.json_bounds import MORE_MEMORY, BeyondBounds, JsonBounds, TooDeep
from weaviate_backup.layout.packed_lines import packed_lines
from weaviate_backup.layout.plain_names import checked_name

EFFORT = 3
FIELDS: Mapping[str, type] = {"class": dict, "state": dict, "aliases": dict, "version": int}
"""Of what is known of a collection. `aliases`: alias -> collection; `version`: raft's, of the state."""
Schema = dict[str, Any]


def encode_schema(collection: str, schema: Schema) -> bytes:
    """One line, as a frame of its own: those of all collections may follow each other."""
    line = json.dumps({"collection": collection, **schema}, separators=(",", ":")).encode() + b"\n"
    return zstandard.ZstdCompressor(level=EFFORT).compress(line)


def read_schemas(stream: BinaryIO, *, what: str, bounds: JsonBounds) -> Iterator[tuple[str, Schema]]:
    """Collection and schema, one at a time. Raises `HostileBackup`, `UnsafeName`, and `DocumentTooLarge` for a line
    beyond the bounds."""
    try:
        for line in packed_lines(stream, limit_bytes=bounds.size_bytes):
            found = bounds.parse(line)
            if not isinstance(found, dict) or not isinstance(found.get("collection"), str):
                raise ValueError("a line without a collection")
            schema = {field: found.get(field) for field in FIELDS}
            if not all(isinstance(schema[field], kind) for field, kind in FIELDS.items()):
                raise ValueError("a line without a schema")
            yield checked_name(found["collection"], what=f"a collection of {what}"), schema
    except (zstandard.ZstdError, TooDeep) as error:
        raise _hostile(what, error) from error
    except BeyondBounds as error:
        message = f"a line of {what} is larger than memory allows: {error}; {MORE_MEMORY}"
        raise Permanent("DocumentTooLarge", message) from error
    except ValueError as error:
        raise _hostile(what, error) from error


def _hostile(what: str, error: Exception) -> Permanent:
    return Permanent("HostileBackup", f"{what} is no list of schemas: {excerpt(str(error), 160)}")
