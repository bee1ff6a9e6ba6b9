"""Our manifests, beside Weaviate's layout: they make verification, resuming and single-file extraction possible.

A node's manifest is zstd-compressed JSON lines, because a hundred thousand tenants have millions of files: first a
header (`NodeHeader`), then a line per shard, then a line per chunk with the files in it. The backup's manifest is one
small JSON document. Stock Weaviate ignores both. Formats carry a version; a reader ignores fields it does not know.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Annotated, BinaryIO, Literal

import zstandard
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout.chunk_writer import ChunkRecord, PartRecord
from weaviate_backup.layout.compression import CompressionType, gathered
from weaviate_backup.layout.descriptors import BackupConfig, Instant, Size
from weaviate_backup.layout.json_bounds import MORE_MEMORY, BeyondBounds, JsonBounds, TooDeep
from weaviate_backup.layout.packed_lines import packed_lines
from weaviate_backup.layout.plain_names import Name

FORMAT_VERSION = 1
FormatVersion = Annotated[int, Field(ge=1, le=1 << 20)]
MANIFEST_EFFORT = 3
LINE_BOUNDS = JsonBounds(64 << 20, 1_500_000)
"""A line tells of a chunk: of 128 MiB, that is 300,000 files at most."""


class Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredDocument(Document):
    """A small object that is checked like a chunk."""

    size_bytes: Size
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> "StoredDocument":
        return cls(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


class NodeHeader(Document):
    """The first line. `descriptor` is the node's `backup.json`, `survey` the schema by which all nodes froze, which the
    leader stores. Offloaded tenants are not covered by the backup."""

    kind: Literal["node"] = "node"
    format_version: FormatVersion = FORMAT_VERSION
    operation_uid: str
    tool_version: str
    backup_id: str
    node: Name
    server_version: str
    compression_type: CompressionType
    collections: tuple[Name, ...]
    descriptor: StoredDocument
    survey: StoredDocument | None = None
    tenants_offloaded: Size = 0


class ShardRecord(Document):
    """When and how a shard was cut. `object_count` as far as the server told."""

    kind: Literal["shard"] = "shard"
    collection: Name
    shard: Name
    driver: str
    started_at: Instant
    ended_at: Instant
    halt_seconds: Annotated[float, Field(allow_inf_nan=False)]
    object_count: Size | None = None


class ChunkLine(Document):
    """One stored chunk: its size and checksum, and every file in it."""

    kind: Literal["chunk"] = "chunk"
    collection: Name
    number: Size
    size_bytes: Size
    sha256: str
    files: tuple[tuple[str, Size, Size, str], ...]
    """path, offset, length in bytes, SHA-256"""

    @classmethod
    def of(cls, collection: str, record: ChunkRecord) -> "ChunkLine":
        files = tuple((part.path, part.offset, part.length_bytes, part.sha256) for part in record.parts)
        return cls(
            collection=collection,
            number=record.number,
            size_bytes=record.stored_bytes,
            sha256=record.sha256,
            files=files,
        )

    @property
    def parts(self) -> tuple[PartRecord, ...]:
        return tuple(PartRecord(*file) for file in self.files)


class NodeEntry(Document):
    """One node in the backup's manifest."""

    manifest: StoredDocument
    objects: Size
    stored_bytes: Size
    source_bytes: Size


class BackupManifest(Document):
    """`manifest.json`, written just before the global descriptor. Totals are of all nodes.

    Its hash stands for the whole backup: it names, by hash, every node's manifest and the global descriptor (`marker`;
    None when an older version wrote it), and a node's manifest names that node's descriptor and all of its bytes.
    """

    kind: Literal["backup"] = "backup"
    format_version: FormatVersion = FORMAT_VERSION
    operation_uid: str
    tool_version: str
    backup_id: str
    server_version: str
    leader: str
    started_at: Instant
    completed_at: Instant
    nodes: dict[Name, NodeEntry]
    collections: tuple[Name, ...]
    marker: StoredDocument | None = None
    tenants_offloaded: Size = 0
    objects: Size
    stored_bytes: Size
    source_bytes: Size

    def describes(self, marker: bytes, config: BackupConfig) -> bool:
        """Whether the global descriptor, as stored and as read, is the one that was written after this manifest."""
        if self.marker is not None:
            return self.marker == StoredDocument.of(marker)
        ours = (self.backup_id, self.leader, self.server_version, set(self.nodes), set(self.collections))
        return ours == (config.id, config.leader, config.server_version, set(config.nodes), set(config.collections))


Line = NodeHeader | ShardRecord | ChunkLine
_Line = TypeAdapter[Line](Annotated[NodeHeader | ShardRecord | ChunkLine, Field(discriminator="kind")])


def encode_lines(lines: Iterable[Line]) -> Iterator[bytes]:
    """A node's manifest as it is stored, from its lines as they come, the header first."""
    compressor = zstandard.ZstdCompressor(level=MANIFEST_EFFORT, write_content_size=False).compressobj()
    for block in gathered(line.model_dump_json().encode() + b"\n" for line in lines):
        yield compressor.compress(block)
    yield compressor.flush()


def read_node_manifest(stream: BinaryIO, *, key: str, line_bounds: JsonBounds = LINE_BOUNDS) -> Iterator[Line]:
    """Line by line, the header first, in memory bounded by one line, which is bounded itself.

    Raises `HostileBackup` or `FormatTooNew`, and `DocumentTooLarge`, naming the object.
    """
    first = True
    try:
        for text in packed_lines(stream, limit_bytes=line_bounds.size_bytes):
            line_bounds.refuse_beyond(text)
            line = _Line.validate_json(text)
            if isinstance(line, NodeHeader) is not first:
                raise Permanent("HostileBackup", f"{key}: its header is not its first line")
            if isinstance(line, NodeHeader):
                _check_version(line.format_version, key)
            first = False
            yield line
    except (zstandard.ZstdError, ValidationError, TooDeep) as error:
        raise Permanent("HostileBackup", f"{key} is no manifest: {excerpt(str(error), 160)}") from error
    except BeyondBounds as error:
        message = f"a line of {key} is larger than memory allows: {error}; {MORE_MEMORY}"
        raise Permanent("DocumentTooLarge", message) from error
    if first:
        raise Permanent("HostileBackup", f"{key} is an empty manifest")


def encode_backup_manifest(manifest: BackupManifest) -> bytes:
    """As it is stored, readable for people."""
    return (json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def decode_backup_manifest(content: bytes, *, key: str) -> BackupManifest:
    """Raises `HostileBackup` or `FormatTooNew`, naming the object."""
    try:
        manifest = BackupManifest.model_validate_json(content)
    except ValidationError as error:
        raise Permanent("HostileBackup", f"{key} is no manifest: {excerpt(str(error), 160)}") from error
    _check_version(manifest.format_version, key)
    return manifest


def _check_version(version: int, key: str) -> None:
    if version > FORMAT_VERSION:
        raise Permanent(
            "FormatTooNew",
            f"{key} has format {version}, this version reads up to {FORMAT_VERSION}; update the operator",
        )
