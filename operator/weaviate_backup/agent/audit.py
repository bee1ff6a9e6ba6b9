"""VACANCY and AUDIT: what is looked at before and after a backup that Weaviate's own engine makes.

A server records no checksum of what it stores. So an audit proves what can be proven without: the documents agree, no
node, collection or shard is missing, every chunk is there, can be unpacked to its end (whose checksum, if the
compression has one, is compared), and holds every file that the descriptors name, big ones in their full size.
"""

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

from weaviate_backup.agent.chunk_receiver import CHUNK_REASONS
from weaviate_backup.agent.inspect_backup import read_contents_of
from weaviate_backup.agent.wanted_files import DescribedCollection, WantedChunk, described_files
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.api.status import WeaviateStatus
from weaviate_backup.core.session import Audited, BackupContents, StepCommand
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout import keys
from weaviate_backup.layout.chunk_reader import read_chunk
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.parallel import each_in_parallel
from weaviate_backup.stored.storing import lock_backup, prefix_of, sizes_of
from weaviate_backup.tasks import in_thread

PROBLEMS_SHOWN = 3


@dataclass
class Unpacked:
    """Bytes of every file of one node's part of one collection, summed over its parts."""

    wanted: DescribedCollection
    found: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, path: str, length_bytes: int) -> None:
        with self.lock:
            self.found[path] += length_bytes

    def problems(self, node: str) -> list[str]:
        lacking = sorted(self.wanted.names - self.found.keys())
        short = sorted(path for path, size in self.wanted.sizes.items() if self.found.get(path, size) != size)
        return [f"{path} of {node} is in no chunk" for path in lacking] + [
            f"{path} of {node} has {self.found[path]} bytes, not {self.wanted.sizes[path]}" for path in short
        ]


async def vacancy(workspace: Workspace, _: StepCommand, meter: Meter) -> None:
    """The step. `BackupExists` names the owner, or an object that is in the way."""
    await in_thread(_vacancy, workspace)


def _vacancy(workspace: Workspace) -> None:
    store = workspace.open_store()
    store.check()
    workspace.place_in(store).take()


async def audit(workspace: Workspace, command: StepCommand, meter: Meter) -> Audited:
    """The step. `VerificationFailed` names what is missing or damaged; `BackupUnfinished` may pass."""
    return await in_thread(_audit, workspace, command.collections, meter)


def _audit(workspace: Workspace, collections: tuple[str, ...], meter: Meter) -> Audited:
    store = workspace.open_store()
    reader = BackupReader(store, workspace.backup_id)
    if reader.manifest is not None:
        key = keys.manifest(workspace.backup_id)
        raise Permanent("VerificationFailed", f"{key} is there, which no server writes; find out who did")
    _refuse_unfinished(reader.config.status)
    contents = read_contents_of(reader, meter)
    problems = [f"{problem.reason}: {problem.message}" for problem in contents.problems]
    absent = sorted(set(collections) - set(contents.collections))
    if absent:
        problems.append(f"the backup holds nothing of {', '.join(absent[:10])}")
    _refuse(problems)
    listed = sizes_of(store, prefix_of(workspace.backup_id))
    files = _read_all(workspace, store, reader, contents, listed=listed, meter=meter)
    compressions = {reader.descriptor(node).compression_type for node in contents.nodes}
    return Audited(
        server_version=contents.server_version,
        nodes=contents.nodes,
        collections=contents.collections,
        objects=len(listed),
        bytes_stored=sum(listed.values()),
        bytes_total=contents.bytes_total,
        files=files,
        checksummed=CompressionType.NONE not in compressions,
        backup_sha256=reader.sha256,
        warnings=tuple(warning for warning in contents.warnings if warning.reason != "NotVerifiable"),
        locked_until=lock_backup(
            store,
            workspace.backup_id,
            days=workspace.order.location.lock_days,
            completed_at=datetime.now(UTC),  # the server's own times are whatever it, or somebody else, wrote
        ),
    )


def _read_all(
    workspace: Workspace,
    store: ObjectStore,
    reader: BackupReader,
    contents: BackupContents,
    *,
    listed: dict[str, int],
    meter: Meter,
) -> int:
    """Every chunk of every node to its end; how many files there were."""
    parts: list[tuple[str, Unpacked]] = []
    todo: list[tuple[WantedChunk, Unpacked]] = []
    for node in contents.nodes:
        for wanted in described_files(reader, node, contents.collections).collections.values():
            part = Unpacked(wanted)
            parts.append((node, part))
            todo.extend((chunk, part) for chunk in wanted.chunks)
    chunks = [chunk.key for chunk, _ in todo]
    _refuse([f"{key} is missing or empty" for key in chunks if not listed.get(key)])
    meter.expect(bytes_total=contents.bytes_total, files_total=sum(len(part.wanted.names) for _, part in parts))

    def unpack(item: tuple[WantedChunk, Unpacked]) -> None:
        try:
            _unpack(store, *item, meter)
        except Permanent as error:
            if error.reason not in CHUNK_REASONS:
                raise
            raise Permanent("VerificationFailed", f"{item[0].key}: {error.message}") from error

    each_in_parallel(unpack, todo, meter, streams=workspace.streams)
    _refuse([problem for node, part in parts for problem in part.problems(node)])
    return sum(len(part.found) for _, part in parts)


def _unpack(store: ObjectStore, chunk: WantedChunk, part: Unpacked, meter: Meter) -> None:
    with store.open(chunk.key) as stream:
        for entry in read_chunk(
            stream, compression=chunk.compression, collection=chunk.collection,
            limit_entries=chunk.limit_entries, is_named=chunk.is_named,
        ):  # fmt: skip
            for block in entry.blocks:
                meter.add(bytes_done=len(block))
            if chunk.only in (None, entry.path):
                part.add(entry.path, entry.length_bytes)


def _refuse_unfinished(status: str) -> None:
    """The server says SUCCESS to whoever asks a moment before it writes so."""
    if status == WeaviateStatus.SUCCESS:
        return
    if status in (WeaviateStatus.FAILED, WeaviateStatus.CANCELED):
        raise Permanent("VerificationFailed", f"the backup's status in the store is {status}, not SUCCESS")
    raise Transient("BackupUnfinished", f"the backup's status in the store is still {status}")


def _refuse(problems: list[str]) -> None:
    if problems:
        more = len(problems) - PROBLEMS_SHOWN
        said = "; ".join(problems[:PROBLEMS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise Permanent("VerificationFailed", said)
