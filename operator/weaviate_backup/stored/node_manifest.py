"""Reads a node's manifest from the store, line by line: what it says of the node as a whole, and of each chunk.

Whoever reads lines holds one of them. Who it is that wrote them is known at the end alone, when the hash of all is: a
reader uses nothing for good before.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from weaviate_backup.answers import document_bounds, memory_bytes
from weaviate_backup.errors import Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.chunk_reader import checked_path
from weaviate_backup.layout.manifests import (
    ChunkLine,
    Line,
    NodeHeader,
    ShardRecord,
    StoredDocument,
    read_node_manifest,
)
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.storing import READ_BLOCK_BYTES, too_large

SHARD_BYTES, CHUNK_BYTES = 600, 1200
"""Of memory, for what is held of each; their names count beside."""
MEMORY_SHARE = 4


@dataclass
class StoredCollection:
    """A node's part of it, without the names of files: there may be millions."""

    chunks: int = 0
    files: int = 0
    source_bytes: int = 0
    shards: set[str] = field(default_factory=set)
    """Those that the chunks have files of."""


@dataclass
class NodeContents:
    """What a node's manifest says. `chunks`: key -> size and SHA-256; `held`: collection -> shards, those that vanished
    during the cut included; `document`: the manifest itself."""

    header: NodeHeader
    document: StoredDocument
    chunks: dict[str, tuple[int, str]] = field(default_factory=dict)
    held: dict[str, set[str]] = field(default_factory=dict)
    collections: dict[str, StoredCollection] = field(default_factory=dict)

    @property
    def source_bytes(self) -> int:
        return sum(each.source_bytes for each in self.collections.values())

    @property
    def expected(self) -> dict[str, int]:
        """Key -> size of every object of the node."""
        backup_id, node = self.header.backup_id, self.header.node
        return {
            **{key: size for key, (size, _) in self.hashed.items()},
            keys.node_descriptor(backup_id, node): self.header.descriptor.size_bytes,
            keys.node_manifest(backup_id, node): self.document.size_bytes,
        }

    @property
    def hashed(self) -> dict[str, tuple[int, str]]:
        """Key -> size and SHA-256 of every object that is checked by this manifest alone: the chunks, and the schema
        if the node stored it."""
        survey = self.header.survey
        if survey is None:
            return self.chunks
        key = keys.schema(self.header.backup_id, self.header.node)
        return {**self.chunks, key: (survey.size_bytes, survey.sha256)}


class HashingReader(io.RawIOBase):
    """What is read of a stream, counted and hashed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        block = self._stream.read(size)
        self._digest.update(block)
        self.size_bytes += len(block)
        return block

    def read_rest(self) -> StoredDocument:
        """To its end; what all of it was."""
        while self.read(READ_BLOCK_BYTES):
            pass
        return StoredDocument(size_bytes=self.size_bytes, sha256=self._digest.hexdigest())


class ManifestReader:
    """One node's manifest in a store."""

    def __init__(self, store: ObjectStore, backup_id: str, node: str) -> None:
        self._store = store
        self.backup_id = backup_id
        self.node = node
        self.key = keys.node_manifest(backup_id, node)
        self.document: StoredDocument | None = None
        """What was read, once it was read to its end, or to what is wrong in it."""

    def lines(self) -> Iterator[Line]:
        """The header first. Raises what `read_node_manifest` raises, and `ObjectNotFound`."""
        self.document = None
        with self._store.open(self.key) as stream:
            hashing = HashingReader(stream)
            try:
                yield from read_node_manifest(cast(BinaryIO, hashing), key=self.key, line_bounds=document_bounds())
            except Permanent:  # whether it is what was written says more than what is wrong in it
                self.document = hashing.read_rest()
                raise
            self.document = hashing.read_rest()

    def chunk_key(self, line: ChunkLine) -> str:
        return keys.chunk(self.backup_id, self.node, line.collection, line.number)

    def contents(self) -> NodeContents:
        """All of it in short. Raises `HostileBackup` for files that are nowhere in a data root, `DocumentTooLarge`."""
        contents: NodeContents | None = None
        left_bytes = memory_bytes() // MEMORY_SHARE
        for line in self.lines():
            match line:
                case NodeHeader():
                    contents = NodeContents(line, StoredDocument(size_bytes=0, sha256=""))
                case ShardRecord():
                    assert contents is not None
                    contents.held.setdefault(line.collection, set()).add(line.shard)
                    left_bytes -= SHARD_BYTES + len(line.shard)
                case ChunkLine():
                    assert contents is not None
                    left_bytes -= CHUNK_BYTES + self._add_chunk(contents, line)
            if left_bytes < 0:
                raise too_large(self.key, "it names more shards and chunks than that")
        assert contents is not None and self.document is not None  # else it raised
        contents.document = self.document
        return contents

    def _add_chunk(self, contents: NodeContents, line: ChunkLine) -> int:
        """What the names of new shards take, in bytes."""
        contents.chunks[self.chunk_key(line)] = (line.size_bytes, line.sha256)
        part = contents.collections.setdefault(line.collection, StoredCollection())
        part.chunks += 1
        taken_bytes = 0
        for path, offset, length, _ in line.files:
            shard = checked_path(path, line.collection).split("/", 2)[1]
            if shard not in part.shards:
                part.shards.add(shard)
                taken_bytes += SHARD_BYTES + len(shard)
            part.files += offset == 0
            part.source_bytes += length
        return taken_bytes
