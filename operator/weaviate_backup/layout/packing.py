"""Which bytes of which files go into which chunk: decided once, from names and sizes alone, always the same way.

A file at or above the target has chunks of its own, so that big files are sent in parallel and can be reused; the rest
of a shard's files follow each other, and small shards (tenants) share chunks. The first parts of a shard are the three
files that Weaviate expects there.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

TAR_BLOCK_BYTES = 512
FIRST_FILES = ("indexcount", "proplengths", "version")


@dataclass(frozen=True)
class SourceFile:
    """A frozen file. `path` is relative to the data root, with `/`: `<class in lower case>/<shard>/<file>`."""

    path: str
    size_bytes: int
    mode: int = 0o644


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
    files_by_shard: Mapping[str, Sequence[SourceFile]],
    *,
    target_bytes: int,
    split_bytes: int | None = None,
) -> tuple[PlannedChunk, ...]:
    """All files of a node's shards of one collection, in chunks of about `target_bytes` before compression.

    Files count with their tar framing, so that a hundred thousand tenants with tiny or empty files fill chunks too.
    Files larger than `split_bytes` are split evenly; None when the servers that may restore do not know the record that
    marks a part (older than 1.35.15 and 1.36.5). Linear in the number of files.
    """
    alone: list[tuple[ChunkPart, ...]] = []
    shared: list[tuple[ChunkPart, ...]] = []
    open_parts: list[ChunkPart] = []
    open_bytes = 0
    for shard in sorted(files_by_shard):
        for file in _in_order(files_by_shard[shard], collection, shard):
            if file.size_bytes >= target_bytes and not _is_first(file, collection, shard):
                alone.extend((part,) for part in _split(shard, file, split_bytes))
                continue
            weight_bytes = _framed_bytes(file)
            if open_parts and open_bytes + weight_bytes > target_bytes:
                shared.append(tuple(open_parts))
                open_parts, open_bytes = [], 0
            open_parts.append(_whole(shard, file))
            open_bytes += weight_bytes
    if open_parts:
        shared.append(tuple(open_parts))
    return tuple(PlannedChunk(collection, number, parts) for number, parts in enumerate((*shared, *alone), start=1))


def digest_of(chunks: Iterable[PlannedChunk]) -> str:
    """SHA-256 that tells one packing from another: what lies where in which chunk."""
    digest = hashlib.sha256()
    for chunk in chunks:
        for part in chunk.parts:
            told = (chunk.collection, chunk.number, part.path, part.offset, part.length_bytes)
            digest.update("\0".join(map(str, told)).encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()


def _in_order(files: Iterable[SourceFile], collection: str, shard: str) -> list[SourceFile]:
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
