"""Reads the documents of a stored backup, ours or a server's: descriptors, and manifests when there are some.

Manifests are believed only as far as the hashes above them reach: `manifest.json` names the hash of the global
descriptor and of every node's manifest, that names the hash of the node's descriptor and of every part. So one hash, of
`manifest.json`, tells a whole backup from any other. Large manifests are read line by line.
"""

import contextlib
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from weaviate_backup.answers import document_bounds
from weaviate_backup.errors import BackupError, ObjectNotFound, Permanent, excerpt
from weaviate_backup.layout import keys
from weaviate_backup.layout.descriptors import (
    BackupConfig,
    ClassDescriptor,
    NodeDescriptor,
    parse_backup_config,
    parse_node_descriptor,
)
from weaviate_backup.layout.go_json import ALIASES, CLASS, SHARDING_STATE, Shape, parse_for_go
from weaviate_backup.layout.integrity import sha256_of_all
from weaviate_backup.layout.keys import is_ours
from weaviate_backup.layout.manifests import (
    BackupManifest,
    ChunkLine,
    StoredDocument,
    decode_backup_manifest,
)
from weaviate_backup.layout.plain_names import plain
from weaviate_backup.layout.sharding_state import as_cut, nodes_of, refuse_odd_names
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.long_descriptor import read_long_descriptor
from weaviate_backup.stored.node_manifest import ManifestReader, NodeContents
from weaviate_backup.stored.storing import Budget, find_document, prefix_of, read_document

Json = dict[str, Any]


@dataclass(frozen=True)
class RestoredClass:
    """A collection as raft will get it."""

    name: str
    class_json: Json
    state: Json
    aliases: tuple[str, ...]


class BackupReader:
    """One backup in a store; documents are read when they are asked for, and once."""

    def __init__(self, store: ObjectStore, backup_id: str) -> None:
        self._store = store
        self.backup_id = backup_id
        self._descriptors: dict[str, NodeDescriptor] = {}
        self._late: dict[str, Mapping[str, Collection[str]]] = {}
        self._contents: dict[str, NodeContents] = {}
        self._budget = Budget()
        self._digests: dict[str, str] = {}
        """Of the documents that were read: key -> SHA-256."""

    @cached_property
    def config(self) -> BackupConfig:
        """The global descriptor; beside our manifest, the one that was written after it."""
        key = keys.backup_config(self.backup_id)
        try:
            content = self._read(key)
        except ObjectNotFound as error:
            raise Permanent(
                "BackupNotFound", f"no backup {self.backup_id!r} in this location: {key} is not there"
            ) from error
        config = parse_backup_config(content, key=key)
        if self.manifest is not None and not self.manifest.describes(content, config):
            raise Permanent("BackupDamaged", f"{key} is not the one that belongs to {keys.manifest(self.backup_id)}")
        return config

    @cached_property
    def sha256(self) -> str:
        """What tells this backup from any other, and from itself once somebody changed it.

        Of `manifest.json`, whose hashes reach all the rest; of a backup without manifests, of the list of its
        descriptors and of those that it builds on, which say nothing of the content of chunks.
        """
        if self.manifest is not None:
            return self._digests[keys.manifest(self.backup_id)]
        nodes = {*self.config.nodes, self.config.leader} - {""}
        for node in nodes:
            self.descriptor(node)
        described = dict(self._digests)
        for base in self.bases:
            for node in nodes:  # one that joined later is not in the base
                with contextlib.suppress(ObjectNotFound):
                    base._read(keys.node_descriptor(base.backup_id, node))
            described |= base._digests
        return sha256_of_all(described)

    def _read(self, key: str) -> bytes:
        """A whole document; what is read of it twice must be the same."""
        content = read_document(self._store, key)
        digest = hashlib.sha256(content).hexdigest()
        if self._digests.setdefault(key, digest) != digest:
            raise Permanent("BackupChanged", f"{key} changed while it was read")
        return content

    @cached_property
    def bases(self) -> tuple["BackupReader", ...]:
        """What an incremental backup of a server builds on, the newest first. Their rules are the caller's to check."""
        readers: list[BackupReader] = []
        known, next_id = {self.backup_id}, self.config.base_backup_id
        while next_id:
            if next_id in known:
                raise Permanent("BaseUnusable", f"backup {self.backup_id!r} builds on {next_id!r}, which builds on it")
            known.add(next_id)
            readers.append(BackupReader(self._store, next_id))
            try:
                next_id = readers[-1].config.base_backup_id
            except Permanent as error:
                if error.reason != "BackupNotFound":
                    raise
                message = f"backup {self.backup_id!r} builds on {next_id!r}, which is not in this location any more"
                raise Permanent("BaseMissing", message) from error
        return tuple(readers)

    @cached_property
    def manifest(self) -> BackupManifest | None:
        """None for a backup that a server made. Raises `BackupDamaged` when one of ours has lost it."""
        key = keys.manifest(self.backup_id)
        try:
            content = self._read(key)
        except ObjectNotFound as error:
            remains = next(
                (each.key for each in self._store.list(prefix_of(self.backup_id)) if is_ours(each.key)), None
            )
            if remains is None:
                return None
            message = f"{key} is gone, but {remains} is there: the backup had manifests"
            raise Permanent("BackupDamaged", f"{message}, and is not restored without them") from error
        manifest = decode_backup_manifest(content, key=key)
        if manifest.backup_id != self.backup_id:
            message = f"{key} belongs to backup {excerpt(manifest.backup_id, 80)!r}; it was moved or overwritten"
            raise Permanent("BackupIdMismatch", message)
        return manifest

    @cached_property
    def signature(self) -> bytes | None:
        """What vouches for `manifest`, unread; None when nobody signed it."""
        return find_document(self._store, keys.manifest_signature(self.backup_id))

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
        """What a node holds; checked against its manifest when there is one, and then without the names of files."""
        if node not in self._descriptors:
            key = keys.node_descriptor(self.backup_id, node)
            try:
                self._descriptors[node] = self._read_descriptor(node, key)
            except ObjectNotFound as error:
                reason = "BackupIncomplete" if self.manifest is None else "BackupDamaged"
                raise Permanent(reason, f"{key} is missing, node {node} cannot be restored") from error
        return self._descriptors[node]

    def _read_descriptor(self, node: str, key: str) -> NodeDescriptor:
        if self.manifest is not None:
            expected = self.contents(node).header.descriptor
            long = read_long_descriptor(self._store, key, expected=expected, budget=self._budget)
            self._late[node] = long.late
            return long.descriptor
        content = self._read(key)
        self._budget.take(content, what=key)
        return parse_node_descriptor(content, key=key)

    def contents(self, node: str) -> NodeContents:
        """What a node's manifest says in short, once its hash is the one that the backup's manifest names."""
        if node not in self._contents:
            reader, expected = self._manifest_of(node)
            with _judged(reader, expected):
                found = reader.contents()
            self._contents[node] = found
        return self._contents[node]

    def chunk_lines(self, node: str) -> Iterator[ChunkLine]:
        """Of every chunk of a node, with its files. The hash is compared again when all were read: until then they are
        what the store says this time, and it may say otherwise than before (`BackupChanged`)."""
        self.contents(node)
        reader, expected = self._manifest_of(node)
        with _judged(reader, expected, reason="BackupChanged", how="changed while it was read"):
            for line in reader.lines():
                if isinstance(line, ChunkLine):
                    yield line

    def _manifest_of(self, node: str) -> tuple[ManifestReader, StoredDocument]:
        assert self.manifest is not None
        entry = self.manifest.nodes.get(node)
        if entry is None:
            raise Permanent("BackupIncomplete", f"the manifest of backup {self.backup_id!r} has no node {node}")
        return ManifestReader(self._store, self.backup_id, node), entry.manifest

    def class_descriptor(self, node: str, collection: str) -> ClassDescriptor:
        found = self.descriptor(node).collection(collection)
        if found is None:
            raise Permanent("CollectionNotFound", f"backup {self.backup_id!r} holds no collection {collection!r}")
        return found

    def restored_class(self, collection: str) -> RestoredClass:
        """Schema and sharding state as the leader's descriptor has them.

        Of our own backups each tenant is as the nodes that hold it cut it, whatever the leader saw: each descriptor has
        the node's own tenants so.
        """
        descriptor = self.class_descriptor(self.leader, collection)
        state = _json_object(descriptor.sharding_state, SHARDING_STATE, f"the sharding state of {collection}")
        refuse_odd_names(state, f"the sharding state of {collection}")
        if self.manifest is not None and state.get("partitioningEnabled"):
            parts = self._parts(collection)
            held = {node: part.shard_names for node, part in parts.items()}
            seen = {node: _statuses_of_own(part, node) for node, part in parts.items()}
            state = as_cut(state, held, seen, written_late=self._written_late(collection))
        return RestoredClass(
            name=collection,
            class_json=_json_object(descriptor.class_json, CLASS, f"the schema of {collection}"),
            state=state,
            aliases=tuple(aliases_of(descriptor)),
        )

    def _parts(self, collection: str) -> dict[str, ClassDescriptor]:
        """node -> what it says of the collection."""
        found = {node: self.descriptor(node).collection(collection) for node in self.config.nodes}
        return {node: each for node, each in found.items() if each is not None}

    def _written_late(self, collection: str) -> set[str]:
        """Shards that were written to while they were cut, on any node."""
        return {shard for late in self._late.values() for shard in late.get(collection, ())}


def _statuses_of_own(part: ClassDescriptor, node: str) -> dict[str, str]:
    """Of the tenants that a node has by its own descriptor."""
    own = _json_object(part.sharding_state, SHARDING_STATE, f"the sharding state of {part.name} on {node}")
    physical = own.get("physical") or {}
    return {name: str(shard.get("status", "")) for name, shard in physical.items() if node in nodes_of(shard)}


def aliases_of(descriptor: ClassDescriptor) -> list[str]:
    """Names of the aliases that stood for the collection."""
    if not descriptor.aliases_included or not descriptor.aliases:
        return []
    what = f"the list of aliases of {descriptor.name}"
    found = parse_for_go(descriptor.aliases, ALIASES, bounds=document_bounds(), what=what)
    try:
        return [plain(str(each["alias"])) for each in found or []]
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


@contextlib.contextmanager
def _judged(
    reader: ManifestReader,
    expected: StoredDocument,
    *,
    reason: str = "BackupDamaged",
    how: str = "is not what was written (SHA-256 differs)",
) -> Iterator[None]:
    """While its lines are read: whatever they are, they must be those that were written."""
    refused: Permanent | None = None
    try:
        yield
    except ObjectNotFound as error:
        raise Permanent("BackupDamaged", f"{reader.key} is missing") from error
    except Permanent as error:
        if reader.document is None:
            raise
        refused = error
    if reader.document != expected:
        raise Permanent(reason, f"{reader.key} {how}") from refused
    if refused is not None:
        raise refused


def _json_object(content: bytes, shape: Shape, what: str) -> Json:
    value = parse_for_go(content, shape, bounds=document_bounds(), what=what)
    if not isinstance(value, dict):
        raise Permanent("HostileBackup", f"{what} is no JSON object")
    return value
