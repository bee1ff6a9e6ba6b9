"""Raft's sharding state of a collection, as descriptors hold it: which shards there are, and on which nodes."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.plain_names import plain

COVERED_STATUSES = frozenset({"", "HOT", "COLD"})
"""Of tenants with data on the node; the others (FROZEN, FREEZING, UNFREEZING) are offloaded and not covered."""


def nodes_of(shard: Mapping[str, Any]) -> tuple[str, ...]:
    """Replicas of a shard; old states name a single node."""
    nodes = shard.get("belongsToNodes") or [shard.get("belongsToNode")]
    return tuple(str(node) for node in nodes if node)


def refuse_odd_names(state: Mapping[str, Any], what: str) -> None:
    """Raise `HostileBackup` unless every shard, tenant and node is named as one, and every status is a word: the names
    become paths on servers."""
    try:
        for name in _names_in(state):
            plain(name)
    except (ValueError, TypeError, AttributeError) as error:
        raise Permanent("HostileBackup", f"{what}: {error}") from error


def _names_in(state: Mapping[str, Any]) -> Iterator[str]:
    for name, shard in (state.get("physical") or {}).items():
        yield from (name, *nodes_of(shard))
        if shard.get("name", name) != name:
            raise ValueError(f"shard {name[:40]!r} is named {str(shard['name'])[:40]!r} inside")
        if not isinstance(shard.get("status", ""), str):
            raise ValueError(f"the status of shard {name[:40]!r} is no word")
    for virtual in state.get("virtual") or ():
        yield from (str(virtual[key]) for key in ("name", "assignedToPhysical") if virtual.get(key))


def without_tenants_held_nowhere(state: Mapping[str, Any], held: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """The state without tenants that none of their nodes holds: deleted after the leader was cut, before they were.

    A restore would make them again, empty. `held`: node -> shards in its backup. Offloaded tenants are held by nobody
    and stay.
    """
    physical = {}
    for name, shard in (state.get("physical") or {}).items():
        covered = shard.get("status", "") in COVERED_STATUSES
        if not covered or any(name in held.get(node, ()) for node in nodes_of(shard)):
            physical[name] = shard
    return {**state, "physical": physical}


def with_active(state: Mapping[str, Any], tenants: Collection[str]) -> dict[str, Any]:
    """The state with these tenants active: they were when they were cut, whatever they were when the state was read."""
    physical = {
        name: {**shard, "status": "HOT"} if name in tenants and shard.get("status") == "COLD" else shard
        for name, shard in (state.get("physical") or {}).items()
    }
    return {**state, "physical": physical}
