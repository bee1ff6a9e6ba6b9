"""Raft's sharding state of a collection, as descriptors hold it: which shards there are, and on which nodes."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.plain_names import plain

ACTIVE, INACTIVE = "HOT", "COLD"
OFFLOADED_STATUSES = frozenset({"FROZEN", "FREEZING", "UNFREEZING"})
COVERED_STATUSES = frozenset({"", ACTIVE, INACTIVE})
"""Of tenants with data on the node; the others (FROZEN, FREEZING, UNFREEZING) are offloaded and not covered."""


def nodes_of(shard: Mapping[str, Any]) -> tuple[str, ...]:
    """Replicas of a shard; old states name a single node."""
    nodes = shard.get("belongsToNodes") or [shard.get("belongsToNode")]
    return tuple(str(node) for node in nodes if node)


def refuse_odd_names(state: Mapping[str, Any], what: str) -> None:
    """Raise `HostileBackup` unless every shard, tenant and node is named as one: the names become paths on servers."""
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
    for virtual in state.get("virtual") or ():
        yield from (str(virtual[key]) for key in ("name", "assignedToPhysical") if virtual.get(key))


def as_cut(
    state: Mapping[str, Any],
    held: Mapping[str, Collection[str]],
    seen: Mapping[str, Mapping[str, str]],
    *,
    written_late: Collection[str] = (),
) -> dict[str, Any]:
    """The state that is restored: each tenant as the nodes that hold it say.

    `held`: node -> shards in its backup; `seen`: node -> status of each of its own shards at its cut. One that no node
    holds was deleted after the leader had seen it, or offloaded; then a node says so. Active is one that any replica
    was cut as active, or that was written to meanwhile: only so its late writes are replayed.
    """
    physical = {}
    for name, shard in (state.get("physical") or {}).items():
        at_nodes = nodes_of(shard)
        statuses = [seen[node].get(name, "") for node in at_nodes if name in held.get(node, ()) and node in seen]
        offloaded = [status for node in at_nodes if (status := seen.get(node, {}).get(name)) in OFFLOADED_STATUSES]
        if statuses:
            active = name in written_late or any(status != INACTIVE for status in statuses)
            physical[name] = {**shard, "status": ACTIVE if active else INACTIVE}
        elif offloaded or shard.get("status", "") in OFFLOADED_STATUSES:
            physical[name] = {**shard, "status": shard["status"] if not offloaded else offloaded[0]}
    return {**state, "physical": physical}
