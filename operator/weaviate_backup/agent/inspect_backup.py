"""INSPECT: what a backup holds, and what this node's disk says to it. Reads only.

Works for stock backups, too; those without our manifests are told apart as not verifiable. What is wrong is a finding
in the result, so that all of it is told at once; only a backup that cannot be found or read at all fails the step.
"""

import json
from collections import defaultdict
from collections.abc import Iterator

from weaviate_backup.agent.backup_reading import BackupReader, WantedFiles, aliases_of
from weaviate_backup.agent.download import free_bytes
from weaviate_backup.agent.meter import Meter
from weaviate_backup.agent.place import directories_in_the_way
from weaviate_backup.agent.runner import failure_of
from weaviate_backup.agent.storing import prefix_of
from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import BackupContents, Failure, Inspected, RestoreOrder, StepCommand
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.descriptors import STRUCTURE_VERSION
from weaviate_backup.storage.object_store import ObjectStore


async def inspect(workspace: Workspace, _: StepCommand, meter: Meter) -> Inspected:
    """The step."""
    return await in_thread(_inspect, workspace, meter)


def _inspect(workspace: Workspace, meter: Meter) -> Inspected:
    store = workspace.open_store()
    store.check()
    reader = BackupReader(store, workspace.backup_id)
    contents = read_contents_of(reader, meter)
    work = workspace.order.work
    if not isinstance(work, RestoreOrder):
        return Inspected(contents=contents, bytes_required=0, bytes_free=0)
    required, problems = 0, list[Failure]()
    if work.source_node is not None:
        try:
            wanted = reader.wanted_files(work.source_node, contents.collections)
            required, problems = _look_at_objects(store, workspace.backup_id, work.source_node, wanted)
        except Permanent as error:
            problems = [failure_of(error)]
    return Inspected(
        contents=contents,
        bytes_required=required,
        bytes_free=free_bytes(workspace.data_path),
        directories_in_the_way=directories_in_the_way(workspace.data_path, contents.collections),
        problems=tuple(problems),
    )


def read_contents_of(reader: BackupReader, meter: Meter) -> BackupContents:
    """The backup as a whole, and what is wrong with its documents."""
    config = reader.config
    problems = list(_judge(reader))
    aliases: dict[str, str] = {}
    nodes_of: dict[str, list[str]] = defaultdict(list)
    for node in sorted(config.nodes):
        meter.check()
        try:
            for each in reader.descriptor(node).classes:
                if each.shards:
                    nodes_of[each.name].append(node)
                if node == reader.leader:
                    json.loads(each.class_json), json.loads(each.sharding_state)
                    aliases |= dict.fromkeys(aliases_of(each), each.name)
        except Permanent as error:
            problems.append(failure_of(error))
        except ValueError:
            problems.append(_problem("HostileBackup", f"the descriptor of {node} holds a schema that is not JSON"))
    return BackupContents(
        server_version=config.server_version,
        layout_version=config.version,
        status=config.status,
        leader=reader.leader,
        nodes=tuple(sorted(config.nodes)),
        collections=config.collections,
        aliases=aliases,
        nodes_of_collections={name: tuple(nodes) for name, nodes in sorted(nodes_of.items())},
        verifiable=reader.manifest is not None,
        bytes_total=reader.manifest.source_bytes if reader.manifest else config.pre_compression_size_bytes,
        problems=tuple(problems),
    )


def _judge(reader: BackupReader) -> Iterator[Failure]:
    config = reader.config
    if not config.nodes:
        yield _problem("BackupIncomplete", "the backup names no node")
    if config.error:
        yield _problem("BackupNotSuccessful", f"the backup says of itself: {config.error[:200]}")
    if config.version.partition(".")[0] > STRUCTURE_VERSION.partition(".")[0]:
        yield _problem("FormatTooNew", f"the backup has structure {config.version}, this version reads 2")
    if config.base_backup_id:
        yield _problem("IncrementalBackup", f"the backup builds on {config.base_backup_id}; use Weaviate's own restore")


def _look_at_objects(
    store: ObjectStore, backup_id: str, node: str, wanted: dict[str, WantedFiles]
) -> tuple[int, list[Failure]]:
    """Bytes this node will need, and the chunks that are not in the store."""
    listed = {each.key: each.size_bytes for each in store.list(f"{prefix_of(backup_id)}{node}/")}
    chunks = [chunk for files in wanted.values() for chunk in files.chunks]
    missing = sorted(chunk.key for chunk in chunks if chunk.key not in listed)
    problems = []
    if missing:
        message = f"{len(missing)} of {len(chunks)} objects are missing, first {missing[0]}"
        problems.append(_problem("BackupIncomplete", message))
    stored = sum(listed.get(chunk.key, 0) for chunk in chunks)
    return max(stored, sum(files.total_bytes for files in wanted.values())), problems


def _problem(reason: str, message: str) -> Failure:
    return Failure(reason=reason, message=message, transient=False)
