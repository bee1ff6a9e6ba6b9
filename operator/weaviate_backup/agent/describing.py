"""From what was frozen and stored to Weaviate's node descriptor and our node manifest. Pure: values in, values out.

The leader's descriptor names every collection, with no shards where it holds none: a restore takes schema and sharding
state from there. Both documents come out the same when they are made again from the same journal.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from weaviate_backup.agent.access import Access
from weaviate_backup.agent.journal import Record, journal_damaged
from weaviate_backup.layout.chunk_writer import ChunkRecord
from weaviate_backup.layout.compression import LEVELS
from weaviate_backup.layout.descriptors import ClassDescriptor, NodeDescriptor, ShardDescriptor
from weaviate_backup.layout.manifests import ChunkLine, NodeHeader, NodeManifest, ShardRecord, StoredDocument
from weaviate_backup.layout.packing import PlannedChunk
from weaviate_backup.layout.sharding_state import nodes_of

GONE = "gone"
"""The driver of a shard that was deleted while it was to be frozen."""

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
    gone: Mapping[str, Collection[str]],
    leading: bool,
) -> NodeDescriptor:
    """`schemas`, `shards` and `gone` by collection; one without shards here is named by the leader only."""
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
            gone=gone.get(name, ()),
        )
        for name in sorted(schemas)
        if leading or shards.get(name)
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
    gone: Collection[str],
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
        sharding_state=_compact(state_without(schema["state"], gone, node=node)),
        class_json=_compact(schema["class"]),
        aliases=_compact(aliases),
        aliases_included=True,
        chunks={str(chunk.number): chunk.shards for chunk in chunks},
        pre_compression_size_bytes=sum(chunk.source_bytes for chunk in chunks),
    )


def state_without(state: Mapping[str, Any], gone: Collection[str], *, node: str) -> dict[str, Any]:
    """The sharding state without tenants that were deleted before their only replica was cut.

    Otherwise a restore would make them again, empty. Statuses stay as they were read.
    """
    physical = {
        name: shard
        for name, shard in (state.get("physical") or {}).items()
        if name not in gone or set(nodes_of(shard)) != {node}
    }
    return {**state, "physical": physical}


def node_manifest(
    header: NodeHeader, *, frozen: Mapping[tuple[str, str], Record], gone: Iterable[Record], stored: StoredChunks
) -> NodeManifest:
    """Every shard with its cut, those that vanished with none, and every stored chunk. `JournalDamaged` when a record
    says of one what cannot be."""
    vanished = {(record["collection"], record["shard"]): record for record in gone}
    with _believed("shard"):
        shards = [_shard_record(record) for _, record in sorted(frozen.items())]
    with _believed("gone"):
        shards += [_gone_record(record) for key, record in sorted(vanished.items()) if key not in frozen]
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


def _gone_record(record: Record) -> ShardRecord:
    at = record["at"]
    return ShardRecord(
        collection=record["collection"],
        shard=record["shard"],
        driver=GONE,
        started_at=at,
        ended_at=at,
        halt_seconds=0.0,
    )


def stored_document(content: bytes, sha256: str) -> StoredDocument:
    return StoredDocument(size_bytes=len(content), sha256=sha256)


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
