"""COMMIT: the point from which on the backup exists. All of it is checked in the store first, the marker comes last.

Everything is read from the store, nothing is taken from what agents said but the hashes that were verified. A commit
that is repeated, by this agent or another, finds its own manifest and marker and reports the same.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.upload import DISTRIBUTION
from weaviate_backup.agent.verify import NodeContents, read_contents
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.answers import document_bounds
from weaviate_backup.core.session import BackupOrder, Committed, StepCommand
from weaviate_backup.errors import ObjectExists, Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.definitions import contradiction, made_anew
from weaviate_backup.layout.descriptors import (
    BackupConfig,
    NodeDescriptor,
    NodeSummary,
    encode,
    parse_backup_config,
    parse_node_descriptor,
)
from weaviate_backup.layout.integrity import compare_listing, compare_shards, summarize
from weaviate_backup.layout.manifests import (
    BackupManifest,
    NodeEntry,
    StoredDocument,
    decode_backup_manifest,
    encode_backup_manifest,
)
from weaviate_backup.layout.signatures import sign, signer_of
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import (
    Budget,
    find_document,
    is_committed,
    lock_backup,
    prefix_of,
    put_exactly,
    read_document,
)

OBJECTS_OF_THE_WHOLE = 2
"""Our manifest and the marker, beside what the nodes stored."""


async def commit(workspace: Workspace, command: StepCommand, meter: Meter) -> Committed:
    """The step."""
    return await in_thread(_commit, workspace, command.verified, meter)


def _commit(workspace: Workspace, verified: Mapping[str, str], meter: Meter) -> Committed:
    if not verified:
        raise Permanent("InvalidRequest", "commit needs the verified manifests' hashes")
    store, backup_id, signing_key = workspace.open_store(), workspace.backup_id, workspace.signing_key()
    known = _own_manifest(workspace, store)
    if is_committed(store, backup_id):
        return _committed_already(workspace, store, known)
    contents = {node: _checked_contents(workspace, store, node, sha256) for node, sha256 in sorted(verified.items())}
    budget = Budget()
    descriptors = {node: _descriptor(store, backup_id, each, budget) for node, each in contents.items()}
    meter.check()
    _check_objects(store, backup_id, contents)
    leader = _leader(workspace, descriptors)
    _check_definitions(leader, descriptors)
    _check_shards(leader, descriptors, contents)
    manifest = _describe(workspace, leader, descriptors, contents, since=known)
    marker = encode(_marker(manifest, descriptors))
    manifest = manifest.model_copy(update={"marker": StoredDocument.of(marker)})
    content = encode_backup_manifest(manifest)
    put_exactly(store, keys.manifest(backup_id), content, backup_id=backup_id)
    if signing_key is not None:
        digest = hashlib.sha256(content).hexdigest()
        signature = sign(signing_key, backup_id=backup_id, manifest_sha256=digest)
        put_exactly(store, keys.manifest_signature(backup_id), signature, backup_id=backup_id)
    meter.check()
    _lock(workspace, store, manifest)  # before the marker: a backup that exists is kept
    try:
        store.put(keys.backup_config(backup_id), lambda: iter((marker,)), if_absent=True)
    except ObjectExists:  # our own put, whose answer was lost and which was repeated; or another committer of ours
        return _committed_already(workspace, store, _own_manifest(workspace, store))
    return _result(manifest, store, locked_until=_lock(workspace, store, manifest))


def _lock(workspace: Workspace, store: ObjectStore, manifest: BackupManifest) -> datetime | None:
    days = workspace.order.location.lock_days
    return lock_backup(store, workspace.backup_id, days=days, completed_at=manifest.completed_at)


def _own_manifest(workspace: Workspace, store: ObjectStore) -> BackupManifest | None:
    """What an earlier attempt of this operation wrote; another operation's is a refusal."""
    key = keys.manifest(workspace.backup_id)
    content = find_document(store, key)
    if content is None:
        return None
    manifest = decode_backup_manifest(content, key=key)
    if manifest.operation_uid != workspace.uid:
        raise _exists(workspace)
    return manifest


def _committed_already(workspace: Workspace, store: ObjectStore, manifest: BackupManifest | None) -> Committed:
    """A marker is ours when our manifest describes it; Weaviate's own engine writes one, too, before it begins."""
    key = keys.backup_config(workspace.backup_id)
    marker = read_document(store, key)
    if manifest is None or not manifest.describes(marker, parse_backup_config(marker, key=key)):
        raise _exists(workspace)
    return _result(manifest, store, locked_until=_lock(workspace, store, manifest))


def _exists(workspace: Workspace) -> Permanent:
    where = workspace.order.location.address
    return Permanent("BackupExists", f"backup {workspace.backup_id!r} at {where} was made by another operation")


def _checked_contents(workspace: Workspace, store: ObjectStore, node: str, sha256: str) -> NodeContents:
    contents = read_contents(store, workspace.backup_id, node, operation_uid=workspace.uid)
    if contents.manifest_sha256 != sha256:
        raise Permanent("VerificationFailed", f"the manifest of {node} is not the one that was verified")
    return contents


def _descriptor(store: ObjectStore, backup_id: str, contents: NodeContents, budget: Budget) -> NodeDescriptor:
    key = keys.node_descriptor(backup_id, contents.header.node)
    content = read_document(store, key)
    budget.take(content, what=key)
    if hashlib.sha256(content).hexdigest() != contents.header.descriptor.sha256:
        raise Permanent("VerificationFailed", f"{key} is not what was written (SHA-256 differs)")
    return parse_node_descriptor(content, key=key)


def _check_objects(store: ObjectStore, backup_id: str, contents: Mapping[str, NodeContents]) -> None:
    """Every object of every node with its size, and no other, but what an earlier attempt of ours wrote on top."""
    expected = {key: size for each in contents.values() for key, size in each.expected.items()}
    on_top = (keys.manifest(backup_id), keys.manifest_signature(backup_id))
    listed = {each.key: each.size_bytes for each in store.list(prefix_of(backup_id)) if each.key not in on_top}
    findings = compare_listing(expected, listed)
    if findings:
        raise Permanent("VerificationFailed", summarize(findings))


def _leader(workspace: Workspace, descriptors: Mapping[str, NodeDescriptor]) -> str:
    """The ordered one; a store worker, which has no such order, takes the first that names every collection."""
    everything = {each.name for descriptor in descriptors.values() for each in descriptor.classes}
    work = workspace.order.work
    candidates = [work.leader] if isinstance(work, BackupOrder) else sorted(descriptors)
    for node in candidates:
        if node in descriptors and everything <= {each.name for each in descriptors[node].classes}:
            return node
    raise Permanent("VerificationFailed", f"no descriptor of {', '.join(candidates)} names every collection")


def _check_definitions(leader: str, descriptors: Mapping[str, NodeDescriptor]) -> None:
    """A restore takes the leader's; shards that were cut from another collection of that name would be read by it."""
    seen = {each.name: document_bounds().parse(each.class_json) for each in descriptors[leader].classes}
    for node, descriptor in descriptors.items():
        for each in descriptor.classes:
            different = contradiction(seen[each.name], document_bounds().parse(each.class_json))
            if different:
                raise made_anew(each.name, f"on {leader} and {node}, {different}")


def _check_shards(leader: str, descriptors: Mapping[str, NodeDescriptor], contents: Mapping[str, NodeContents]) -> None:
    """Every shard on every node, as the leader saw them; less the tenants that were deleted before a node's own cut."""
    states = {each.name: document_bounds().parse(each.sharding_state) for each in descriptors[leader].classes}
    for node, descriptor in descriptors.items():
        for each in descriptor.classes:
            if states[each.name].get("partitioningEnabled"):
                states[each.name] = _without_deleted(
                    states[each.name], document_bounds().parse(each.sharding_state), node
                )
    findings = compare_shards(states, {node: each.held for node, each in contents.items()})
    if findings:
        raise Permanent("VerificationFailed", summarize(findings))


def _without_deleted(seen: dict[str, Any], own: Mapping[str, Any], node: str) -> dict[str, Any]:
    there = own.get("physical") or {}
    physical = {
        shard: placed
        for shard, placed in (seen.get("physical") or {}).items()
        if shard in there or node not in (placed.get("belongsToNodes") or ())
    }
    return {**seen, "physical": physical}


def _describe(
    workspace: Workspace,
    leader: str,
    descriptors: Mapping[str, NodeDescriptor],
    contents: Mapping[str, NodeContents],
    *,
    since: BackupManifest | None,
) -> BackupManifest:
    """For an attempt that is repeated the same again, `since` the first."""
    nodes = {
        node: NodeEntry(
            manifest=StoredDocument(size_bytes=each.manifest_bytes, sha256=each.manifest_sha256),
            objects=len(each.expected),
            stored_bytes=sum(each.expected.values()),
            source_bytes=each.source_bytes,
        )
        for node, each in contents.items()
    }
    return BackupManifest(
        operation_uid=workspace.uid,
        tool_version=version(DISTRIBUTION),
        backup_id=workspace.backup_id,
        server_version=workspace.order.server_version,
        leader=leader,
        started_at=min(each.started_at for each in descriptors.values()),
        completed_at=since.completed_at if since else datetime.now(UTC),
        nodes=nodes,
        collections=tuple(sorted(each.name for each in descriptors[leader].classes)),
        tenants_offloaded=sum(each.header.tenants_offloaded for each in contents.values()),
        objects=sum(each.objects for each in nodes.values()),
        stored_bytes=sum(each.stored_bytes for each in nodes.values()),
        source_bytes=sum(each.source_bytes for each in nodes.values()),
    )


def _marker(manifest: BackupManifest, descriptors: Mapping[str, NodeDescriptor]) -> BackupConfig:
    nodes = {
        node: NodeSummary(
            classes=tuple(sorted(each.name for each in descriptor.classes)),
            pre_compression_size_bytes=descriptor.pre_compression_size_bytes,
        )
        for node, descriptor in descriptors.items()
    }
    return BackupConfig(
        started_at=manifest.started_at,
        completed_at=manifest.completed_at,
        id=manifest.backup_id,
        nodes=nodes,
        server_version=manifest.server_version,
        leader=manifest.leader,
        pre_compression_size_bytes=sum(each.pre_compression_size_bytes for each in nodes.values()),
        compression_type=descriptors[manifest.leader].compression_type,
    )


def _result(manifest: BackupManifest, store: ObjectStore, *, locked_until: datetime | None) -> Committed:
    """The hash is of what the store gives back, which is what restores will read."""
    content = read_document(store, keys.manifest(manifest.backup_id))
    if decode_backup_manifest(content, key=keys.manifest(manifest.backup_id)) != manifest:
        raise Permanent(
            "VerificationFailed", f"{keys.manifest(manifest.backup_id)} came back other than it was written"
        )
    signature = find_document(store, keys.manifest_signature(manifest.backup_id))
    return Committed(
        objects=manifest.objects + OBJECTS_OF_THE_WHOLE + (signature is not None),
        bytes_stored=manifest.stored_bytes,
        bytes_total=manifest.source_bytes,
        completed_at=manifest.completed_at,
        locked_until=locked_until,
        backup_sha256=hashlib.sha256(content).hexdigest(),
        signed_by=signer_of(signature) if signature else "",
    )
