"""Reads a stored backup, ours or a server's: descriptors, manifests when there are some, and what must be fetched.

Manifests are believed only as far as the hashes above them reach: `manifest.json` names the hash of every node's
manifest, that names the hash of the node's descriptor and of every part. Large manifests are read line by line.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from weaviate_backup.agent.storing import find_document, read_document
from weaviate_backup.errors import BackupError, ObjectNotFound, Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.descriptors import (
    BackupConfig,
    ClassDescriptor,
    NodeDescriptor,
    parse_backup_config,
    parse_node_descriptor,
)
from weaviate_backup.layout.manifests import (
    BackupManifest,
    ChunkLine,
    NodeHeader,
    ShardRecord,
    decode_backup_manifest,
    read_node_manifest,
)
from weaviate_backup.storage.object_store import ObjectStore

Json = dict[str, Any]


@dataclass(frozen=True)
class RestoredClass:
    """A collection as raft will get it."""

    name: str
    class_json: Json
    state: Json
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class WantedChunk:
    """One object to fetch. `parts`: (path, offset) -> SHA-256, None when the backup does not tell."""

    collection: str
    number: int
    key: str
    compression: CompressionType
    source_bytes: int
    parts: dict[tuple[str, int], str] | None


@dataclass
class WantedFiles:
    """What a node's part of a collection consists of. `sizes` is empty when the backup does not tell them."""

    chunks: list[WantedChunk] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    total_bytes: int = 0


class BackupReader:
    """One backup in a store; documents are read when they are asked for, and once."""

    def __init__(self, store: ObjectStore, backup_id: str) -> None:
        self._store = store
        self._backup_id = backup_id
        self._descriptors: dict[str, NodeDescriptor] = {}

    @cached_property
    def config(self) -> BackupConfig:
        key = keys.backup_config(self._backup_id)
        try:
            return parse_backup_config(read_document(self._store, key), key=key)
        except ObjectNotFound as error:
            raise Permanent(
                "BackupNotFound", f"no backup {self._backup_id!r} in this location: {key} is not there"
            ) from error

    @cached_property
    def manifest(self) -> BackupManifest | None:
        """None for a backup that a server made."""
        key = keys.manifest(self._backup_id)
        content = find_document(self._store, key)
        return None if content is None else decode_backup_manifest(content, key=key)

    @property
    def leader(self) -> str:
        """The node whose descriptor holds every collection; without one named, the first that does."""
        if self.config.leader:
            return self.config.leader
        everything = set(self.config.collections)
        for node in sorted(self.config.nodes):
            if everything <= {each.name for each in self.descriptor(node).classes}:
                return node
        return next(iter(sorted(self.config.nodes)), "")

    def descriptor(self, node: str) -> NodeDescriptor:
        """What a node holds; checked against its manifest when there is one."""
        if node not in self._descriptors:
            key = keys.node_descriptor(self._backup_id, node)
            try:
                content = read_document(self._store, key)
            except ObjectNotFound as error:
                raise Permanent("BackupIncomplete", f"{key} is missing, node {node} cannot be restored") from error
            self._descriptors[node] = parse_node_descriptor(content, key=key)
            if self.manifest is not None:
                header = next(self.manifest_lines(node))
                assert isinstance(header, NodeHeader)
                _check_hash(key, content, header.descriptor.sha256)
        return self._descriptors[node]

    def manifest_lines(self, node: str) -> Iterator[NodeHeader | ShardRecord | ChunkLine]:
        """A node's manifest, header first, once its hash is the one that the backup's manifest names."""
        assert self.manifest is not None
        key = keys.node_manifest(self._backup_id, node)
        entry = self.manifest.nodes.get(node)
        if entry is None:
            raise Permanent("BackupIncomplete", f"the manifest of backup {self._backup_id!r} has no node {node}")
        try:
            content = read_document(self._store, key)
        except ObjectNotFound as error:
            raise Permanent("BackupIncomplete", f"{key} is missing") from error
        _check_hash(key, content, entry.manifest.sha256)
        return read_node_manifest(io.BytesIO(content), key=key)

    def class_descriptor(self, node: str, collection: str) -> ClassDescriptor:
        found = self.descriptor(node).collection(collection)
        if found is None:
            raise Permanent("CollectionNotFound", f"backup {self._backup_id!r} holds no collection {collection!r}")
        return found

    def restored_class(self, collection: str) -> RestoredClass:
        """Schema and sharding state as the leader's descriptor has them."""
        descriptor = self.class_descriptor(self.leader, collection)
        return RestoredClass(
            name=collection,
            class_json=_json_object(descriptor.class_json, f"schema of {collection}"),
            state=_json_object(descriptor.sharding_state, f"sharding state of {collection}"),
            aliases=tuple(aliases_of(descriptor)),
        )

    def wanted_files(self, node: str, collections: Iterable[str]) -> dict[str, WantedFiles]:
        """What must be fetched of the collections of a node. One that the node does not hold wants nothing."""
        if node not in self.config.nodes:
            raise Permanent("NodeNotFound", f"backup {self._backup_id!r} has no node {node!r}")
        wanted = {name: WantedFiles() for name in collections}
        if self.manifest is not None:
            self._want_by_manifest(node, wanted)
            return wanted
        for name, files in wanted.items():
            descriptor = self.descriptor(node).collection(name)
            if descriptor is not None and descriptor.shards:
                self._want_by_descriptor(node, descriptor, files)
        return wanted

    def _want_by_manifest(self, node: str, wanted: dict[str, WantedFiles]) -> None:
        compression = self.descriptor(node).compression_type
        for line in self.manifest_lines(node):
            if not isinstance(line, ChunkLine) or line.collection not in wanted:
                continue
            files = wanted[line.collection]
            source_bytes = 0
            for path, offset, length, _ in line.files:
                files.names.add(path)
                files.sizes[path] = max(files.sizes.get(path, 0), offset + length)
                source_bytes += length
            files.total_bytes += source_bytes
            parts = {(path, offset): sha256 for path, offset, _, sha256 in line.files}
            files.chunks.append(
                self._chunk(node, line.collection, line.number, compression, source_bytes=source_bytes, parts=parts)
            )

    def _want_by_descriptor(self, node: str, descriptor: ClassDescriptor, files: WantedFiles) -> None:
        if any(shard.incremental for shard in descriptor.shards):
            raise Permanent(
                "IncrementalBackup",
                f"{descriptor.name} lies partly in older backups, which this version cannot read; restore it with "
                "Weaviate's own restore",
            )
        compression = self.descriptor(node).compression_type
        files.names.update(name for shard in descriptor.shards for name in shard.files)
        files.total_bytes = descriptor.pre_compression_size_bytes
        files.chunks.extend(
            self._chunk(node, descriptor.name, number, compression, source_bytes=0, parts=None)
            for number in descriptor.chunk_numbers
        )

    def _chunk(
        self,
        node: str,
        collection: str,
        number: int,
        compression: CompressionType,
        *,
        source_bytes: int,
        parts: dict[tuple[str, int], str] | None,
    ) -> WantedChunk:
        key = keys.chunk(self._backup_id, node, collection, number)
        return WantedChunk(collection, number, key, compression, source_bytes=source_bytes, parts=parts)


def aliases_of(descriptor: ClassDescriptor) -> list[str]:
    """Names of the aliases that stood for the collection."""
    if not descriptor.aliases_included or not descriptor.aliases:
        return []
    try:
        return [str(each["alias"]) for each in json.loads(descriptor.aliases) or []]
    except (ValueError, KeyError, TypeError) as error:
        raise Permanent("HostileBackup", f"the aliases of {descriptor.name} are no list of aliases") from error


def is_own_manifest(store: ObjectStore, key: str, operation_uid: str) -> bool:
    """Whether a backup's manifest is there and was written by the operation."""
    content = find_document(store, key)
    if content is None:
        return False
    try:
        return decode_backup_manifest(content, key=key).operation_uid == operation_uid
    except BackupError:
        return False


def _check_hash(key: str, content: bytes, expected: str) -> None:
    if hashlib.sha256(content).hexdigest() != expected:
        raise Permanent("BackupDamaged", f"{key} is not what was written (SHA-256 differs)")


def _json_object(content: bytes, what: str) -> Json:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise Permanent("HostileBackup", f"the {what} is not JSON") from error
    if not isinstance(value, dict):
        raise Permanent("HostileBackup", f"the {what} is no JSON object")
    return value
