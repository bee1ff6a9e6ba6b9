"""DOWNLOAD: bring the files of this node's shards into the operation's own directory, every byte checked.

Chunks come in parallel and are unpacked as they stream (`chunk_receiver`). What came is compared with what must come,
so that a backup without our manifests is checked as far as its own descriptor goes. Repeating the step fetches only
what is not journaled.
"""

import logging
from collections.abc import Sequence
from pathlib import PurePosixPath

from weaviate_backup.agent.chunk_receiver import ChunkReceiver
from weaviate_backup.agent.durability import boot_id
from weaviate_backup.agent.judged import judged_backup
from weaviate_backup.agent.place import refuse_in_the_way
from weaviate_backup.agent.release import sweep
from weaviate_backup.agent.tasks import in_thread
from weaviate_backup.agent.wanted_files import WantedChunk, WantedFiles, wanted_files
from weaviate_backup.agent.workspace import RESTORE, Workspace
from weaviate_backup.beneath import Held, Place
from weaviate_backup.core.session import StepCommand
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.sharding_state import OFFLOADED, nodes_of
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.parallel import each_in_parallel
from weaviate_backup.weaviate.raft import RaftClient

log = logging.getLogger(__name__)


async def download(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    """The step."""
    if workspace.journal.last("downloaded") is not None:
        return
    endpoint = workspace.weaviate
    async with RaftClient(endpoint.host, endpoint.raft_port) as raft:
        await sweep(workspace, raft)
    await in_thread(_download, workspace, command, meter)


def _download(workspace: Workspace, command: StepCommand, meter: Meter) -> None:
    source, collections = workspace.restore.source_node, command.collections
    unnamed: dict[str, list[str]] = {}
    if source is not None:
        store, reader = workspace.open_store(), judged_backup(workspace, command)
        wanted = wanted_files(reader, source, collections)
        for name in collections:
            refuse_in_the_way(workspace.data_root, name)
        chunks = [chunk for files in wanted.values() for chunk in files.chunks]
        meter.expect(
            bytes_total=sum(files.total_bytes for files in wanted.values()),
            files_total=sum(len(files.names) for files in wanted.values()),
        )
        free_inodes = workspace.data_root.free_files() // 2  # Weaviate makes files, too
        already = _there(workspace.directory / RESTORE)
        refuse_without_space(workspace.data_root, wanted, already=already, free_inodes=free_inodes)
        receiver = ChunkReceiver(
            store, workspace.directory / RESTORE, meter,
            limit_bytes=workspace.data_root.free_bytes(), limit_inodes=free_inodes,
        )  # fmt: skip
        _receive_all(workspace, receiver, chunks, meter)
        for name, files in wanted.items():
            check_complete(workspace.directory / RESTORE / name, name, files)
        workspace.directory.sync_file_system()
        unnamed = {name: unnamed_shards(reader, source, name, files) for name, files in wanted.items()}
    workspace.journal.append("downloaded", collections=list(collections), unnamed=unnamed)


def _receive_all(workspace: Workspace, receiver: ChunkReceiver, chunks: Sequence[WantedChunk], meter: Meter) -> None:
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

    each_in_parallel(receive, chunks, meter, streams=workspace.streams)


def unnamed_shards(reader: BackupReader, source: str, collection: str, wanted: WantedFiles) -> list[str]:
    """Shards that the node holds, and that the restored sharding state does not place on it."""
    physical = reader.restored_class(collection).state.get("physical") or {}
    named = {
        name for name, shard in physical.items() if source in nodes_of(shard) and shard.get("status", "") != OFFLOADED
    }
    held = {PurePosixPath(path).parts[1] for path in wanted.names}
    return sorted(held - named)


def check_complete(directory: Place, collection: str, wanted: WantedFiles) -> None:
    """Every file that the backup says it holds is there, with its size where that is known."""
    with Held() as held:
        for name in wanted.names:
            try:
                size_bytes = held.stat(directory / name).st_size
            except FileNotFoundError as error:
                raise Permanent("BackupIncomplete", f"the chunks of {collection} hold no {name}") from error
            expected = wanted.sizes.get(name)
            if expected is not None and size_bytes != expected:
                raise Permanent("BackupIncomplete", f"{name} has {size_bytes} bytes instead of {expected}")


def refuse_without_space(
    data_root: Place, wanted: dict[str, WantedFiles], *, already: tuple[int, int], free_inodes: int
) -> None:
    """`already`: files and bytes that came before. Folders are counted when they are made."""
    files_there, bytes_there = already
    required = sum(files.total_bytes for files in wanted.values()) - bytes_there
    free = data_root.free_bytes()
    if required > free:
        raise Permanent(
            "NotEnoughSpace", f"{required} bytes are needed on the data volume, {free} are free; enlarge it"
        )
    named = sum(len(files.names) for files in wanted.values()) - files_there
    if named > free_inodes:
        message = f"{named} files are to come to the data volume, half of its free inodes are {free_inodes}; enlarge it"
        raise Permanent("NotEnoughSpace", message)


def _there(directory: Place) -> tuple[int, int]:
    """Files and bytes."""
    files, size_bytes = 0, 0
    for _, status in directory.files() if directory.is_directory() else ():
        files, size_bytes = files + 1, size_bytes + status.st_size
    return files, size_bytes
