"""Raft's sharding state of a collection, as descriptors hold it: which shards there are, and on which nodes."""

from collections.abc import Collection, Mapping
from typing import Any

COVERED_STATUSES = frozenset({"", "HOT", "COLD"})
"""Of tenants with data on the node; the others (FROZEN, FREEZING, UNFREEZING) are offloaded and not covered."""


def nodes_of(shard: Mapping[str, Any]) -> tuple[str, ...]:
    """Replicas of a shard; old states name a single node."""
    nodes = shard.get("belongsToNodes") or [shard.get("belongsToNode")]
    return tuple(str(node) for node in nodes if node)


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
