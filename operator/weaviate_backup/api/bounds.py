"""Keeps a status small, whatever the data: what is only nice to read gives way, what a machine remembers stays.

Every field has a bound of its own in the schema, but all bounds together would be more than an object should hold.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from weaviate_backup.api.model import ApiModel, dump
from weaviate_backup.errors import printable

STATUS_LIMIT_BYTES = 100 * 1024
NAMES_BUDGET_BYTES = 20 * 1024
"""What the collections of a plan may take; a longer list is not stored, its hash is."""

Json = dict[str, Any]


def status_json(status: ApiModel) -> Json:
    """The status as API JSON below the limit, with the least needed detail dropped first if it must be.

    Parts of it were said by others, so that every string is made printable; lines stay lines, as a key's in PEM.
    """
    made: Json = _printable(dump(status))
    for give_way in _STEPS:
        if size_bytes(made) <= STATUS_LIMIT_BYTES:
            break
        give_way(made)
    return made


def _printable(value: Any) -> Any:
    match value:
        case str():
            return value if value.isprintable() else "\n".join(map(printable, value.split("\n")))
        case dict():
            return {key: _printable(child) for key, child in value.items()}
        case list():
            return [_printable(child) for child in value]
        case _:
            return value


def size_bytes(value: Json) -> int:
    """Size of the value as the API server is sent it."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def bounded(names: Iterable[str], *, limit: int, budget_bytes: int | None = None) -> tuple[str, ...]:
    """The first names, in their order, within both bounds."""
    kept: list[str] = []
    used = 0
    for name in names:
        used += len(name.encode()) + 3
        if len(kept) == limit or (budget_bytes is not None and used > budget_bytes):
            break
        kept.append(name)
    return tuple(kept)


def all_or_none(names: Iterable[str], *, limit: int, budget_bytes: int = NAMES_BUDGET_BYTES) -> tuple[str, ...]:
    """All names if they are within both bounds, else none: part of a list that is acted upon would be a trap."""
    known = tuple(names)
    return known if bounded(known, limit=limit, budget_bytes=budget_bytes) == known else ()


def _drop_offloaded_names(status: Json) -> None:
    status.get("tenants", {}).pop("offloadedNames", None)


def _drop_collection_names(status: Json) -> None:
    status.get("collections", {}).pop("names", None)


def _shorten_messages(status: Json) -> None:
    """Sixteen nodes show what is wrong with all; their reasons stay."""
    for number, node in enumerate(node for node in status.get("nodes", ()) if "message" in node):
        node["message"] = node["message"][:64]
        if number >= 16:
            del node["message"]
    for finding in (*status.get("warnings", ()), *status.get("plan", {}).get("refusals", ())):
        finding["message"] = finding["message"][:128]


def _drop_counters(status: Json) -> None:
    """Totals over all nodes stay, in progress; of each node its bytes."""
    for node in status.get("nodes", ()):
        for counter in ("bytesReused", "bytesStored", "filesTotal", "filesDone", "shards"):
            node.pop(counter, None)


def _drop_aliases(status: Json) -> None:
    """Who acts on aliases reads them from the backup."""
    status.pop("aliasesKept", None)
    for names in ("aliases", "aliasesReplaced"):
        status.get("plan", {}).pop(names, None)


def _drop_placement(status: Json) -> None:
    """Where a planned pod ran is written in the pod; what the fullest node needs, in the plan."""
    for node in status.get("plan", {}).get("nodes", ()):
        for detail in ("kubernetesNode", "claim", "bytesRequired", "bytesFree"):
            node.pop(detail, None)


_STEPS: tuple[Callable[[Json], None], ...] = (
    _drop_offloaded_names,
    _drop_collection_names,
    _shorten_messages,
    _drop_counters,
    _drop_aliases,
    _drop_placement,
)
