"""VERIFY: read every byte of another node's upload back from the store and compare it with its manifest.

What counts is what the store gives back now: sizes and SHA-256 of every object, that the descriptor names the chunks
of the manifest and no others, and that nothing else lies in the node's folder.
"""

from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import StepCommand, Verified
from weaviate_backup.errors import ObjectNotFound, Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.descriptors import NodeDescriptor, chunk_keys
from weaviate_backup.layout.integrity import compare_listing, summarize
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.long_descriptor import read_long_descriptor
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.node_manifest import ManifestReader, NodeContents
from weaviate_backup.stored.parallel import each_in_parallel
from weaviate_backup.stored.storing import Budget, folder_of, hash_object, sizes_of
from weaviate_backup.tasks import in_thread


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
    checked_descriptor(store, contents, Budget())
    hashed = contents.hashed
    meter.expect(bytes_total=sum(size for size, _ in hashed.values()), files_total=len(hashed))
    _hash_all(workspace, store, hashed, meter)
    return Verified(
        node=node,
        manifest_sha256=contents.document.sha256,
        objects=len(contents.expected),
        bytes_stored=sum(contents.expected.values()),
    )


def read_contents(store: ObjectStore, backup_id: str, node: str, *, operation_uid: str) -> NodeContents:
    """A node's manifest of this very operation."""
    reader = ManifestReader(store, backup_id, node)
    try:
        contents = reader.contents()
    except ObjectNotFound as error:
        raise Permanent("VerificationFailed", f"{reader.key} is missing") from error
    header = contents.header
    if (header.operation_uid, header.backup_id, header.node) != (operation_uid, backup_id, node):
        message = f"{reader.key} was written by operation {header.operation_uid}, not by this one"
        raise Permanent("VerificationFailed", message)
    return contents


def checked_descriptor(store: ObjectStore, contents: NodeContents, budget: Budget) -> NodeDescriptor:
    """Weaviate restores by the descriptor: it must be what was written, and name exactly the manifest's chunks."""
    backup_id, node = contents.header.backup_id, contents.header.node
    key = keys.node_descriptor(backup_id, node)
    try:
        descriptor = read_long_descriptor(store, key, expected=contents.header.descriptor, budget=budget).descriptor
    except Permanent as error:
        if error.reason != "BackupDamaged":
            raise
        raise Permanent("VerificationFailed", error.message) from error
    if chunk_keys(descriptor, backup_id, node) != contents.chunks.keys():
        raise Permanent("VerificationFailed", f"{key} names other chunks than the manifest of {node}")
    return descriptor


def _hash_all(workspace: Workspace, store: ObjectStore, objects: dict[str, tuple[int, str]], meter: Meter) -> None:
    """Every byte of all, in parallel; the first difference stops the others."""

    def check(item: tuple[str, tuple[int, str]]) -> None:
        key, expected = item
        if hash_object(store, key, meter) != expected:
            raise Permanent("VerificationFailed", f"{key} is not what was written (SHA-256 differs)")
        meter.add(files_done=1)

    each_in_parallel(check, objects.items(), meter, streams=workspace.streams)
