"""What must be fetched to have a node's part of some collections: by our manifest, else by the server's descriptors.

Our manifest is read again each time it is needed, chunk by chunk: a node may have millions of files. An incremental
backup of a server leaves out big files that did not change; its descriptor says in which older backup, and in which
chunks there, each of them lies. Only that file is taken from such a chunk.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

from weaviate_backup.beneath import Held, Place
from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout import keys
from weaviate_backup.layout.chunk_reader import checked_path
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.descriptors import ClassDescriptor, FileInBase, ShardDescriptor
from weaviate_backup.layout.packing import FIRST_FILES
from weaviate_backup.stored.backup_reading import BackupReader

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


class Wanted(Protocol):
    """A node's part of some collections."""

    @property
    def files(self) -> int:
        """How many there are."""
        ...

    @property
    def source_bytes(self) -> int:
        """Of all of them, as far as the backup tells."""
        ...

    @property
    def objects(self) -> Collection[str]:
        """Keys of what is fetched."""
        ...

    def shards_of(self, collection: str) -> Collection[str]:
        """Those that there are files of."""
        ...

    def chunks(self) -> Iterator[WantedChunk]:
        """Each as it is to be fetched, read as it is needed."""
        ...

    def check_complete(self, directory: Place) -> None:
        """Whether all that came lies in `directory/<Class>`. Raises `BackupIncomplete`."""
        ...


def wanted_files(reader: BackupReader, node: str, collections: Iterable[str]) -> Wanted:
    """A collection that the node does not hold wants nothing. Raises `NodeNotFound`, and what its documents' readers
    raise."""
    if node not in reader.config.nodes:
        raise Permanent("NodeNotFound", f"backup {reader.backup_id!r} has no node {node!r}")
    names = tuple(dict.fromkeys(collections))
    return described_files(reader, node, names) if reader.manifest is None else _ByManifest(reader, node, names)


class _ByManifest:
    """Of our own backup: every part has a checksum, and the manifest one, too."""

    def __init__(self, reader: BackupReader, node: str, collections: tuple[str, ...]) -> None:
        self._reader = reader
        self._node = node
        self._compression = reader.descriptor(node).compression_type
        held = reader.contents(node).collections
        self._parts = {name: held[name] for name in collections if name in held}
        self.files = sum(each.files for each in self._parts.values())
        self.source_bytes = sum(each.source_bytes for each in self._parts.values())

    @property
    def objects(self) -> Collection[str]:
        folders = tuple(f"{self._reader.backup_id}/{self._node}/{name}/" for name in self._parts)
        return [key for key in self._reader.contents(self._node).chunks if key.startswith(folders)]

    def shards_of(self, collection: str) -> Collection[str]:
        part = self._parts.get(collection)
        return part.shards if part else ()

    def chunks(self) -> Iterator[WantedChunk]:
        for line in self._reader.chunk_lines(self._node):
            if line.collection not in self._parts:
                continue
            parts = {(checked_path(path, line.collection), offset): sha256 for path, offset, _, sha256 in line.files}
            key = keys.chunk(self._reader.backup_id, self._node, line.collection, line.number)
            yield WantedChunk(
                line.collection,
                key,
                self._compression,
                source_bytes=sum(length for _, _, length, _ in line.files),
                parts=parts,
                limit_entries=len(parts),
            )

    def check_complete(self, directory: Place) -> None:
        """Each part was compared when it came, so that what is left to know is that no file is shorter or longer than
        its parts, and that there are no others."""
        with Held() as held:
            for line in self._reader.chunk_lines(self._node):
                for path, offset, length, _ in line.files if line.collection in self._parts else ():
                    size_bytes = _size_of(held, directory / line.collection, path, line.collection)
                    if size_bytes < offset + length:
                        raise _incomplete(path, size_bytes, offset + length)
        for name, part in self._parts.items():
            files, source_bytes = 0, 0
            for _, status in (directory / name).files():
                files, source_bytes = files + 1, source_bytes + status.st_size
            if (files, source_bytes) != (part.files, part.source_bytes):
                message = f"{files} files of {source_bytes} bytes came of {name}"
                raise Permanent("BackupIncomplete", f"{message} instead of {part.files} of {part.source_bytes}")


@dataclass
class DescribedCollection:
    """What a node's part of a collection consists of, by a server's descriptors. `sizes` of the files whose size the
    backup tells."""

    chunks: list[WantedChunk] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    source_bytes: int = 0
    shards: set[str] = field(default_factory=set)

    def is_named(self, path: str) -> bool:
        """Whether a server's descriptor tells of the file: three of a shard's files it never lists, all others."""
        _, shard, name = path.split("/", 2)
        return path in self.names or (shard in self.shards and name in FIRST_FILES)


@dataclass(frozen=True)
class DescribedFiles:
    """Of a backup that a server made: in memory, as its descriptors are."""

    collections: Mapping[str, DescribedCollection]

    @property
    def files(self) -> int:
        return sum(len(each.names) for each in self.collections.values())

    @property
    def source_bytes(self) -> int:
        return sum(each.source_bytes for each in self.collections.values())

    @property
    def objects(self) -> Collection[str]:
        return [chunk.key for chunk in self.chunks()]

    def shards_of(self, collection: str) -> Collection[str]:
        return {PurePosixPath(path).parts[1] for path in self.collections[collection].names}

    def chunks(self) -> Iterator[WantedChunk]:
        for each in self.collections.values():
            yield from each.chunks

    def check_complete(self, directory: Place) -> None:
        with Held() as held:
            for name, described in self.collections.items():
                for path in described.names:
                    size_bytes, expected = _size_of(held, directory / name, path, name), described.sizes.get(path)
                    if expected is not None and size_bytes != expected:
                        raise _incomplete(path, size_bytes, expected)


def _size_of(held: Held, directory: Place, path: str, collection: str) -> int:
    try:
        return held.stat(directory / path).st_size
    except FileNotFoundError as error:
        raise Permanent("BackupIncomplete", f"the chunks of {collection} hold no {path}") from error


def _incomplete(path: str, size_bytes: int, expected_bytes: int) -> Permanent:
    return Permanent("BackupIncomplete", f"{path} has {size_bytes} bytes instead of {expected_bytes}")


def entries_beyond(named: int) -> int:
    """As many as a chunk of a server's backup may have: folders and parts of files are entries, too."""
    return 2 * named + 10_000


def described_files(reader: BackupReader, node: str, collections: Iterable[str]) -> DescribedFiles:
    """By the descriptors alone."""
    described = {name: DescribedCollection() for name in collections}
    for name, files in described.items():
        descriptor = reader.descriptor(node).collection(name)
        if descriptor is not None and descriptor.shards:
            _want_by_descriptor(reader, node, descriptor, files)
    return DescribedFiles(described)


def _want_by_descriptor(
    reader: BackupReader, node: str, descriptor: ClassDescriptor, files: DescribedCollection
) -> None:
    compression = reader.descriptor(node).compression_type
    files.source_bytes = descriptor.pre_compression_size_bytes
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
    reader: BackupReader, node: str, descriptor: ClassDescriptor, shard: ShardDescriptor, files: DescribedCollection
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
            files.source_bytes += stored.size
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
