"""DOWNLOAD: bring the files of this node's shards into the operation's own directory, every byte checked.

Chunks come in parallel and are unpacked as they stream (`chunk_receiver`). What came is compared with what must come,
so that a backup without our manifests is checked as far as its own descriptor goes. Repeating the step fetches only
what is not journaled.
"""

import logging
from collections.abc import Collection

from weaviate_backup.agent.brought import tell_what_came
from weaviate_backup.agent.chunk_receiver import ChunkReceiver
from weaviate_backup.agent.durability import boot_id
from weaviate_backup.agent.in_the_way import not_swept, refuse_in_the_way, space_of_others
from weaviate_backup.agent.judged import judged_backup
from weaviate_backup.agent.release import sweep
from weaviate_backup.agent.wanted_files import Wanted, WantedChunk, wanted_files
from weaviate_backup.agent.workspace import RESTORE, Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import BELOW_READ_ONLY, StepCommand
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.sharding_state import OFFLOADED, nodes_of
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.parallel import each_in_parallel
from weaviate_backup.tasks import in_thread
from weaviate_backup.weaviate.raft import RaftClient

log = logging.getLogger(__name__)


async def download(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    """The step."""
    if workspace.journal.last("downloaded") is not None:
        return
    await in_thread(not_swept, workspace, command.collections)  # raises, when there is something to wait for
    endpoint = workspace.weaviate
    async with workspace.watched(RaftClient(endpoint.host, endpoint.raft_port)) as raft:
        await sweep(workspace, raft)
    await in_thread(_download, workspace, command, meter)


def _download(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    source, collections = workspace.restore.source_node, command.collections
    if source is not None:
        store, reader = workspace.open_store(), judged_backup(workspace, command)
        wanted = wanted_files(reader, source, collections)
        refuse_in_the_way(workspace, collections)
        meter.expect(bytes_total=wanted.source_bytes, files_total=wanted.files)
        free_inodes = workspace.data_root.free_files() // 2  # Weaviate makes files, too
        already = _there(workspace.directory / RESTORE)
        try:
            refuse_without_space(wanted, already=already, free_bytes=workspace.free_bytes(), free_inodes=free_inodes)
        except Permanent:
            missing_bytes = wanted.source_bytes - already[1] - workspace.free_bytes()
            space_of_others(workspace, missing_bytes, None)  # raises, when there is something to wait for
            raise
        receiver = ChunkReceiver(
            store, workspace.directory / RESTORE, meter,
            limit_bytes=workspace.free_bytes(), limit_inodes=free_inodes,
        )  # fmt: skip
        _receive_all(workspace, receiver, wanted, meter)
        wanted.check_complete(workspace.directory / RESTORE)
        unnamed = {name: unnamed_shards(reader, source, name, wanted.shards_of(name)) for name in collections}
        tell_what_came(workspace, collections, unnamed)
        workspace.directory.sync_file_system()
    workspace.journal.append("downloaded", collections=list(collections), counted=True)


def _receive_all(workspace: Workspace, receiver: ChunkReceiver, wanted: Wanted, meter: Meter) -> None:
    """The first failure stops the others."""
    boot = boot_id()
    there = {
        (record.get("key"), record.get("only"))
        for record in workspace.journal.of("fetched")
        if boot and record["boot"] == boot
    }

    def receive(chunk: WantedChunk) -> None:
        meter.check()
        if (chunk.key, chunk.only) in there:
            meter.add(bytes_done=chunk.source_bytes, bytes_reused=chunk.source_bytes)
            return
        receiver.receive(chunk)
        workspace.journal.append("fetched", sync=False, key=chunk.key, only=chunk.only, boot=boot)

    each_in_parallel(receive, wanted.chunks(), meter, streams=workspace.streams)


def unnamed_shards(reader: BackupReader, source: str, collection: str, held: Collection[str]) -> list[str]:
    """Those of the shards that the node holds that the restored sharding state does not place on it."""
    physical = reader.restored_class(collection).state.get("physical") or {}
    named = {
        name for name, shard in physical.items() if source in nodes_of(shard) and shard.get("status", "") != OFFLOADED
    }
    return sorted(set(held) - named)


def refuse_without_space(wanted: Wanted, *, already: tuple[int, int], free_bytes: int, free_inodes: int) -> None:
    """`already`: files and bytes that came before. Folders are counted when they are made."""
    files_there, bytes_there = already
    required = wanted.source_bytes - bytes_there
    if required > free_bytes:
        message = f"{required} bytes are needed on the data volume, {free_bytes} are free {BELOW_READ_ONLY}"
        raise Permanent("NotEnoughSpace", f"{message}; enlarge it")
    named = wanted.files - files_there
    if named > free_inodes:
        message = f"{named} files are to come to the data volume, half of its free inodes are {free_inodes}; enlarge it"
        raise Permanent("NotEnoughSpace", message)


def _there(directory: Place) -> tuple[int, int]:
    """Files and bytes."""
    files, size_bytes = 0, 0
    for _, status in directory.files() if directory.is_directory() else ():
        files, size_bytes = files + 1, size_bytes + status.st_size
    return files, size_bytes
