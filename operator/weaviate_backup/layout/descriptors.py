"""Weaviate's own descriptors, structure version 2.1: read from any server's backup, written as a server writes them.

`backup_config.json` describes the backup, `<node>/backup.json` one node. Spelling is the server's; keys we do not know
are ignored, as the server does. Byte fields are base64 in JSON and bytes here; `schema` and `sharding_state` are JSON
themselves and hold 64-bit numbers, so they are carried as bytes and never pass through floating point.
"""

import base64
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
)

from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout import keys
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.plain_names import Name, NameOrEmpty

STRUCTURE_VERSION = "2.1"
SUCCESS = "SUCCESS"
NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time: what a server writes where it has no time."""
NO_ALIASES = b"[]"


def _decode(value: object) -> object:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError as error:
            raise ValueError("not base64") from error
    return value


def _encode(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time before or after all others") from error


def _encode_time(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z") if value != NEVER else "0001-01-01T00:00:00Z"


def _none_is_empty(value: object) -> object:
    """Go writes null for an empty list or map."""
    return {} if value is None else value


def _none_is_empty_list(value: object) -> object:
    return () if value is None else value


def _absent_is_gzip(value: object) -> object:
    return value or CompressionType.GZIP


Base64Bytes = Annotated[bytes, BeforeValidator(_decode), PlainSerializer(_encode, when_used="json")]
OptionalBase64Bytes = Annotated[bytes | None, BeforeValidator(_decode), PlainSerializer(_encode, when_used="json")]
ChunkNumber = Annotated[str, Field(pattern=r"^[0-9]{1,10}$")]
Size = Annotated[int, Field(ge=0, le=1 << 50)]
"""Of bytes or things: what a node can hold, so that sums of them stay numbers that everybody knows."""
Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""One that can be compared with every other: it says of which zone it is."""
Time = Annotated[Instant, PlainSerializer(_encode_time, when_used="json")]


class Descriptor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class BigFile(Descriptor):
    """A file with chunks of its own, as incremental backups refer to it. `modifiedAt` has nanoseconds: kept as text."""

    chunk_keys: Annotated[tuple[str, ...], BeforeValidator(_none_is_empty_list), Field(alias="chunkKeys")] = ()
    size: Size = 0
    modified_at: Annotated[str, Field(alias="modifiedAt")] = ""


class FileInBase(Descriptor):
    """A file that an older backup holds. `chunk_keys` are relative to the node's folder there: `Note/chunk-7`."""

    file: str
    chunk_keys: Annotated[tuple[str, ...], BeforeValidator(_none_is_empty_list), Field(alias="chunkKeys")] = ()


FilesInBase = Annotated[tuple[FileInBase, ...], BeforeValidator(_none_is_empty_list)]


class Incremental(Descriptor):
    """Files that a server did not store again: identifier of the backup that holds them -> files."""

    files_per_backup: Annotated[
        dict[Name, FilesInBase], BeforeValidator(_none_is_empty), Field(alias="filesPerBackup")
    ] = {}


class ShardDescriptor(Descriptor):
    """A shard that the node holds. `files` inform people; the chunks say what is there.

    `incremental` names files that lie in older backups of a server's incremental chain.
    """

    name: Name
    node: NameOrEmpty
    files: Annotated[tuple[str, ...], BeforeValidator(_none_is_empty_list)] = ()
    big_files: Annotated[
        dict[str, BigFile], BeforeValidator(_none_is_empty), Field(alias="bigFilesChunk", exclude_if=lambda it: not it)
    ] = {}
    incremental: Annotated[
        Incremental,
        BeforeValidator(_none_is_empty),
        Field(alias="incrementalBackupInfo", exclude_if=lambda it: not it.files_per_backup),
    ] = Incremental()


class ClassDescriptor(Descriptor):
    """A collection on one node. Without shards the node brings back nothing of it but its schema."""

    name: Name
    backup_id: Annotated[str, Field(alias="backupId")] = ""
    shards: Annotated[tuple[ShardDescriptor, ...], BeforeValidator(_none_is_empty_list)] = ()
    sharding_state: Annotated[Base64Bytes, Field(alias="shardingState")]
    class_json: Annotated[Base64Bytes, Field(alias="schema")]
    aliases: OptionalBase64Bytes = NO_ALIASES
    aliases_included: Annotated[bool, Field(alias="aliasesIncluded")] = False
    chunks: Annotated[dict[ChunkNumber, tuple[str, ...] | None], BeforeValidator(_none_is_empty)] = {}
    """Number of the chunk -> names of the shards in it; only the numbers matter to a server."""
    pre_compression_size_bytes: Annotated[Size, Field(alias="preCompressionSizeBytes")] = 0

    _shard_names: frozenset[str] | None = PrivateAttr(None)

    @property
    def shard_names(self) -> Collection[str]:
        """Of the shards that the node holds, whether they are described or only named."""
        return {shard.name for shard in self.shards} if self._shard_names is None else self._shard_names

    def with_shards_named(self, names: Iterable[str]) -> Self:
        """The same of a collection whose shards were not read with all that is said of them."""
        named = self.model_copy()
        named._shard_names = frozenset(names)
        return named

    @property
    def chunk_numbers(self) -> tuple[int, ...]:
        return tuple(sorted(int(number) for number in self.chunks))


class NodeDescriptor(Descriptor):
    """`<node>/backup.json`."""

    started_at: Annotated[Time, Field(alias="startedAt")]
    completed_at: Annotated[Time, Field(alias="completedAt")] = NEVER
    id: str
    classes: Annotated[tuple[ClassDescriptor, ...], BeforeValidator(_none_is_empty_list)] = ()
    rbac_backups: Annotated[OptionalBase64Bytes, Field(alias="rbacBackups")] = None
    user_backups: Annotated[OptionalBase64Bytes, Field(alias="userBackups")] = None
    status: str = SUCCESS
    version: str = STRUCTURE_VERSION
    server_version: Annotated[str, Field(alias="serverVersion")]
    error: str = ""
    pre_compression_size_bytes: Annotated[Size, Field(alias="preCompressionSizeBytes")] = 0
    compression_type: Annotated[CompressionType, BeforeValidator(_absent_is_gzip), Field(alias="compressionType")] = (
        CompressionType.GZIP
    )
    base_backup_id: Annotated[NameOrEmpty, Field(alias="baseBackupId", exclude_if=lambda it: not it)] = ""

    def collection(self, name: str) -> ClassDescriptor | None:
        return next((each for each in self.classes if each.name == name), None)


class NodeSummary(Descriptor):
    """One node's line in the global descriptor."""

    classes: Annotated[tuple[Name, ...], BeforeValidator(_none_is_empty_list)] = ()
    status: str = SUCCESS
    error: str = ""
    pre_compression_size_bytes: Annotated[Size, Field(alias="preCompressionSizeBytes")] = 0


class BackupConfig(Descriptor):
    """`backup_config.json`. `leader` names the node whose descriptor holds the schema of every collection."""

    started_at: Annotated[Time, Field(alias="startedAt")]
    completed_at: Annotated[Time, Field(alias="completedAt")] = NEVER
    id: str
    nodes: Annotated[dict[Name, NodeSummary], BeforeValidator(_none_is_empty)] = {}
    node_mapping: dict[str, str] | None = None
    status: str = SUCCESS
    version: str = STRUCTURE_VERSION
    server_version: Annotated[str, Field(alias="serverVersion")]
    leader: NameOrEmpty = ""
    error: str = ""
    pre_compression_size_bytes: Annotated[Size, Field(alias="preCompressionSizeBytes")] = 0
    compression_type: Annotated[CompressionType, BeforeValidator(_absent_is_gzip), Field(alias="compressionType")] = (
        CompressionType.GZIP
    )
    base_backup_id: Annotated[NameOrEmpty, Field(alias="baseBackupId")] = ""

    @property
    def collections(self) -> tuple[str, ...]:
        return tuple(sorted({name for node in self.nodes.values() for name in node.classes}))


def encode(descriptor: Descriptor) -> bytes:
    """As it is stored; the same value always gives the same bytes."""
    return descriptor.model_dump_json(by_alias=True).encode()


def encode_in_pieces(
    head: NodeDescriptor, classes: Iterable[tuple[ClassDescriptor, Iterable[ShardDescriptor]]]
) -> Iterator[bytes]:
    """`encode` of the node with those collections, and of each with those shards, as they come: a node may have
    millions of files, and none of this is held whole. Neither `head` nor the collections have any themselves."""
    before, after = encode(head).split(b'"classes":[]', 1)
    yield before + b'"classes":['
    separator = b""
    for collection, shards in classes:
        yield separator
        yield from _class_in_pieces(collection, shards)
        separator = b","
    yield b"]" + after


def _class_in_pieces(collection: ClassDescriptor, shards: Iterable[ShardDescriptor]) -> Iterator[bytes]:
    before, after = encode(collection).split(b'"shards":[]', 1)  # names alone come before it
    yield before + b'"shards":['
    separator = b""
    for shard in shards:
        yield separator + encode(shard)
        separator = b","
    yield b"]" + after


def chunk_keys(descriptor: NodeDescriptor, backup_id: str, node: str) -> set[str]:
    """Of every chunk that the node's descriptor names."""
    return {
        keys.chunk(backup_id, node, each.name, number) for each in descriptor.classes for number in each.chunk_numbers
    }


def parse_node_descriptor(content: bytes, *, key: str) -> NodeDescriptor:
    """Raises `HostileBackup`, naming the object."""
    try:
        return NodeDescriptor.model_validate_json(content)
    except ValidationError as error:
        raise unreadable(key, error) from error


def parse_backup_config(content: bytes, *, key: str) -> BackupConfig:
    """Raises `HostileBackup`, naming the object."""
    try:
        return BackupConfig.model_validate_json(content)
    except ValidationError as error:
        raise unreadable(key, error) from error


def unreadable(key: str, error: ValidationError) -> Permanent:
    """What is said of a descriptor that is none."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = excerpt(".".join(str(part) for part in first["loc"]), 120)
    return Permanent("HostileBackup", f"{key} is no descriptor of Weaviate: {where}: {excerpt(first['msg'], 120)}")
