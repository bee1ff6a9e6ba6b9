"""Reads a node's descriptor of our own without the names of its files, of which there may be millions.

Weaviate writes those for people, the chunks tell what is there; so only the names that say more are kept. What the
descriptor must be to the byte is known beforehand, from the node's manifest.
"""

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ijson
from pydantic import ValidationError

from weaviate_backup.answers import document_bounds
from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout.descriptors import NodeDescriptor, unreadable
from weaviate_backup.layout.json_bounds import DEPTH
from weaviate_backup.layout.manifests import StoredDocument
from weaviate_backup.layout.plain_names import checked_name
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.node_manifest import HashingReader
from weaviate_backup.stored.storing import Budget, too_large
from weaviate_backup.weaviate.late_writes import LATE_WRITES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CLASS, SHARDS, CHUNKS = "classes.item", "classes.item.shards", "classes.item.chunks."
OPENING, CLOSING = ("start_map", "start_array"), ("end_map", "end_array")
PARSED_BYTES = 1 << 18
NODE_BYTES, NAME_BYTES = 640, 150
"""Of memory, beside the text: what a value takes that is held as a document has it, and one that is held as a name."""


class _Bounded(io.RawIOBase):
    """Refuses a text without an end: the parser would gather it first."""

    def __init__(self, stream: HashingReader, *, limit_bytes: int, what: str) -> None:
        self._stream = stream
        self._limit_bytes = limit_bytes
        self._since_quote_bytes = 0
        self._what = what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer).cast("B")
        block = self._stream.read(len(target))
        target[: len(block)] = block
        quote = block.rfind(b'"')
        self._since_quote_bytes = self._since_quote_bytes + len(block) if quote < 0 else len(block) - quote
        if self._since_quote_bytes > self._limit_bytes:
            raise too_large(self._what, f"one value has more than {self._limit_bytes} bytes")
        return len(block)


@dataclass(frozen=True)
class LongDescriptor:
    """`descriptor`: its collections know the names of their shards. `late`: collection -> shards that were written to
    while they were cut."""

    descriptor: NodeDescriptor
    late: Mapping[str, Collection[str]]


def read_long_descriptor(store: ObjectStore, key: str, *, expected: StoredDocument, budget: Budget) -> LongDescriptor:
    """`BackupDamaged` when it is not what is expected. Raises also `HostileBackup`, `DocumentTooLarge` and
    `ObjectNotFound`."""
    refused: Exception | None = None
    with store.open(key) as stream:
        hashing = HashingReader(stream)
        try:
            found = _Parsing(hashing, key, budget).parse()
        except (Permanent, ValidationError, ijson.JSONError, ValueError) as error:
            refused = error
        if hashing.read_rest() != expected:
            raise Permanent("BackupDamaged", f"{key} is not what was written (SHA-256 differs)") from refused
    match refused:
        case None:
            return found
        case Permanent():
            raise refused
        case ValidationError():
            raise unreadable(key, refused) from refused
    raise Permanent("HostileBackup", f"{key} is no descriptor of Weaviate: {excerpt(str(refused), 120)}") from refused


@dataclass
class _Names:
    """Of one collection's shards."""

    shards: list[str] = field(default_factory=list)
    late: set[str] = field(default_factory=set)


class _Parsing:
    """One descriptor, event by event. Shards and the names of files never reach the builder."""

    def __init__(self, hashing: HashingReader, key: str, budget: Budget) -> None:
        self._stream = _Bounded(hashing, limit_bytes=document_bounds().size_bytes, what=key)
        self._key = key
        self._budget = budget
        self._names: list[_Names] = []
        self._depth = 0

    def parse(self) -> LongDescriptor:
        builder = ijson.ObjectBuilder()
        for path, event, value in ijson.parse(self._stream, use_float=True, buf_size=PARSED_BYTES):
            self._depth += (event in OPENING) - (event in CLOSING)
            if self._depth > DEPTH:
                raise ValueError(f"more than {DEPTH} levels of values in values")
            if path == CLASS and event == "start_map":
                self._names.append(_Names())
            if path == SHARDS or path.startswith(f"{SHARDS}."):
                self._take_shard(path, value)
            elif not (path.startswith(CHUNKS) and path.endswith(".item")):
                self._hold(value, NODE_BYTES)
                builder.event(event, value)
        descriptor = NodeDescriptor.model_validate(getattr(builder, "value", None))
        classes = tuple(
            each.with_shards_named(of.shards) for each, of in zip(descriptor.classes, self._names, strict=True)
        )
        late = {each.name: of.late for each, of in zip(descriptor.classes, self._names, strict=True)}
        return LongDescriptor(descriptor.model_copy(update={"classes": classes}), late)

    def _take_shard(self, path: str, value: Any) -> None:
        if not self._names:
            raise ValueError("shards of no collection")
        names = self._names[-1]
        if path == f"{SHARDS}.item.name":
            self._hold(value, NAME_BYTES)
            names.shards.append(checked_name(str(value), what=f"{self._key}: a shard"))
        elif path == f"{SHARDS}.item.files.item" and str(value).endswith(f"/{LATE_WRITES}"):
            self._hold(value, NAME_BYTES)
            names.late.add(str(value).removesuffix(f"/{LATE_WRITES}").rpartition("/")[2])

    def _hold(self, value: Any, beside_bytes: int) -> None:
        text_bytes = len(value) if isinstance(value, str) else 0
        self._budget.take_values(0, beside_bytes + text_bytes, what=self._key)
