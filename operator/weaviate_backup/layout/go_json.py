"""JSON of others that a server reads after us: refused where Go would read something else than we did. Pure.

Go's encoding/json gives a field of a struct whatever key has its name without regard to case, merges what comes twice,
and lets the last one win; a dictionary here knows one spelling. So a key comes once, and where the server has a struct
a key that Go takes for a field is spelt as the field. Maps keep their keys: tenants `a` and `A` are two.
Source: https://pkg.go.dev/encoding/json#Unmarshal; structs of Weaviate 1.37.14 and 1.39.1 (entities/models,
usecases/sharding, usecases/auth), whose newest fields are a superset.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout.json_bounds import JsonBounds, holds_half


@dataclass(frozen=True)
class Struct:
    """What Go has a struct for: its fields, spelt as the server spells them; None: a value, or whatever people put."""

    fields: Mapping[str, "Shape"]


@dataclass(frozen=True)
class Each:
    """A list of them, or a map by names that people chose."""

    of: "Shape"


Shape = Struct | Each | None


def _struct(*plain: str, **others: Shape) -> Struct:
    return Struct(dict.fromkeys(plain) | others)


_TEXT_ANALYZER = _struct("asciiFold", "asciiFoldIgnore", "stopwordPreset")
_PROPERTY_FIELDS: dict[str, Shape] = {
    **_struct("bucketGeneration", "dataType", "description", "disableDuplicatedReferences", "indexFilterable").fields,
    **_struct("indexInverted", "indexRangeFilters", "indexSearchable", "moduleConfig", "name").fields,
    **_struct("searchableBlockmax", "tokenization", textAnalyzer=_TEXT_ANALYZER).fields,
}
_PROPERTY = Struct(_PROPERTY_FIELDS)
_PROPERTY_FIELDS["nestedProperties"] = Each(_PROPERTY)
_REPLACEMENT = _struct("source", "target")
_INVERTED_INDEX = _struct(
    "cleanupIntervalSeconds",
    "indexNullState",
    "indexPropertyLength",
    "indexTimestamps",
    "stopwordPresets",
    "usingBlockMaxWAND",
    bm25=_struct("b", "k1"),
    stopwords=_struct("additions", "preset", "removals"),
    tokenizerUserDict=Each(_struct("tokenizer", replacements=Each(_REPLACEMENT))),
)
_ASYNC_REPLICATION = _struct(
    "diffBatchSize",
    "diffPerNodeTimeout",
    "frequency",
    "frequencyWhilePropagating",
    "hashtreeHeight",
    "loggingFrequency",
    "prePropagationTimeout",
    "propagationBatchSize",
    "propagationConcurrency",
    "propagationDelay",
    "propagationLimit",
    "propagationTimeout",
)
_SHARDING = _struct(
    "virtualPerPhysical",
    "desiredCount",
    "actualCount",
    "desiredVirtualCount",
    "actualVirtualCount",
    "key",
    "strategy",
    "function",
)
CLASS = _struct(
    "class",
    "description",
    "moduleConfig",
    "vectorIndexConfig",
    "vectorIndexType",
    "vectorizer",
    invertedIndexConfig=_INVERTED_INDEX,
    multiTenancyConfig=_struct("autoTenantActivation", "autoTenantCreation", "enabled"),
    objectTtlConfig=_struct("defaultTtl", "deleteOn", "enabled", "filterExpiredObjects"),
    properties=Each(_PROPERTY),
    replicationConfig=_struct("asyncEnabled", "deletionStrategy", "factor", asyncConfig=_ASYNC_REPLICATION),
    shardingConfig=_SHARDING,
    vectorConfig=Each(_struct("vectorIndexConfig", "vectorIndexType", "vectorizer")),
)
SHARDING_STATE = _struct(
    "indexID",
    "partitioningEnabled",
    "replicationFactor",
    config=_SHARDING,
    physical=Each(_struct("name", "ownsVirtual", "ownsPercentage", "belongsToNode", "belongsToNodes", "status")),
    virtual=Each(_struct("name", "upper", "ownsPercentage", "assignedToPhysical")),
)
ALIASES = Each(_struct("alias", "class"))
ROLES = _struct("roles_policies", "grouping_policies", "version", "namespaces")
_USER = _struct(
    "Id",
    "Active",
    "InternalIdentifier",
    "ApiKeyFirstLetters",
    "CreatedAt",
    "LastUsedAt",
    "ImportedWithKey",
    "Namespace",
)
_USER_DATA = _struct(
    "SecureKeyStorageById",
    "IdentifierToId",
    "IdToIdentifier",
    "UserKeyRevoked",
    "ImportedApiKeysWeakHash",
    Users=Each(_USER),
)
USERS = _struct("Version", Data=_USER_DATA)


class _OtherInGo(ValueError):
    """Two parsers read the document as two documents. Its text names the key."""


def fold(key: str) -> str:
    """Equal for all spellings that Go takes for one name: the long s is an s to it, the kelvin sign a k."""
    return key.casefold()


def parse_for_go(content: bytes, shape: Shape, *, bounds: JsonBounds, what: str) -> Any:
    """Raises `HostileBackup` for what is no JSON, too much of it, or another document to Go. `what` names it."""
    try:
        bounds.refuse_beyond(content)
        value = json.loads(content.decode(), object_pairs_hook=_object, parse_float=_number, parse_constant=_number)
        _refuse_other_spellings(value, shape)
        if holds_half(content, value):  # all halves are one and the same to Go
            raise _OtherInGo("it holds half a character, which is no text")
    except _OtherInGo as error:
        raise Permanent("HostileBackup", f"{what} would be read otherwise by a server: {error}") from None
    except ValueError:  # its own text may quote a secret
        raise Permanent("HostileBackup", f"{what} is not JSON, or more than is read") from None
    return value


def _number(text: str) -> float:
    """Python alone knows NaN and Infinity, and makes the latter of a number that is too large."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("no number of JSON")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _OtherInGo(f"key {_shown(key)} comes twice")
        found[key] = value
    return found


def _refuse_other_spellings(value: object, shape: Shape) -> None:
    if isinstance(shape, Struct) and isinstance(value, dict):
        spelt = {fold(field): field for field in shape.fields}
        for key, inner in value.items():
            field = spelt.setdefault(fold(key), key)
            if key != field:
                raise _OtherInGo(f"key {_shown(key)} stands for {_shown(field)}")
            _refuse_other_spellings(inner, shape.fields.get(key))
    elif isinstance(shape, Each) and isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _refuse_other_spellings(inner, shape.of)


def _shown(key: str) -> str:
    return repr(excerpt(key, 64))
