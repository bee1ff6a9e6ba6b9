"""COMMIT: the point from which on the backup exists. All of it is checked in the store first, the marker comes last.

Everything is read from the store, nothing is taken from what agents said but the hashes that were verified. A commit
that is repeated, by this agent or another, makes its documents anew from that: the ones it finds are its own when they
are the same to the byte. Whoever may write to the store can put others there, which name this operation as well.
"""

import hashlib
from collections.abc import Container, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from weaviate_backup.agent.upload import DISTRIBUTION
from weaviate_backup.agent.verify import checked_descriptor, read_contents
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.answers import document_bounds
from weaviate_backup.core.session import BackupOrder, Committed, StepCommand, StoreOrder
from weaviate_backup.errors import ObjectExists, Permanent, Transient
from weaviate_backup.layout import keys
from weaviate_backup.layout.definitions import contradiction, made_anew
from weaviate_backup.layout.descriptors import (
    BackupConfig,
    NodeDescriptor,
    NodeSummary,
    encode,
)
from weaviate_backup.layout.integrity import compare_listing, compare_shards, summarize
from weaviate_backup.layout.manifests import (
    BackupManifest,
    NodeEntry,
    StoredDocument,
    decode_backup_manifest,
    encode_backup_manifest,
)
from weaviate_backup.layout.sharding_state import COVERED_STATUSES, nodes_of, placed_on
from weaviate_backup.layout.signatures import sign, signer_of
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.claiming import ClaimedPlace
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.node_manifest import NodeContents
from weaviate_backup.stored.storing import (
    Budget,
    Document,
    find_document,
    is_committed,
    lock_backup,
    prefix_of,
)
from weaviate_backup.tasks import in_thread

CLOCK_SLACK, LONGEST_SLACK = timedelta(minutes=5), timedelta(days=1)
"""Between the clocks of agents that complete a backup one after the other. What is complete is ours by its bytes: its
time need only be one that a wrong clock can tell."""
OBJECTS_OF_THE_WHOLE = 3
"""The claim, our manifest and the marker, beside what the nodes stored."""


async def commit(workspace: Workspace, command: StepCommand, meter: Meter) -> Committed:
    """The step."""
    return await in_thread(_commit, workspace, command.verified, meter)


def _commit(workspace: Workspace, verified: Mapping[str, str], meter: Meter) -> Committed:
    if not verified:
        raise Permanent("InvalidRequest", "commit needs the verified manifests' hashes")
    store, backup_id, signing_key = workspace.open_store(), workspace.backup_id, workspace.signing_key()
    place = workspace.place_in(store)
    place.refuse_strangers()
    committed, before = is_committed(store, backup_id), find_document(store, keys.manifest(backup_id))
    known = _own_manifest(workspace, before)
    contents = {node: _checked_contents(workspace, store, node, sha256) for node, sha256 in sorted(verified.items())}
    budget = Budget()
    descriptors = {node: checked_descriptor(store, each, budget) for node, each in contents.items()}
    meter.check()
    on_top = {keys.claim(backup_id), keys.manifest(backup_id), keys.backup_config(backup_id)}
    on_top |= {keys.manifest_signature(backup_id)} if signing_key else set()
    _check_objects(store, backup_id, contents, on_top=on_top)
    leader = _leader(workspace, descriptors)
    _check_definitions(leader, descriptors)
    _check_shards(leader, descriptors, contents)
    manifest = _describe(workspace, leader, descriptors, contents, since=known, committed=committed)
    marker = encode(_marker(manifest, descriptors))
    manifest = manifest.model_copy(update={"marker": StoredDocument.of(marker)})
    content = encode_backup_manifest(manifest)
    documents = {keys.manifest(backup_id): content, keys.backup_config(backup_id): marker}
    signature = None
    if signing_key is not None:
        digest = hashlib.sha256(content).hexdigest()
        signature = sign(signing_key, backup_id=backup_id, manifest_sha256=digest)
        documents[keys.manifest_signature(backup_id)] = signature
    meter.check()
    if not committed:
        _put_manifest(workspace, place, content, before=before)
        _complete(workspace, place, meter, manifest=manifest, signature=signature, marker=marker)
        _check_objects(store, backup_id, contents, on_top=on_top)  # a dead node's agent may have been at work till then
    _refuse_others(workspace, store, documents, before=before)
    return _result(
        manifest,
        content,
        signature=signature,
        locked_until=_lock(workspace, store, manifest),
    )


def _complete(
    workspace: Workspace,
    place: ClaimedPlace,
    meter: Meter,
    *,
    manifest: BackupManifest,
    signature: bytes | None,
    marker: bytes,
) -> None:
    """What is put on top of the manifest, which is there by now."""
    store = place.store
    if signature is not None:
        place.put_exactly(keys.manifest_signature(workspace.backup_id), Document.of(signature))
    _lock(workspace, store, manifest)  # before the marker: a backup that exists is kept
    place.refuse_strangers()
    meter.check()  # who was told to end has another in its place by now
    with suppress(ObjectExists):  # our own put, whose answer was lost; another committer of ours; or a stranger
        store.put(keys.backup_config(workspace.backup_id), lambda: iter((marker,)), if_absent=True)


def _refuse_others(
    workspace: Workspace, store: ObjectStore, documents: Mapping[str, bytes], *, before: bytes | None
) -> None:
    """What lies there now is what we make of the verified objects, byte for byte. `before`: the manifest that we began
    with; another one that names this operation appeared meanwhile."""
    if all(find_document(store, key) == content for key, content in documents.items()):
        return
    key = keys.manifest(workspace.backup_id)
    now = find_document(store, key)
    if now not in (None, before, documents[key]) and _own_manifest(workspace, now) is not None:
        raise _overlap(workspace)
    raise _exists(workspace)


def _put_manifest(workspace: Workspace, place: ClaimedPlace, content: bytes, *, before: bytes | None) -> None:
    """A manifest that appeared since we began is of another agent of this operation, told to commit as we are: the next
    attempt makes the same of it. It is never replaced, since a marker may already vouch for it."""
    key = keys.manifest(workspace.backup_id)
    try:
        place.store.put(key, lambda: iter((content,)), if_absent=True)
    except ObjectExists as error:
        there = find_document(place.store, key)
        if there == content:
            return
        if there != before:
            raise _overlap(workspace) from error
        place.replace(key, lambda: iter((content,)))


def _overlap(workspace: Workspace) -> Transient:
    message = f"another agent of this operation completes backup {workspace.backup_id!r} at the same time"
    return Transient("CommitOverlaps", message)


def _lock(workspace: Workspace, store: ObjectStore, manifest: BackupManifest) -> datetime | None:
    """From its completion, but for a time that is to come, which somebody else may have written there."""
    days, latest = workspace.order.location.lock_days, datetime.now(UTC) + CLOCK_SLACK
    return lock_backup(store, workspace.backup_id, days=days, completed_at=min(manifest.completed_at, latest))


def _own_manifest(workspace: Workspace, content: bytes | None) -> BackupManifest | None:
    """What an earlier attempt of this operation wrote; another operation's is a refusal."""
    if content is None:
        return None
    manifest = decode_backup_manifest(content, key=keys.manifest(workspace.backup_id))
    if manifest.operation_uid != workspace.uid:
        raise _exists(workspace)
    return manifest


def _exists(workspace: Workspace) -> Permanent:
    where = workspace.order.location.address
    return Permanent("BackupExists", f"backup {workspace.backup_id!r} at {where} was made by another operation")


def _checked_contents(workspace: Workspace, store: ObjectStore, node: str, sha256: str) -> NodeContents:
    contents = read_contents(store, workspace.backup_id, node, operation_uid=workspace.uid)
    if contents.document.sha256 != sha256:
        raise Permanent("VerificationFailed", f"the manifest of {node} is not the one that was verified")
    return contents


def _check_objects(
    store: ObjectStore, backup_id: str, contents: Mapping[str, NodeContents], *, on_top: Container[str]
) -> None:
    """Every object of every node with its size, and no other, but what an earlier attempt of ours wrote on top."""
    expected = {key: size for each in contents.values() for key, size in each.expected.items()}
    listed = {each.key: each.size_bytes for each in store.list(prefix_of(backup_id)) if each.key not in on_top}
    findings = compare_listing(expected, listed)
    if findings:
        raise Permanent("VerificationFailed", summarize(findings))


def _leader(workspace: Workspace, descriptors: Mapping[str, NodeDescriptor]) -> str:
    """The ordered one, whoever completes the backup. Of an earlier operator a store worker has no such order, and takes
    the first that names every collection."""
    everything = {each.name for descriptor in descriptors.values() for each in descriptor.classes}
    work = workspace.order.work
    ordered = work.leader if isinstance(work, BackupOrder | StoreOrder) else ""
    candidates = [ordered] if ordered else sorted(descriptors)
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
    """Every shard on every node, as the leader saw them; less the tenants that were deleted or offloaded before a
    node's own cut."""
    states = {each.name: document_bounds().parse(each.sharding_state) for each in descriptors[leader].classes}
    for node, descriptor in descriptors.items():
        for each in descriptor.classes:
            if states[each.name].get("partitioningEnabled"):
                own = document_bounds().parse(each.sharding_state)
                states[each.name] = _without_vanished(states[each.name], own, node)
    findings = compare_shards(states, {node: each.held for node, each in contents.items()})
    if findings:
        raise Permanent("VerificationFailed", summarize(findings))


def _without_vanished(seen: dict[str, Any], own: Mapping[str, Any], node: str) -> dict[str, Any]:
    there, physical = own.get("physical") or {}, {}
    for shard, placed in (seen.get("physical") or {}).items():
        here = there.get(shard, {})
        if node not in nodes_of(placed) or (node in nodes_of(here) and here.get("status", "") in COVERED_STATUSES):
            physical[shard] = placed
        elif others := [each for each in nodes_of(placed) if each != node]:
            physical[shard] = placed_on(placed, others)
    return {**seen, "physical": physical}


def _describe(
    workspace: Workspace,
    leader: str,
    descriptors: Mapping[str, NodeDescriptor],
    contents: Mapping[str, NodeContents],
    *,
    since: BackupManifest | None,
    committed: bool,
) -> BackupManifest:
    """For an attempt that is repeated the same again, `since` the first, as far as that can be: a time that is not of
    this operation is somebody else's, and would decide for how long objects are locked."""
    started_at = min(each.started_at for each in descriptors.values())
    now = max(datetime.now(UTC), started_at)  # by the operator's clock, which may be ahead of ours
    before, after = (LONGEST_SLACK, LONGEST_SLACK) if committed else (timedelta(0), CLOCK_SLACK)
    if since is not None and not started_at - before <= since.completed_at <= now + after:
        since = None
    nodes = {
        node: NodeEntry(
            manifest=each.document,
            objects=len(each.expected),
            stored_bytes=sum(each.expected.values()),
            source_bytes=each.source_bytes,
        )
        for node, each in contents.items()
    }
    return BackupManifest(
        operation_uid=workspace.uid,
        tool_version=since.tool_version if since else version(DISTRIBUTION),
        backup_id=workspace.backup_id,
        server_version=workspace.order.server_version,
        leader=leader,
        started_at=started_at,
        completed_at=since.completed_at if since else now,
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


def _result(
    manifest: BackupManifest, content: bytes, *, signature: bytes | None, locked_until: datetime | None
) -> Committed:
    return Committed(
        objects=manifest.objects + OBJECTS_OF_THE_WHOLE + (signature is not None),
        bytes_stored=manifest.stored_bytes,
        bytes_total=manifest.source_bytes,
        completed_at=manifest.completed_at,
        locked_until=locked_until,
        backup_sha256=hashlib.sha256(content).hexdigest(),
        signed_by=signer_of(signature) if signature else "",
    )
