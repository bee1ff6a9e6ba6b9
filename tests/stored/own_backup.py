"""A backup as our agents store it: a server's layout with our manifests beside it, of chunks that the layout wrote."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from tests.agent.foreign_backup import COLLECTION, NODES, ForeignBackup

from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.manifests import (
    BackupManifest,
    ChunkLine,
    NodeEntry,
    NodeHeader,
    NodeManifest,
    StoredDocument,
    encode_backup_manifest,
    encode_node_manifest,
)

UID = "7b2c"
SERVER_VERSION = "1.39.1"


def own_backup(root: Path, backup_id: str, *, files: dict[str, bytes]) -> ForeignBackup:
    """Of two nodes; each file makes a chunk of its own, and the small ones share one."""
    backup = ForeignBackup(root, backup_id, files=files).write()
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
        number = int(path.name.removeprefix("chunk-"))
        chunks.append(
            ChunkLine(
                collection=COLLECTION, number=number, size_bytes=stored.size_bytes, sha256=stored.sha256, files=()
            )
        )
    return NodeManifest(header, (), tuple(chunks))


def _stored(content: bytes) -> StoredDocument:
    return StoredDocument(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
