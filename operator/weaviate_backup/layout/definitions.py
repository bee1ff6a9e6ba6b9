"""Whether two readings of a collection's definition can be of one and the same collection. Pure.

A collection has no identity but its name: one that was deleted and made anew is known only by what no update changes,
which the server refuses (`PUT /v1/schema/{class}`, seen on 1.37.14 and 1.39.1).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weaviate_backup.errors import Permanent, excerpt

Definition = Mapping[str, Any]
"""A class as raft, descriptors and `GET /v1/schema/{class}` give it."""


def contradiction(one: Definition, other: Definition) -> str | None:
    """What of the two cannot have been changed in between but differs, in words; None when nothing does.

    What is only in one of them may have been added or dropped: properties, named vectors.
    """
    before, after = dict(_lasting(one)), dict(_lasting(other))
    for field in sorted(before.keys() & after.keys()):
        if before[field] != after[field]:
            return excerpt(f"{field} is {before[field]!r} and {after[field]!r}")
    return None


def in_one_alone(one: Definition, other: Definition) -> str | None:
    """What lasts and is in one of the two only, a property or a named vector, in words; None when there is none."""
    alone = sorted(dict(_lasting(one)).keys() ^ dict(_lasting(other)).keys())
    return excerpt(f"{alone[0]} is in one of them alone") if alone else None


def other_shards(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The same of two sharding states: only tenants come and go."""
    if one.get("partitioningEnabled") or other.get("partitioningEnabled"):
        return None
    missing = sorted(_mapping(one.get("physical")).keys() - _mapping(other.get("physical")).keys())
    return no_longer(missing[0]) if missing else None


def no_longer(shard: str) -> str:
    return f"shard {shard} is no longer one of it"


def made_anew(collection: str, seen: str) -> Permanent:
    """The refusal; `seen` tells by what it is known."""
    return Permanent(
        "CollectionChanged",
        f"collection {collection} was deleted and made anew during the backup: {seen}; make a new backup",
    )


def _lasting(definition: Definition) -> Iterator[tuple[str, Any]]:
    yield "multiTenancyConfig.enabled", bool(_mapping(definition.get("multiTenancyConfig")).get("enabled"))
    yield from _lasting_of_vector("", definition)
    for name, vector in _mapping(definition.get("vectorConfig")).items():
        yield from _lasting_of_vector(f"vectorConfig.{name}.", _mapping(vector))
    properties = definition.get("properties")
    for each in map(_mapping, properties if isinstance(properties, list) else ()):
        yield f"properties.{each.get('name')}.dataType", _data_type(each)


def _mapping(value: object) -> Mapping[str, Any]:
    """What the server has a struct or a map for. Anything else is refused where it is used; nothing lasts of it."""
    return value if isinstance(value, Mapping) else {}


def _lasting_of_vector(where: str, vector: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield f"{where}vectorIndexType", vector.get("vectorIndexType") or ""
    yield f"{where}vectorIndexConfig.distance", _mapping(vector.get("vectorIndexConfig")).get("distance")


def _data_type(each: Mapping[str, Any]) -> Any:
    """References, which begin with a capital letter, may get more targets."""
    types = each.get("dataType")
    first = types[0] if isinstance(types, list) and types else ""
    return types if str(first)[:1].islower() else "a reference"
