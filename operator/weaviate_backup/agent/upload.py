"""UPLOAD: pack the frozen set into chunks, send them, then this node's manifest and, last, its native descriptor.

All that is sent comes from the frozen set and the journal, so that a repeated upload plans the same chunks and writes
the same documents; it sends only what the journal does not know.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from weaviate_backup.agent.access import kept_access
from weaviate_backup.agent.chunk_sender import ChunkSender
from weaviate_backup.agent.describing import StoredChunks, describe_node, node_manifest, stored_document
from weaviate_backup.agent.freeze import SCHEMA_FIELDS, frozen_shards
from weaviate_backup.agent.journal import journal_damaged
from weaviate_backup.agent.kept_documents import kept_document
from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.workspace import FROZEN, SCHEMA, Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import Frozen, StepCommand, Uploaded
from weaviate_backup.errors import Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.descriptors import NodeDescriptor, encode
from weaviate_backup.layout.manifests import NodeHeader, encode_node_manifest
from weaviate_backup.layout.packing import PlannedChunk, SourceFile, pack
from weaviate_backup.layout.versions import reads_split_files
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import abort_unfinished, folder_of, put_exactly

DISTRIBUTION = "weaviate-backup-operator"


async def upload(workspace: Workspace, command: StepCommand, meter: Meter) -> Uploaded:
    """The step."""
    done = workspace.journal.result("uploaded", Uploaded)
    if done is not None:
        return done
    return await in_thread(_upload, workspace, command.collections, meter)


def _upload(workspace: Workspace, collections: tuple[str, ...], meter: Meter) -> Uploaded:
    journal, store = workspace.journal, workspace.open_store()
    if journal.last("uploading") is None:
        journal.append("uploading")
    shards = shards_by_collection(workspace, collections)
    chunks = plan_chunks(workspace, shards)
    meter.expect(
        bytes_total=sum(chunk.source_bytes for chunk in chunks), files_total=sum(len(chunk.parts) for chunk in chunks)
    )
    abort_unfinished(store, folder_of(workspace.backup_id, workspace.node))
    stored = ChunkSender(workspace, store, meter).send_all(chunks)
    if journal.last("all-stored") is None:
        journal.append("all-stored", at=datetime.now(UTC).isoformat())
    result = _write_documents(workspace, store, collections=collections, shards=shards, chunks=chunks, stored=stored)
    journal.append("uploaded", result=result.model_dump(mode="json"))
    return result


def _write_documents(
    workspace: Workspace,
    store: ObjectStore,
    *,
    collections: tuple[str, ...],
    shards: dict[str, list[str]],
    chunks: tuple[PlannedChunk, ...],
    stored: StoredChunks,
) -> Uploaded:
    descriptor = _descriptor(workspace, collections, shards, chunks)
    described = encode(descriptor)
    frozen = workspace.journal.result("frozen", Frozen)
    assert frozen is not None
    header = NodeHeader(
        operation_uid=workspace.uid,
        tool_version=version(DISTRIBUTION),
        backup_id=workspace.backup_id,
        node=workspace.node,
        server_version=workspace.order.server_version,
        compression_type=descriptor.compression_type,
        collections=tuple(each.name for each in descriptor.classes),
        descriptor=stored_document(described, hashlib.sha256(described).hexdigest()),
        tenants_offloaded=frozen.tenants_offloaded,
    )
    manifest = node_manifest(
        header,
        frozen=frozen_shards(workspace.journal, collections),
        gone=[record for record in workspace.journal.of("gone") if record["collection"] in collections],
        stored=stored,
    )
    content = encode_node_manifest(manifest)
    backup_id, node = workspace.backup_id, workspace.node
    put_exactly(store, keys.node_manifest(backup_id, node), content, backup_id=backup_id)
    put_exactly(store, keys.node_descriptor(backup_id, node), described, backup_id=backup_id)
    return Uploaded(
        manifest_sha256=hashlib.sha256(content).hexdigest(),
        objects=len(chunks) + 2,
        bytes_stored=manifest.stored_bytes + len(content),
    )


def _descriptor(
    workspace: Workspace,
    collections: tuple[str, ...],
    shards: dict[str, list[str]],
    chunks: tuple[PlannedChunk, ...],
) -> NodeDescriptor:
    order = workspace.backup
    stored_at = workspace.journal.last("all-stored")
    assert stored_at is not None
    return describe_node(
        backup_id=workspace.backup_id,
        node=workspace.node,
        started_at=order.started_at,
        completed_at=_time(stored_at["at"]),
        server_version=workspace.order.server_version,
        level=order.compression_level,
        schemas={name: read_schema(workspace, name) for name in collections},
        shards=shards,
        chunks=chunks,
        access=kept_access(workspace),
        gone=_gone(workspace, collections),
        leading=workspace.node == order.leader,
    )


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise journal_damaged("all-stored") from error


def _gone(workspace: Workspace, collections: tuple[str, ...]) -> dict[str, set[str]]:
    """Shards of which nothing was frozen because they were deleted, by collection."""
    gone: dict[str, set[str]] = {}
    for record in workspace.journal.of("gone"):
        if record["collection"] in collections:
            gone.setdefault(record["collection"], set()).add(record["shard"])
    return gone


def shards_by_collection(workspace: Workspace, collections: Iterable[str]) -> dict[str, list[str]]:
    shards: dict[str, list[str]] = {}
    for collection, shard in frozen_shards(workspace.journal, set(collections)):
        shards.setdefault(collection, []).append(shard)
    return shards


def plan_chunks(workspace: Workspace, shards: dict[str, list[str]]) -> tuple[PlannedChunk, ...]:
    """The same ones each time, since the frozen set does not change."""
    order = workspace.backup
    split_bytes = order.split_file_bytes if reads_split_files(workspace.order.server_version) else None
    planned: list[PlannedChunk] = []
    for collection, names in sorted(shards.items()):
        files = {shard: list_files(workspace.directory / FROZEN, collection, shard) for shard in names}
        planned += pack(collection, files, target_bytes=order.chunk_size_bytes, split_bytes=split_bytes)
    return tuple(planned)


def list_files(frozen: Place, collection: str, shard: str) -> list[SourceFile]:
    """A frozen shard's files, named as in a data root."""
    root = frozen / collection.lower() / shard
    lost = Permanent("FrozenSetLost", f"the frozen files of {collection}/{shard} are gone; make a new backup")
    if not root.is_directory():
        raise lost
    try:
        return [
            SourceFile(f"{collection.lower()}/{shard}/{name}", status.st_size, status.st_mode & 0o777)
            for name, status in root.files()
        ]
    except FileNotFoundError as error:
        raise lost from error


def read_schema(workspace: Workspace, collection: str) -> dict[str, Any]:
    """What raft said of the collection at the cut. Integers stay exact."""
    found = kept_document(workspace.directory / SCHEMA / f"{collection}.json", SCHEMA_FIELDS)
    if found is None:
        raise Permanent("CollectionNotFrozen", f"collection {collection!r} was not frozen on {workspace.node}")
    return found
