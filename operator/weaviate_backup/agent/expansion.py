"""From collections to this node's shards: what the sharding state says of them, sorted by how they are read. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from weaviate_backup.layout.plain_names import checked_name
from weaviate_backup.layout.sharding_state import nodes_of


class TenantStatus(StrEnum):
    """A shard's status. Shards of collections without tenants are always active."""

    ACTIVE = "HOT"
    INACTIVE = "COLD"
    OFFLOADED = "FROZEN"
    MOVING = "MOVING"
    """On its way into or out of offloading; it will settle."""


ABSENT_STATUS = "HOT"


@dataclass(frozen=True)
class LocalShards:
    """This node's shards of one collection."""

    statuses: Mapping[str, TenantStatus]
    multi_tenant: bool

    def of(self, status: TenantStatus) -> tuple[str, ...]:
        return tuple(sorted(name for name, each in self.statuses.items() if each is status))


def local_shards(state: Mapping[str, Any], node: str, *, collection: str) -> LocalShards:
    """The shards that the state places on the node. `UnsafeName` for any whose name would lead out of the collection's
    directory: raft takes what whoever reaches its port says."""
    physical: Mapping[str, Any] = state.get("physical") or {}
    for name in physical:
        checked_name(name, what=f"a shard of {collection}")
    statuses = {name: status_of(shard) for name, shard in physical.items() if node in nodes_of(shard)}
    return LocalShards(statuses, bool(state.get("partitioningEnabled")))


def status_of(shard: Mapping[str, Any]) -> TenantStatus:
    status = str(shard.get("status") or ABSENT_STATUS)
    try:
        return TenantStatus(status)
    except ValueError:
        return TenantStatus.MOVING
