"""Which bytes of which files go into which chunk: decided once, from names and sizes alone, always the same way.

A file at or above the target has chunks of its own, so that big files are sent in parallel and can be reused; the rest
of a shard's files follow each other, and small shards (tenants) share chunks. The first parts of a shard are the three
files that Weaviate expects there. Held at once are the files of one shard, those of one chunk, and the big ones, of
which there are few.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

TAR_BLOCK_BYTES = 512
FIRST_FILES = ("indexcount", "proplengths", "version")


@dataclass(frozen=True)
class SourceFile:
    """A frozen file. `path` is relative to the data root, with `/`: `<class in lower case>/<shard>/<file>`."""

    path: str
    size_bytes: int
    mode: int = 0o644


FILES_OF_CHUNK = 8192
"""At most: what is planned, written and recorded of a chunk is held in memory, for each that is on its way."""
PACKING = "2"
"""Of this way to pack, which no other one gives the same digest as."""
FRAMING_BYTES = 16 << 10
"""Of a file in a tar: its header, the extended one of a long name, and what fills the last block."""


@dataclass(frozen=True)
class ChunkPart:
    """`length_bytes` of a file from `offset` on; the whole file unless it is split."""

    shard: str
    path: str
    offset: int
    length_bytes: int
    size_bytes: int
    mode: int

    @property
    def is_whole(self) -> bool:
        return self.offset == 0 and self.length_bytes == self.size_bytes


@dataclass(frozen=True)
class PlannedChunk:
    """One object to be. Numbers start at 1 per node and collection."""

    collection: str
    number: int
    parts: tuple[ChunkPart, ...]

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.shard for part in self.parts))

    @property
    def source_bytes(self) -> int:
        return sum(part.length_bytes for part in self.parts)

    @property
    def at_most_bytes(self) -> int:
        """A bound of the object's size: with what tar adds to each file, and compression to what it cannot compress."""
        archive_bytes = self.source_bytes + FRAMING_BYTES * (len(self.parts) + 1)
        return archive_bytes + archive_bytes // 64


def pack(
    collection: str,
    files_by_shard: Iterable[tuple[str, Sequence[SourceFile]]],
    *,
    target_bytes: int,
    split_bytes: int | None = None,
) -> Iterator[PlannedChunk]:
    """All files of a node's shards of one collection, in chunks of about `target_bytes` before compression. The shards
    come in their order, and are read as they are needed.

    Files count with their tar framing, so that a hundred thousand tenants with tiny or empty files fill chunks too.
    Files larger than `split_bytes` are split evenly; None when the servers that may restore do not know the record that
    marks a part (older than 1.35.15 and 1.36.5). Linear in the number of files.
    """
    number, open_parts, open_bytes = 1, list[ChunkPart](), 0
    alone: list[ChunkPart] = []
    for shard, files in files_by_shard:
        for file in in_order(files, collection, shard):
            if file.size_bytes >= target_bytes and not _is_first(file, collection, shard):
                alone += _split(shard, file, split_bytes)
                continue
            weight_bytes = _framed_bytes(file)
            if open_parts and (open_bytes + weight_bytes > target_bytes or len(open_parts) == FILES_OF_CHUNK):
                yield PlannedChunk(collection, number, tuple(open_parts))
                number, open_parts, open_bytes = number + 1, [], 0
            open_parts.append(_whole(shard, file))
            open_bytes += weight_bytes
    last = [tuple(open_parts)] if open_parts else []
    for parts in itertools.chain(last, ((part,) for part in alone)):
        yield PlannedChunk(collection, number, parts)
        number += 1


@dataclass
class Packing:
    """What is planned as a whole, gathered chunk by chunk."""

    bytes_total: int = 0
    parts: int = 0
    shards_of_chunks: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    """collection -> number of the chunk -> shards in it"""
    bytes_of_collections: dict[str, int] = field(default_factory=dict)
    _digest: "hashlib._Hash" = field(default_factory=lambda: hashlib.sha256(PACKING.encode()))

    def add(self, chunk: PlannedChunk) -> None:
        """The next one."""
        self.bytes_total += chunk.source_bytes
        self.parts += len(chunk.parts)
        self.shards_of_chunks.setdefault(chunk.collection, {})[str(chunk.number)] = chunk.shards
        of_collection = self.bytes_of_collections.get(chunk.collection, 0)
        self.bytes_of_collections[chunk.collection] = of_collection + chunk.source_bytes
        for part in chunk.parts:
            told = (chunk.collection, chunk.number, part.path, part.offset, part.length_bytes)
            self._digest.update("\0".join(map(str, told)).encode(errors="surrogateescape") + b"\n")

    @property
    def chunks(self) -> int:
        return sum(len(of) for of in self.shards_of_chunks.values())

    @property
    def digest(self) -> str:
        """SHA-256 that tells one packing from another: what lies where in which chunk."""
        return self._digest.hexdigest()


def survey(chunks: Iterable[PlannedChunk]) -> Packing:
    packing = Packing()
    for chunk in chunks:
        packing.add(chunk)
    return packing


def in_order(files: Iterable[SourceFile], collection: str, shard: str) -> list[SourceFile]:
    """As they are packed."""
    rank = {f"{collection.lower()}/{shard}/{name}": position for position, name in enumerate(FIRST_FILES)}
    return sorted(files, key=lambda file: (rank.get(file.path, len(rank)), file.path))


def _is_first(file: SourceFile, collection: str, shard: str) -> bool:
    return file.path.removeprefix(f"{collection.lower()}/{shard}/") in FIRST_FILES


def _framed_bytes(file: SourceFile) -> int:
    return TAR_BLOCK_BYTES + -(-file.size_bytes // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES


def _whole(shard: str, file: SourceFile) -> ChunkPart:
    return ChunkPart(shard, file.path, 0, file.size_bytes, file.size_bytes, file.mode)


def _split(shard: str, file: SourceFile, split_bytes: int | None) -> Iterator[ChunkPart]:
    if split_bytes is None or file.size_bytes <= split_bytes:
        yield _whole(shard, file)
        return
    count = -(-file.size_bytes // split_bytes)
    length = -(-file.size_bytes // count)
    for offset in range(0, file.size_bytes, length):
        yield ChunkPart(shard, file.path, offset, min(length, file.size_bytes - offset), file.size_bytes, file.mode)
