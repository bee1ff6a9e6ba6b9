"""VERIFY: read every byte of another node's upload back from the store and compare it with its manifest.

What counts is what the store gives back now: sizes and SHA-256 of every object, that the descriptor names the chunks
of the manifest and no others, and that nothing else lies in the node's folder.
"""

import hashlib
import io
from dataclasses import dataclass, field

from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.answers import document_bounds
from weaviate_backup.core.session import StepCommand, Verified
from weaviate_backup.errors import ObjectNotFound, Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.descriptors import chunk_keys, parse_node_descriptor
from weaviate_backup.layout.integrity import compare_listing, summarize
from weaviate_backup.layout.manifests import ChunkLine, NodeHeader, ShardRecord, read_node_manifest
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.parallel import each_in_parallel
from weaviate_backup.stored.storing import folder_of, hash_object, read_document, sizes_of


@dataclass
class NodeContents:
    """What a node's manifest says, without the files: a node may have millions of those."""

    header: NodeHeader
    manifest_bytes: int
    manifest_sha256: str
    chunks: dict[str, tuple[int, str]] = field(default_factory=dict)
    """key -> size and SHA-256"""
    held: dict[str, set[str]] = field(default_factory=dict)
    """collection -> shards, those that vanished during the cut included"""
    source_bytes: int = 0

    @property
    def expected(self) -> dict[str, int]:
        """Key -> size of every object of the node."""
        backup_id, node = self.header.backup_id, self.header.node
        return {
            **{key: size for key, (size, _) in self.chunks.items()},
            keys.node_descriptor(backup_id, node): self.header.descriptor.size_bytes,
            keys.node_manifest(backup_id, node): self.manifest_bytes,
        }


async def verify(workspace: Workspace, command: StepCommand, meter: Meter) -> Verified:
    """The step."""
    node = command.verify_node
    if not node:
        raise Permanent("InvalidRequest", "verify needs verify_node")
    return await in_thread(_verify, workspace, node, meter)


def _verify(workspace: Workspace, node: str, meter: Meter) -> Verified:
    store = workspace.open_store()
    contents = read_contents(store, workspace.backup_id, node, operation_uid=workspace.uid)
    listed = sizes_of(store, folder_of(workspace.backup_id, node))
    findings = compare_listing(contents.expected, listed)
    if findings:
        raise Permanent("VerificationFailed", summarize(findings))
    check_descriptor(store, contents)
    meter.expect(bytes_total=sum(size for size, _ in contents.chunks.values()), files_total=len(contents.chunks))
    _hash_all(workspace, store, contents.chunks, meter)
    return Verified(
        node=node,
        manifest_sha256=contents.manifest_sha256,
        objects=len(contents.expected),
        bytes_stored=sum(contents.expected.values()),
    )


def read_contents(store: ObjectStore, backup_id: str, node: str, *, operation_uid: str) -> NodeContents:
    """A node's manifest of this very operation."""
    key = keys.node_manifest(backup_id, node)
    try:
        content = read_document(store, key)
    except ObjectNotFound as error:
        raise Permanent("VerificationFailed", f"{key} is missing") from error
    contents: NodeContents | None = None
    for line in read_node_manifest(io.BytesIO(content), key=key, line_bounds=document_bounds()):
        match line:
            case NodeHeader():
                contents = NodeContents(line, len(content), hashlib.sha256(content).hexdigest())
            case ShardRecord():
                assert contents is not None
                contents.held.setdefault(line.collection, set()).add(line.shard)
            case ChunkLine():
                assert contents is not None
                chunk = keys.chunk(backup_id, node, line.collection, line.number)
                contents.chunks[chunk] = (line.size_bytes, line.sha256)
                contents.source_bytes += sum(length for _, _, length, _ in line.files)
    assert contents is not None
    header = contents.header
    if (header.operation_uid, header.backup_id, header.node) != (operation_uid, backup_id, node):
        raise Permanent("VerificationFailed", f"{key} was written by operation {header.operation_uid}, not by this one")
    return contents


def check_descriptor(store: ObjectStore, contents: NodeContents) -> None:
    """Weaviate restores by the descriptor: it must be what was written, and name exactly the manifest's chunks."""
    backup_id, node = contents.header.backup_id, contents.header.node
    key = keys.node_descriptor(backup_id, node)
    content = read_document(store, key)
    if hashlib.sha256(content).hexdigest() != contents.header.descriptor.sha256:
        raise Permanent("VerificationFailed", f"{key} is not what was written (SHA-256 differs)")
    descriptor = parse_node_descriptor(content, key=key)
    if chunk_keys(descriptor, backup_id, node) != contents.chunks.keys():
        raise Permanent("VerificationFailed", f"{key} names other chunks than the manifest of {node}")


def _hash_all(workspace: Workspace, store: ObjectStore, chunks: dict[str, tuple[int, str]], meter: Meter) -> None:
    """Every byte of every chunk, in parallel; the first difference stops the others."""

    def check(item: tuple[str, tuple[int, str]]) -> None:
        key, expected = item
        if hash_object(store, key, meter) != expected:
            raise Permanent("VerificationFailed", f"{key} is not what was written (SHA-256 differs)")
        meter.add(files_done=1)

    each_in_parallel(check, chunks.items(), meter, streams=workspace.streams)
