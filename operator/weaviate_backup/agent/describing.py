"""From what was frozen and stored to Weaviate's node descriptor and our node manifest. Pure: values in, values out.

The leader's descriptor names every collection, with no shards where it holds none: a restore takes schema and sharding
state from there. Both documents come out the same when they are made again from the same journal.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from weaviate_backup.agent.access import Access
from weaviate_backup.agent.expansion import TenantStatus
from weaviate_backup.agent.journal import Record, journal_damaged
from weaviate_backup.layout.chunk_writer import ChunkRecord
from weaviate_backup.layout.compression import LEVELS
from weaviate_backup.layout.descriptors import ClassDescriptor, NodeDescriptor, ShardDescriptor
from weaviate_backup.layout.manifests import ChunkLine, NodeHeader, NodeManifest, ShardRecord, StoredDocument
from weaviate_backup.layout.packing import PlannedChunk
from weaviate_backup.layout.sharding_state import nodes_of, placed_on
from weaviate_backup.weaviate.inactive_tenants import DRIVER as INACTIVE_DRIVER

GONE, OFFLOADED = "gone", "offloaded"
"""In place of the driver of a shard that was deleted, or offloaded, before it was frozen."""

StoredChunks = Mapping[tuple[str, int], ChunkRecord]


def describe_node(
    *,
    backup_id: str,
    node: str,
    started_at: datetime,
    completed_at: datetime,
    server_version: str,
    level: str,
    schemas: Mapping[str, Mapping[str, Any]],
    shards: Mapping[str, Sequence[str]],
    chunks: Sequence[PlannedChunk],
    access: Access,
    fates: Mapping[tuple[str, str], Record],
    leading: bool,
) -> NodeDescriptor:
    """`schemas` and `shards` by collection, `fates` by shard.

    A collection without shards here is named by the leader, and by all if it has tenants: what became of those since
    the leader saw them only their own node knows.
    """
    fates_of: dict[str, dict[str, Record]] = defaultdict(dict)
    for (collection, shard), record in fates.items():
        fates_of[collection][shard] = record
    by_collection: dict[str, list[PlannedChunk]] = defaultdict(list)
    for chunk in chunks:
        by_collection[chunk.collection].append(chunk)
    classes = tuple(
        _describe_class(
            name,
            schemas[name],
            backup_id=backup_id,
            node=node,
            shards=shards.get(name, ()),
            chunks=by_collection[name],
            fates=fates_of.get(name, {}),
        )
        for name in sorted(schemas)
        if leading or shards.get(name) or schemas[name]["state"].get("partitioningEnabled")
    )
    return NodeDescriptor(
        started_at=started_at,
        completed_at=completed_at,
        id=backup_id,
        classes=classes,
        rbac_backups=access.roles,
        user_backups=access.users,
        server_version=server_version,
        pre_compression_size_bytes=sum(each.pre_compression_size_bytes for each in classes),
        compression_type=LEVELS[level].type,
    )


def _describe_class(
    name: str,
    schema: Mapping[str, Any],
    *,
    backup_id: str,
    node: str,
    shards: Iterable[str],
    chunks: Sequence[PlannedChunk],
    fates: Mapping[str, Record],
) -> ClassDescriptor:
    files: dict[str, list[str]] = defaultdict(list)
    for chunk in chunks:
        for part in chunk.parts:
            if part.offset == 0:
                files[part.shard].append(part.path)
    aliases = [{"alias": alias, "class": name} for alias in sorted(schema["aliases"])]
    return ClassDescriptor(
        name=name,
        backup_id=backup_id,
        shards=tuple(ShardDescriptor(name=shard, node=node, files=tuple(files[shard])) for shard in sorted(shards)),
        sharding_state=_compact(state_as_cut(schema["state"], fates, node=node)),
        class_json=_compact(schema["class"]),
        aliases=_compact(aliases),
        aliases_included=True,
        chunks={str(chunk.number): chunk.shards for chunk in chunks},
        pre_compression_size_bytes=sum(chunk.source_bytes for chunk in chunks),
    )


def state_as_cut(state: Mapping[str, Any], fates: Mapping[str, Record], *, node: str) -> dict[str, Any]:
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
        elif fate["kind"] != GONE:
            physical[name] = {**shard, "status": _status_at_cut(fate)}
        elif others := [each for each in nodes_of(shard) if each != node]:
            physical[name] = placed_on(shard, others)
    return {**state, "physical": physical}


def _status_at_cut(fate: Record) -> str:
    if fate["kind"] == OFFLOADED:
        return TenantStatus.OFFLOADED
    return TenantStatus.INACTIVE if fate["driver"] == INACTIVE_DRIVER else TenantStatus.ACTIVE


def node_manifest(header: NodeHeader, *, fates: Mapping[tuple[str, str], Record], stored: StoredChunks) -> NodeManifest:
    """Every shard with its cut, those that vanished with none, and every stored chunk. `JournalDamaged` when a record
    says of one what cannot be."""
    shards = []
    for record in fates.values():
        with _believed(record["kind"]):
            shards.append(_shard_record(record) if "driver" in record else _record_of_none(record))
    with _believed("chunk"):
        chunks = tuple(ChunkLine.of(collection, record) for (collection, _), record in sorted(stored.items()))
    return NodeManifest(header, tuple(shards), chunks)


@contextmanager
def _believed(kind: str) -> Iterator[None]:
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
    """Of a tenant that was deleted or offloaded before its cut."""
    at = record["at"]
    return ShardRecord(
        collection=record["collection"],
        shard=record["shard"],
        driver=record["kind"],
        started_at=at,
        ended_at=at,
        halt_seconds=0.0,
    )


def stored_document(content: bytes, sha256: str) -> StoredDocument:
    return StoredDocument(size_bytes=len(content), sha256=sha256)


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
