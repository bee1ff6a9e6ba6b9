"""Raft's sharding state of a collection, as descriptors hold it: which shards there are, and on which nodes."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.plain_names import plain

ACTIVE, INACTIVE, OFFLOADED = "HOT", "COLD", "FROZEN"
OFFLOADED_STATUSES = frozenset({OFFLOADED, "FREEZING", "UNFREEZING"})
COVERED_STATUSES = frozenset({"", ACTIVE, INACTIVE})
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


def placed_on(shard: Mapping[str, Any], nodes: Sequence[str]) -> dict[str, Any]:
    """The shard with its replicas on these nodes."""
    if tuple(nodes) == nodes_of(shard):
        return dict(shard)
    return {key: value for key, value in shard.items() if key != "belongsToNode"} | {"belongsToNodes": list(nodes)}


def as_cut(
    state: Mapping[str, Any],
    held: Mapping[str, Collection[str]],
    seen: Mapping[str, Mapping[str, str]],
    *,
    written_late: Collection[str] = (),
) -> dict[str, Any]:
    """The state that is restored: each tenant as the nodes that hold it say.

    `held`: node -> shards in its backup; `seen`: node -> status of each of its own shards at its cut. It comes back on
    the nodes that hold it, since an empty replica would answer for it, too. One that no node
    holds was deleted after the leader had seen it, or offloaded; then a node says so. Active is one that any replica
    was cut as active, or that was written to meanwhile: only so its late writes are replayed.
    """
    physical = {}
    for name, shard in (state.get("physical") or {}).items():
        at_nodes = nodes_of(shard)
        holders = [node for node in at_nodes if name in held.get(node, ()) and node in seen]
        statuses = [seen[node].get(name, "") for node in holders]
        offloaded = [status for node in at_nodes if (status := seen.get(node, {}).get(name)) in OFFLOADED_STATUSES]
        if statuses:
            active = name in written_late or any(status != INACTIVE for status in statuses)
            physical[name] = placed_on(shard, holders) | {"status": ACTIVE if active else INACTIVE}
        elif offloaded:
            physical[name] = {**shard, "status": offloaded[0]}
        elif shard.get("status", "") in OFFLOADED_STATUSES and not any(node in seen for node in at_nodes):
            physical[name] = shard  # of nodes that say nothing of the collection
    return {**state, "physical": physical}
