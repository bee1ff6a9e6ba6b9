"""INSPECT: what a backup holds, and what this node's disk says to it. Reads only.

Works for stock backups, too; those without our manifests are told apart as not verifiable. What is wrong is a finding
in the result, so that all of it is told at once; only a backup that cannot be found or read at all fails the step.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from weaviate_backup.agent.access import Access, assignments_of, count_access, names_of
from weaviate_backup.agent.in_the_way import not_swept, space_of_others
from weaviate_backup.agent.runner import failure_of
from weaviate_backup.agent.wanted_files import Wanted, wanted_files
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.api.location import Verification
from weaviate_backup.core.session import (
    AccessCounts,
    BackupContents,
    Failure,
    Inspected,
    ModuleAddress,
    RestoreOrder,
    StepCommand,
)
from weaviate_backup.core.signing import PUBLIC_KEYS_FIELD
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.acceptance import judge_base, judge_config, judge_leader, judge_node
from weaviate_backup.layout.integrity import Finding, compare_shards, summarize
from weaviate_backup.layout.module_addresses import addresses_of
from weaviate_backup.layout.signatures import judge_signature
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import folder_of, sizes_of
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.raft_access import AccessClient

PROBLEM_LIMIT = 16
NAMES_SHOWN = 16
NOT_VERIFIABLE = (
    "a server made this backup, without checksums: it is checked that every chunk and every file is there and can be "
    "unpacked, and how large big files are; not that each byte is as it was"
)


async def inspect(workspace: Workspace, _: StepCommand, meter: Meter) -> Inspected:
    """The step."""
    inspected = await in_thread(_inspect, workspace, meter)
    work = workspace.order.work
    if inspected.bytes_required > inspected.bytes_free and isinstance(work, RestoreOrder):
        inspected = await _with_space_of_others(workspace, inspected)
    if not isinstance(work, RestoreOrder) or not work.roles:
        return inspected
    async with workspace.watched(AccessClient(workspace.weaviate.host, workspace.weaviate.raft_port)) as client:
        return inspected.model_copy(update={"roles_enabled": await client.role_names() is not None})


async def _with_space_of_others(workspace: Workspace, inspected: Inspected) -> Inspected:
    """What dead operations take is free once DOWNLOAD has swept."""
    async with workspace.watched(RaftClient(workspace.weaviate.host, workspace.weaviate.raft_port)) as raft:
        collections = await raft.class_names()
    missing_bytes = inspected.bytes_required - inspected.bytes_free
    freed_bytes = await in_thread(space_of_others, workspace, missing_bytes, collections)
    return inspected.model_copy(update={"bytes_free": inspected.bytes_free + freed_bytes})


def _inspect(workspace: Workspace, meter: Meter) -> Inspected:
    store = workspace.open_store()
    store.check()
    reader = BackupReader(store, workspace.backup_id)
    contents = read_contents_of(reader, meter)
    if workspace.order.location.verify is not None:
        contents = _with_signature(contents, reader, workspace.order.location.verify)
    work = workspace.order.work
    if not isinstance(work, RestoreOrder):
        return Inspected(contents=contents, bytes_required=0, bytes_free=0)
    required, problems = 0, list[Failure]()
    if work.source_node is not None:
        try:
            wanted = wanted_files(reader, work.source_node, contents.collections)
            required, problems = _look_at_objects(store, work.source_node, wanted)
        except Permanent as error:
            problems = [failure_of(error)]
    return Inspected(
        contents=contents,
        bytes_required=required,
        bytes_free=workspace.free_bytes(),
        directories_in_the_way=not_swept(workspace, contents.collections),
        problems=tuple(problems),
    )


def read_contents_of(reader: BackupReader, meter: Meter) -> BackupContents:
    """The backup as a whole, and what is wrong with its documents."""
    config = reader.config
    problems = [_problem(found) for found in judge_config(config, backup_id=reader.backup_id)]
    problems += _judge_bases(reader)
    leader = ""
    try:
        leader = reader.leader
    except Permanent as error:
        problems.append(failure_of(error))
    aliases: dict[str, str] = {}
    states: dict[str, Mapping[str, Any]] = {}
    access, roles, users, assignments = AccessCounts(), tuple[str, ...](), tuple[str, ...](), tuple[str, ...]()
    addresses: dict[str, tuple[str, list[str]]] = {}
    held: dict[str, dict[str, set[str]]] = {}
    for node in sorted({*config.nodes, leader} - {""}):
        meter.check()
        try:
            descriptor = reader.descriptor(node)
            problems += [_problem(found) for found in judge_node(descriptor, config=config, node=node)]
            held[node] = {each.name: set(each.shard_names) for each in descriptor.classes}
            if node != leader:
                continue
            problems += [_problem(found) for found in judge_leader(descriptor, config=config, node=node)]
            for each in descriptor.classes:
                restored = reader.restored_class(each.name)
                states[each.name] = restored.state
                aliases |= dict.fromkeys(restored.aliases, each.name)
                for setting, address in addresses_of(restored.class_json):
                    addresses.setdefault(address, (setting, []))[1].append(each.name)
            stored = Access(descriptor.rbac_backups, descriptor.user_backups)
            access, (roles, users), assignments = count_access(stored), names_of(stored), assignments_of(stored)
        except Permanent as error:
            problems.append(failure_of(error))
    sha256 = ""
    try:
        sha256 = reader.sha256
    except Permanent as error:
        problems.append(failure_of(error))
    lost, warnings = _shards_not_held(reader, states, held)
    nodes_of: dict[str, list[str]] = defaultdict(list)
    for node, collections in held.items():
        for name, shards in collections.items():
            if shards:
                nodes_of[name].append(node)
    return BackupContents(
        server_version=config.server_version,
        layout_version=config.version,
        status=config.status,
        leader=leader,
        nodes=tuple(sorted(config.nodes)),
        collections=config.collections,
        aliases=aliases,
        nodes_of_collections={name: tuple(nodes) for name, nodes in sorted(nodes_of.items())},
        verifiable=reader.manifest is not None,
        bytes_total=reader.manifest.source_bytes if reader.manifest else config.pre_compression_size_bytes,
        problems=tuple(dict.fromkeys((*problems, *lost))),
        warnings=tuple(warnings),
        access=access,
        addresses=tuple(
            ModuleAddress(address=address, setting=setting, collections=tuple(dict.fromkeys(names)))
            for address, (setting, names) in addresses.items()
        ),
        roles=roles[:NAMES_SHOWN],
        users=users[:NAMES_SHOWN],
        assignments=assignments[:NAMES_SHOWN],
        assignments_count=len(assignments),
        sha256=sha256,
        node_manifests={node: entry.manifest.sha256 for node, entry in reader.manifest.nodes.items()}
        if reader.manifest
        else {},
    )


def _with_signature(contents: BackupContents, reader: BackupReader, verify: Verification) -> BackupContents:
    """The backup, and what of its signature speaks against it."""
    try:
        judged = judge_signature(
            reader.signature,
            backup_id=reader.backup_id,
            manifest_sha256=reader.sha256 if reader.manifest else None,
            public_keys=verify.public_keys,
            required=verify.require_signed,
            what=PUBLIC_KEYS_FIELD,
        )
    except Permanent as error:
        return contents.model_copy(update={"problems": (*contents.problems, failure_of(error))})
    return contents.model_copy(
        update={
            "signed_by": judged.signed_by,
            "problems": (*contents.problems, *(_problem(each) for each in (judged.problem,) if each)),
            "warnings": (*contents.warnings, *(_problem(each) for each in (judged.warning,) if each)),
        }
    )


def _judge_bases(reader: BackupReader) -> Iterator[Failure]:
    """Every backup of the chain, each beside the one that builds on it."""
    try:
        child = reader.config
        for base in reader.bases:
            yield from (_problem(found) for found in judge_base(base.config, child=child, base_id=base.backup_id))
            child = base.config
    except Permanent as error:
        yield failure_of(error)


def _shards_not_held(
    reader: BackupReader, states: Mapping[str, Mapping[str, Any]], held: Mapping[str, Mapping[str, set[str]]]
) -> tuple[list[Failure], list[Failure]]:
    """What a server's backup lacks of what its sharding states name: defects, and what would come back empty.

    Servers before 1.35.17, 1.36.10 and 1.37 leave inactive tenants out without a word, and a tenant may be made while a
    backup runs. Our own backups were compared before they were completed.
    """
    if reader.manifest is not None:
        return [], []
    tenants, lost = list[Finding](), list[Failure]()
    for each in compare_shards(states, held):
        if states[each.subject.split("/")[0]].get("partitioningEnabled"):
            tenants.append(each)
        else:
            lost.append(_problem(Finding("BackupIncomplete", each.subject, each.message)))
    warnings = [_problem(Finding("NotVerifiable", "", NOT_VERIFIABLE))]
    if tenants:
        message = f"{len(tenants)} tenants are not in the backup and come back empty: {summarize(tenants)}"
        warnings.append(_problem(Finding("TenantsMissing", "", message)))
    return lost[:PROBLEM_LIMIT], warnings


def _look_at_objects(store: ObjectStore, node: str, wanted: Wanted) -> tuple[int, list[Failure]]:
    """Bytes this node will need, and the chunks that are not in the store."""
    objects = wanted.objects
    backup_ids = sorted({key.partition("/")[0] for key in objects})
    listed = dict[str, int]()
    for backup_id in backup_ids:
        listed |= sizes_of(store, folder_of(backup_id, node))
    missing = sorted(key for key in objects if key not in listed)
    problems = []
    if missing:
        message = f"{len(missing)} of {len(objects)} objects are missing, first {missing[0]}"
        problems.append(_problem(Finding("BackupIncomplete", missing[0], message)))
    stored = sum(listed.get(key, 0) for key in objects)
    return max(stored, wanted.source_bytes), problems


def _problem(found: Finding) -> Failure:
    return Failure(reason=found.reason, message=found.message, transient=False)
