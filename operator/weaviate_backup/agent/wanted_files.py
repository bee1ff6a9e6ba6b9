"""What must be fetched to have a node's part of some collections: by our manifest, else by the server's descriptors.

An incremental backup of a server leaves out big files that did not change; its descriptor says in which older backup,
and in which chunks there, each of them lies. Only that file is taken from such a chunk.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from weaviate_backup.answers import memory_bytes
from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout import keys
from weaviate_backup.layout.chunk_reader import checked_path
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.descriptors import ClassDescriptor, FileInBase, ShardDescriptor
from weaviate_backup.layout.manifests import ChunkLine
from weaviate_backup.layout.packing import FIRST_FILES
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.storing import too_large

FILE_BYTES = 1800
"""Of memory: what a file takes in here, by its manifest 600 bytes, and three times that for the rest of a restore. The
length of its name counts beside."""
CHUNK_KEY = re.compile(r"(?P<collection>[^/]+)/chunk-(?P<number>[0-9]{1,10})")


@dataclass(frozen=True)
class WantedChunk:
    """One object to fetch. `parts`: (path, offset) -> SHA-256, None when the backup does not tell.

    `only`: the one file to take from it; None: all that is in it. `is_named` tells whether a path may be in it, where
    something does; `limit_entries` bounds how many there are.
    """

    collection: str
    key: str
    compression: CompressionType
    source_bytes: int = 0
    parts: dict[tuple[str, int], str] | None = None
    only: str | None = None
    is_named: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)
    limit_entries: int | None = None


@dataclass
class WantedFiles:
    """What a node's part of a collection consists of. `sizes` of the files whose size the backup tells."""

    chunks: list[WantedChunk] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    total_bytes: int = 0
    shards: set[str] = field(default_factory=set)
    """Of a server's backup."""

    def is_named(self, path: str) -> bool:
        """Whether a server's descriptor tells of the file: three of a shard's files it never lists, all others."""
        _, shard, name = path.split("/", 2)
        return path in self.names or (shard in self.shards and name in FIRST_FILES)


def entries_beyond(named: int) -> int:
    """As many as a chunk of a server's backup may have: folders and parts of files are entries, too."""
    return 2 * named + 10_000


def wanted_files(reader: BackupReader, node: str, collections: Iterable[str]) -> dict[str, WantedFiles]:
    """By collection. One that the node does not hold wants nothing."""
    if node not in reader.config.nodes:
        raise Permanent("NodeNotFound", f"backup {reader.backup_id!r} has no node {node!r}")
    wanted = {name: WantedFiles() for name in collections}
    if reader.manifest is not None:
        _want_by_manifest(reader, node, wanted)
        return wanted
    for name, files in wanted.items():
        descriptor = reader.descriptor(node).collection(name)
        if descriptor is not None and descriptor.shards:
            _want_by_descriptor(reader, node, descriptor, files)
    return wanted


def _want_by_manifest(reader: BackupReader, node: str, wanted: dict[str, WantedFiles]) -> None:
    compression = reader.descriptor(node).compression_type
    left_bytes = memory_bytes()
    for line in reader.manifest_lines(node):
        if not isinstance(line, ChunkLine) or line.collection not in wanted:
            continue
        left_bytes -= FILE_BYTES + sum(FILE_BYTES + len(path) for path, _, _, _ in line.files)
        if left_bytes < 0:
            message = f"more than {memory_bytes() // FILE_BYTES} files, or fewer with long names"
            raise too_large(f"the manifest of {node}", message)
        files = wanted[line.collection]
        source_bytes = 0
        for path, offset, length, _ in line.files:
            checked_path(path, line.collection)
            files.names.add(path)
            files.sizes[path] = max(files.sizes.get(path, 0), offset + length)
            source_bytes += length
        files.total_bytes += source_bytes
        parts = {(path, offset): sha256 for path, offset, _, sha256 in line.files}
        key = keys.chunk(reader.backup_id, node, line.collection, line.number)
        files.chunks.append(
            WantedChunk(
                line.collection, key, compression, source_bytes=source_bytes, parts=parts, limit_entries=len(parts)
            )
        )


def _want_by_descriptor(reader: BackupReader, node: str, descriptor: ClassDescriptor, files: WantedFiles) -> None:
    compression = reader.descriptor(node).compression_type
    files.total_bytes = descriptor.pre_compression_size_bytes
    for shard in descriptor.shards:
        files.shards.add(shard.name)
        files.names.update(checked_path(name, descriptor.name) for name in (*shard.files, *shard.big_files))
        files.sizes |= {name: big.size for name, big in shard.big_files.items()}
    limit = entries_beyond(len(files.names))
    for number in descriptor.chunk_numbers:
        key = keys.chunk(reader.backup_id, node, descriptor.name, number)
        chunk = WantedChunk(descriptor.name, key, compression, is_named=files.is_named, limit_entries=limit)
        files.chunks.append(chunk)
    for shard in descriptor.shards:
        _want_from_bases(reader, node, descriptor, shard, files)


def _want_from_bases(
    reader: BackupReader, node: str, descriptor: ClassDescriptor, shard: ShardDescriptor, files: WantedFiles
) -> None:
    """Every file that the shard left to an older backup, with the size it had there."""
    for base_id, reused in sorted(shard.incremental.files_per_backup.items()):
        base = next((each for each in reader.bases if each.backup_id == base_id), None)
        if base is None:
            message = f"{descriptor.name}/{shard.name} on {node} lies partly in backup {base_id!r}"
            raise Permanent("BaseUnusable", f"{message}, on which backup {reader.backup_id!r} does not build")
        held = _shard_in_base(base, node, descriptor.name, shard.name)
        for each in reused:
            path = checked_path(each.file, descriptor.name)
            stored = held.big_files.get(path)
            if stored is None or set(stored.chunk_keys) != set(each.chunk_keys) or not each.chunk_keys:
                where = f"backup {base_id!r}, which does not hold it in {', '.join(each.chunk_keys[:3]) or 'any chunk'}"
                raise Permanent("BaseUnusable", f"{path} on {node} is to come from {where}; the base was made again")
            files.names.add(path)
            files.sizes[path] = stored.size
            files.total_bytes += stored.size
            limit = entries_beyond(len(held.files))
            files.chunks.extend(_chunks_in_base(base, node, descriptor.name, each, limit))


def _shard_in_base(base: BackupReader, node: str, collection: str, shard: str) -> ShardDescriptor:
    descriptor = base.descriptor(node).collection(collection)
    found = next((each for each in descriptor.shards if each.name == shard), None) if descriptor else None
    if found is None:
        message = f"backup {base.backup_id!r} is to hold files of {collection}/{shard} on {node}, but does not"
        raise Permanent("BaseUnusable", message)
    return found


def _chunks_in_base(
    base: BackupReader, node: str, collection: str, reused: FileInBase, limit: int
) -> Iterable[WantedChunk]:
    compression = base.descriptor(node).compression_type
    for chunk_key in reused.chunk_keys:
        match = CHUNK_KEY.fullmatch(chunk_key)
        if match is None or match["collection"] != collection:
            raise Permanent(
                "HostileBackup", f"{reused.file} is to come from {excerpt(chunk_key, 80)!r}, no chunk of it"
            )
        key = keys.chunk(base.backup_id, node, collection, int(match["number"]))
        yield WantedChunk(collection, key, compression, only=reused.file, limit_entries=limit)
