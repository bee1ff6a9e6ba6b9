"""From what was frozen and stored to the parts of Weaviate's node descriptor and our node manifest. Pure.

The leader's descriptor names every collection, with no shards where it holds none: a restore takes schema and sharding
state from there. Both documents come out the same when they are made again from the same journal.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from weaviate_backup.agent.access import Access
from weaviate_backup.agent.expansion import TenantStatus
from weaviate_backup.agent.fates import Fate
from weaviate_backup.agent.journal import GONE, OFFLOADED, SHARD, Record, journal_damaged
from weaviate_backup.layout.compression import LEVELS
from weaviate_backup.layout.descriptors import ClassDescriptor, NodeDescriptor
from weaviate_backup.layout.manifests import ShardRecord
from weaviate_backup.layout.sharding_state import nodes_of, placed_on
from weaviate_backup.weaviate.inactive_tenants import DRIVER as INACTIVE_DRIVER


def describe_node(
    *,
    backup_id: str,
    started_at: datetime,
    completed_at: datetime,
    server_version: str,
    level: str,
    bytes_total: int,
    access: Access,
) -> NodeDescriptor:
    """Without its collections."""
    return NodeDescriptor(
        started_at=started_at,
        completed_at=completed_at,
        id=backup_id,
        rbac_backups=access.roles,
        user_backups=access.users,
        server_version=server_version,
        pre_compression_size_bytes=bytes_total,
        compression_type=LEVELS[level].type,
    )


def describe_class(
    name: str,
    schema: Mapping[str, Any],
    *,
    backup_id: str,
    node: str,
    fates: Mapping[str, Fate],
    chunks: Mapping[str, tuple[str, ...]],
    bytes_total: int,
) -> ClassDescriptor:
    """Without its shards. `chunks`: number -> shards in it; `fates` by shard."""
    aliases = [{"alias": alias, "class": name} for alias in sorted(schema["aliases"])]
    return ClassDescriptor(
        name=name,
        backup_id=backup_id,
        sharding_state=_compact(state_as_cut(schema["state"], fates, node=node)),
        class_json=_compact(schema["class"]),
        aliases=_compact(aliases),
        aliases_included=True,
        chunks=dict(chunks),
        pre_compression_size_bytes=bytes_total,
    )


def is_described(schema: Mapping[str, Any], fates: Iterable[Fate], *, leading: bool) -> bool:
    """Whether a node names the collection. One without shards here is named by the leader, and by all if it has
    tenants: what became of those since the leader saw them only their own node knows."""
    return leading or bool(schema["state"].get("partitioningEnabled")) or any(fate.is_frozen for fate in fates)


def state_as_cut(state: Mapping[str, Any], fates: Mapping[str, Fate], *, node: str) -> dict[str, Any]:
    """The sharding state with this node's tenants as they were when they were cut, whatever they were when it was read.

    One that was deleted before its replica here was cut is not here: a restore would make it again, empty. One that was
    offloaded since is brought back offloaded; one that woke, active, since only so its late writes are replayed.
    """
    if not state.get("partitioningEnabled"):
        return dict(state)
    physical = {}
    for name, shard in (state.get("physical") or {}).items():
        fate = fates.get(name) if node in nodes_of(shard) else None
        if fate is None:
            physical[name] = shard
        elif fate.kind != GONE:
            physical[name] = _with_status(shard, _status_at_cut(fate))
        elif others := [each for each in nodes_of(shard) if each != node]:
            physical[name] = placed_on(shard, others)
    return {**state, "physical": physical}


def _with_status(shard: dict[str, Any], status: str) -> dict[str, Any]:
    return shard if shard.get("status") == status else {**shard, "status": status}


def _status_at_cut(fate: Fate) -> str:
    if fate.kind == OFFLOADED:
        return TenantStatus.OFFLOADED
    return TenantStatus.INACTIVE if fate.driver == INACTIVE_DRIVER else TenantStatus.ACTIVE


def shard_records(records: Iterable[Record]) -> Iterator[ShardRecord]:
    """Every shard with its cut, those that vanished with none. `JournalDamaged` when a record says of one what cannot
    be."""
    for record in records:
        with believed(record["kind"]):
            yield _shard_record(record) if record["kind"] == SHARD else _record_of_none(record)


def last_cut_at(records: Iterable[Record]) -> datetime | None:
    """When the last shard of a node was cut, None when it had none: the same to all that have its journal, so that none
    of them replaces documents of another."""
    return max((each.ended_at for each in shard_records(records)), default=None)


@contextmanager
def believed(kind: str) -> Iterator[None]:
    """While records of a kind are used."""
    try:
        yield
    except ValidationError as error:
        raise journal_damaged(kind) from error


def _shard_record(record: Record) -> ShardRecord:
    return ShardRecord(
        collection=record["collection"],
        shard=record["shard"],
        driver=record["driver"],
        started_at=record["started_at"],
        ended_at=record["ended_at"],
        halt_seconds=record["halt_seconds"],
        object_count=record["object_count"],
    )


def _record_of_none(record: Record) -> ShardRecord:
    """Of a tenant that was deleted or offloaded before its cut, with that in place of the driver."""
    at = record["at"]
    return ShardRecord(
        collection=record["collection"],
        shard=record["shard"],
        driver=record["kind"],
        started_at=at,
        ended_at=at,
        halt_seconds=0.0,
    )


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
