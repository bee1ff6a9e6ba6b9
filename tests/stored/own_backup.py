"""A backup as our agents store it: a server's layout with our manifests beside it, of chunks that the layout wrote."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.agent.foreign_backup import COLLECTION, NODES, ForeignBackup, shard_of
from tests.whole_manifest import NodeManifest, encode_node_manifest

from weaviate_backup.layout.chunk_reader import read_chunk
from weaviate_backup.layout.claims import Claim, encode_claim
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.manifests import (
    BackupManifest,
    ChunkLine,
    NodeEntry,
    NodeHeader,
    ShardRecord,
    StoredDocument,
    encode_backup_manifest,
)

UID = "7b2c"
SERVER_VERSION = "1.39.1"


def own_backup(
    root: Path, backup_id: str, *, files: dict[str, bytes], change: Callable[[ForeignBackup], None] = lambda _: None
) -> ForeignBackup:
    """Of two nodes; each file makes a chunk of its own, and the small ones share one. `change`: before the manifests,
    which so tell of what it made."""
    backup = ForeignBackup(root, backup_id, files=files).write()
    backup.put_bytes("operation.json", encode_claim(Claim(operation_uid=UID, backup_id=backup_id)))
    change(backup)
    entries = {}
    for node in NODES:
        content = encode_node_manifest(_manifest_of(backup, node))
        backup.put_bytes(f"{node}/manifest.json.zst", content)
        entries[node] = NodeEntry(manifest=_stored(content), objects=0, stored_bytes=0, source_bytes=0)
    manifest = BackupManifest(
        operation_uid=UID,
        tool_version="0.1.0",
        backup_id=backup_id,
        server_version=SERVER_VERSION,
        leader=NODES[0],
        started_at=datetime(2026, 5, 1, tzinfo=UTC),
        completed_at=datetime(2026, 5, 1, tzinfo=UTC),
        nodes=entries,
        collections=(COLLECTION,),
        marker=_stored((root / backup_id / "backup_config.json").read_bytes()),
        objects=0,
        stored_bytes=0,
        source_bytes=0,
    )
    backup.put_bytes("manifest.json", encode_backup_manifest(manifest))
    return backup


def _manifest_of(backup: ForeignBackup, node: str) -> NodeManifest:
    folder = backup.root / backup.backup_id / node
    header = NodeHeader(
        operation_uid=UID,
        tool_version="0.1.0",
        backup_id=backup.backup_id,
        node=node,
        server_version=SERVER_VERSION,
        compression_type=CompressionType.GZIP,
        collections=(COLLECTION,),
        descriptor=_stored((folder / "backup.json").read_bytes()),
    )
    chunks = []
    for path in sorted((folder / COLLECTION).iterdir()):
        stored = _stored(path.read_bytes())
        chunks.append(
            ChunkLine(
                collection=COLLECTION,
                number=int(path.name.removeprefix("chunk-")),
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                files=tuple(_files_in(path)),
            )
        )
    at = datetime(2026, 5, 1, tzinfo=UTC)
    shard = ShardRecord(
        collection=COLLECTION, shard=shard_of(node), driver="hand", started_at=at, ended_at=at, halt_seconds=0.0
    )
    return NodeManifest(header, (shard,), tuple(chunks))


def _files_in(chunk: Path) -> Iterator[tuple[str, int, int, str]]:
    with chunk.open("rb") as stream:
        for entry in read_chunk(stream, compression=CompressionType.GZIP, collection=COLLECTION):
            yield entry.path, entry.offset, entry.length_bytes, hashlib.sha256(b"".join(entry.blocks)).hexdigest()


def _stored(content: bytes) -> StoredDocument:
    return StoredDocument(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
