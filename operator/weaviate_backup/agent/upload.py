"""UPLOAD: pack the frozen set into chunks, send them, then this node's manifest and, last, its native descriptor.

All that is sent comes from the frozen set and the journal, so that a repeated upload plans the same chunks and writes
the same documents; it sends only what the journal does not know. Neither is believed alone: the frozen set must hold
what the journal says of each shard, and a chunk that was sent must hold what is planned.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from weaviate_backup.agent.access import kept_access
from weaviate_backup.agent.chunk_sender import ChunkSender
from weaviate_backup.agent.describing import StoredChunks, describe_node, node_manifest, stored_document
from weaviate_backup.agent.freeze import SCHEMA_FIELDS, frozen_shards
from weaviate_backup.agent.journal import FATES, Journal, Record, fates, journal_damaged
from weaviate_backup.agent.kept_documents import kept_document
from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.workspace import FROZEN, SCHEMA, Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import Frozen, StepCommand, Uploaded
from weaviate_backup.errors import Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.descriptors import NodeDescriptor, encode
from weaviate_backup.layout.manifests import NodeHeader, encode_node_manifest
from weaviate_backup.layout.packing import PlannedChunk, SourceFile, digest_of, pack
from weaviate_backup.layout.versions import reads_split_files
from weaviate_backup.stored.claiming import ClaimedPlace
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import abort_unfinished, folder_of

DISTRIBUTION = "weaviate-backup-operator"
FrozenShards = dict[str, dict[str, Record]]
"""collection -> shard -> what the journal says of it"""


async def upload(workspace: Workspace, command: StepCommand, meter: Meter) -> Uploaded:
    """The step."""
    done = workspace.journal.result("uploaded", Uploaded)
    if done is not None:
        return done
    return await in_thread(_upload, workspace, command.collections, meter)


def _upload(workspace: Workspace, collections: tuple[str, ...], meter: Meter) -> Uploaded:
    journal, place = workspace.journal, workspace.place_in(workspace.open_store())
    place.refuse_strangers()
    shards = shards_by_collection(workspace, collections)
    chunks = plan_chunks(workspace, shards)
    begin_packing(journal, chunks)
    meter.expect(
        bytes_total=sum(chunk.source_bytes for chunk in chunks), files_total=sum(len(chunk.parts) for chunk in chunks)
    )
    _clear_folder(workspace, place, chunks)
    stored = ChunkSender(workspace, place, meter).send_all(chunks)
    if journal.last("all-stored") is None:
        journal.append("all-stored", at=datetime.now(UTC).isoformat())
    result = _write_documents(workspace, place, collections=collections, shards=shards, chunks=chunks, stored=stored)
    journal.append("uploaded", result=result.model_dump(mode="json"))
    return result


def _write_documents(
    workspace: Workspace,
    place: ClaimedPlace,
    *,
    collections: tuple[str, ...],
    shards: FrozenShards,
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
        fates=_fates(workspace, collections),
        stored=stored,
    )
    content = encode_node_manifest(manifest)
    backup_id, node = workspace.backup_id, workspace.node
    place.refuse_strangers()
    place.put_exactly(keys.node_manifest(backup_id, node), content)
    place.put_exactly(keys.node_descriptor(backup_id, node), described)
    return Uploaded(
        manifest_sha256=hashlib.sha256(content).hexdigest(),
        objects=len(chunks) + 2,
        bytes_stored=manifest.stored_bytes + len(content),
    )


def _descriptor(
    workspace: Workspace,
    collections: tuple[str, ...],
    shards: FrozenShards,
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
        shards={name: sorted(of) for name, of in shards.items()},
        chunks=chunks,
        access=kept_access(workspace),
        fates=_fates(workspace, collections),
        leading=workspace.node == order.leader,
    )


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise journal_damaged("all-stored") from error


def _fates(workspace: Workspace, collections: tuple[str, ...]) -> dict[tuple[str, str], Record]:
    """What became of each shard of theirs, by (collection, shard)."""
    return {key: record for key, record in fates(workspace.journal, *FATES).items() if key[0] in collections}


def shards_by_collection(workspace: Workspace, collections: Iterable[str]) -> FrozenShards:
    shards: FrozenShards = {}
    for (collection, shard), record in frozen_shards(workspace.journal, set(collections)).items():
        shards.setdefault(collection, {})[shard] = record
    return shards


def begin_packing(journal: Journal, chunks: Sequence[PlannedChunk]) -> None:
    """Remember how the frozen set is packed. An agent that packs otherwise, of another version perhaps, begins anew:
    what its predecessor journaled does not fit between its own chunks."""
    packing, begun = digest_of(chunks), journal.last("uploading")
    if begun is None or begun.get("packing") != packing:
        journal.append("uploading", packing=packing)


def _clear_folder(workspace: Workspace, place: ClaimedPlace, chunks: Sequence[PlannedChunk]) -> None:
    """Nothing stays there that this packing will not write, from an earlier one or of a process that is dead."""
    backup_id, node = workspace.backup_id, workspace.node
    folder = folder_of(backup_id, node)
    abort_unfinished(place.store, folder)
    wanted = {keys.chunk(backup_id, node, chunk.collection, chunk.number) for chunk in chunks}
    wanted |= {keys.node_manifest(backup_id, node), keys.node_descriptor(backup_id, node)}
    place.delete([each.key for each in place.store.list(folder) if each.key not in wanted])


def plan_chunks(workspace: Workspace, shards: FrozenShards) -> tuple[PlannedChunk, ...]:
    """The same ones each time, since the frozen set does not change. Raises `FrozenSetLost` where it did."""
    order = workspace.backup
    split_bytes = order.split_file_bytes if reads_split_files(workspace.order.server_version) else None
    planned: list[PlannedChunk] = []
    for collection, records in sorted(shards.items()):
        files = {
            shard: list_files(workspace.directory / FROZEN, collection, shard, record)
            for shard, record in records.items()
        }
        planned += pack(collection, files, target_bytes=order.chunk_size_bytes, split_bytes=split_bytes)
    return tuple(planned)


def list_files(frozen: Place, collection: str, shard: str, record: Record) -> list[SourceFile]:
    """A frozen shard's files, named as in a data root: as many, and as large, as its record says."""
    root = frozen / collection.lower() / shard
    try:
        found = [
            SourceFile(f"{collection.lower()}/{shard}/{name}", status.st_size, status.st_mode & 0o777)
            for name, status in root.files()
        ]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _lost(collection, shard, "are gone") from error
    there, frozen_then = (len(found), sum(each.size_bytes for each in found)), (record["files"], record["bytes"])
    if there != frozen_then:
        raise _lost(collection, shard, "were {} of {} bytes, and are {} of {}".format(*frozen_then, *there))
    return found


def _lost(collection: str, shard: str, how: str) -> Permanent:
    return Permanent("FrozenSetLost", f"the frozen files of {collection}/{shard} {how}; make a new backup")


def read_schema(workspace: Workspace, collection: str) -> dict[str, Any]:
    """What raft said of the collection at the cut. Integers stay exact."""
    found = kept_document(workspace.directory / SCHEMA / f"{collection}.json", SCHEMA_FIELDS)
    if found is None:
        raise Permanent("CollectionNotFrozen", f"collection {collection!r} was not frozen on {workspace.node}")
    return found
