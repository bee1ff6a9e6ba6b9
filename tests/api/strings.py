"""Every place for a string in the specs of our kinds, by walking the schemas, and an object with a value there."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.api.objects import MINIMAL, Json, merged

from weaviate_backup.api.crd import definitions

KEY, ITEM = "{key}", "[]"
"""In a path: a map's key, an item of a list."""
VOLUME: Json = {"nfs": {"server": "nfs.storage", "path": "/exports"}}


@dataclass(frozen=True)
class Place:
    """Where a string may stand: names of fields from the spec on, `[]` for an item, `*` for a map's value."""

    kind: str
    path: tuple[str, ...]
    schema: Any

    def __str__(self) -> str:
        return f"{self.kind[8:]}.{'.'.join(self.path)}"

    @property
    def field(self) -> str:
        """As the API server names it in a refusal, up to the first list or map."""
        named = []
        for part in self.path:
            if part in (ITEM, KEY, "*"):
                break
            named.append(part)
        return ".".join(("spec", *named))


@cache
def spec_of(kind: str) -> Json:
    """The schema of a kind's spec."""
    definition = next(each for each in definitions().values() if each["spec"]["names"]["kind"] == kind)
    found: Json = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def places() -> list[Place]:
    return [Place(kind, path, schema) for kind in MINIMAL for path, schema in _strings(spec_of(kind), ())]


def _strings(schema: Json, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json]]:
    if schema.get("type") == "string" or schema.get("x-kubernetes-int-or-string"):
        yield path, schema
    if "items" in schema:
        yield from _strings(schema["items"], (*path, ITEM))
    if "additionalProperties" in schema:
        yield (*path, KEY), schema
        yield from _strings(schema["additionalProperties"], (*path, "*"))
    for name, child in schema.get("properties", {}).items():
        yield from _strings(child, (*path, name))


def with_string(place: Place, value: str) -> Json:
    """A spec that is valid but for the value at that place."""
    return merged(_base(place), _around(spec_of(place.kind), place.path, value))


def _base(place: Place) -> Json:
    """What stands beside it; kinds of stores exclude each other, and kinds of sources."""
    if place.path[0] in ("gcs", "azure", "filesystem"):
        return {}
    if place.path[:2] in (("source", "locationRef"), ("source", "backupID")):
        return {"source": {"locationRef": {"name": "bucket"}, "backupID": "nightly"}}
    return MINIMAL[place.kind]


def _around(schema: Json, path: tuple[str, ...], value: str) -> Any:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if first == ITEM:
        return [_around(schema["items"], rest, value)]
    if first == KEY:
        return {value: _sample(schema["additionalProperties"])}
    if first == "*":
        return {"abc": _around(schema["additionalProperties"], rest, value)}
    return {**_needed(schema, first), first: _around(schema["properties"][first], rest, value)}


def _needed(schema: Json, given: str = "") -> Json:
    needed = {name: _sample(schema["properties"][name]) for name in schema.get("required", ()) if name != given}
    return {**needed, "volume": VOLUME} if "volume" in needed else needed


def _sample(schema: Json) -> Any:
    """A value that the schema takes."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return _needed(schema)
    if schema.get("type") == "array":
        return [_sample(schema["items"])] * schema.get("minItems", 0)
    if schema.get("type") == "boolean":
        return True
    if schema.get("type") == "integer" or schema.get("x-kubernetes-int-or-string"):
        return schema.get("minimum", 1)
    return "/abc" if schema.get("pattern", "").startswith("^/") else "abc"
