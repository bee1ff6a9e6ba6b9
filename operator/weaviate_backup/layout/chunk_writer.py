"""Writes one chunk: files in tar framing, compressed, as a stream of blocks, with a checksum of everything in and out.

Regular files only, named relative to Weaviate's data root. A part of a split file carries the PAX record that Weaviate
(1.35.15, 1.36.5 and later) reads its offset from. Files are opened by the caller; this module touches no path.
"""

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.compression import LEVELS, compress
from weaviate_backup.layout.packing import ChunkPart, PlannedChunk

OFFSET_RECORD = "WEAVIATE.fileOffset"
READ_BYTES = 1 << 20
END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class PartRecord:
    """What went into a chunk of one file: `length_bytes` from `offset` on with this SHA-256 (hexadecimal)."""

    path: str
    offset: int
    length_bytes: int
    sha256: str


@dataclass(frozen=True)
class ChunkRecord:
    """What was stored: size and SHA-256 of the object, and of every part in it."""

    number: int
    stored_bytes: int
    sha256: str
    parts: tuple[PartRecord, ...]


class ChunkWriter:
    """One planned chunk. `blocks` may be called again, then everything starts from zero.

    `open_source` opens a part's file at its beginning. Raises `SourceChanged` when a file has not the planned size.
    """

    def __init__(self, chunk: PlannedChunk, *, open_source: Callable[[ChunkPart], BinaryIO], level: str) -> None:
        self._chunk = chunk
        self._open_source = open_source
        self._compression = LEVELS[level]
        self._record: ChunkRecord | None = None

    @property
    def record(self) -> ChunkRecord:
        """Of the last complete run of `blocks`."""
        assert self._record is not None, "the chunk was not written to its end"
        return self._record

    def blocks(self) -> Iterator[bytes]:
        """The stored stream, in blocks of about 1 MiB."""
        self._record = None
        parts: list[PartRecord] = []
        digest, stored_bytes = hashlib.sha256(), 0
        for block in compress(self._archive(parts), self._compression):
            digest.update(block)
            stored_bytes += len(block)
            yield block
        self._record = ChunkRecord(self._chunk.number, stored_bytes, digest.hexdigest(), tuple(parts))

    def _archive(self, parts: list[PartRecord]) -> Iterator[bytes]:
        for part in self._chunk.parts:
            digest = hashlib.sha256()
            yield header(part)
            with self._open_source(part) as source:
                for block in _read_part(source, part):
                    digest.update(block)
                    yield block
            remainder = part.length_bytes % tarfile.BLOCKSIZE
            if remainder:
                yield bytes(tarfile.BLOCKSIZE - remainder)
            parts.append(PartRecord(part.path, part.offset, part.length_bytes, digest.hexdigest()))
        yield END_OF_ARCHIVE


def header(part: ChunkPart) -> bytes:
    """A tar header, with PAX records where the name, the size or the offset need one. Times and owners are not kept."""
    info = tarfile.TarInfo(part.path)
    info.size = part.length_bytes
    info.mode = part.mode
    if not part.is_whole:
        info.pax_headers = {OFFSET_RECORD: str(part.offset)}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _read_part(source: BinaryIO, part: ChunkPart) -> Iterator[bytes]:
    if part.offset:
        source.seek(part.offset)
    remaining = part.length_bytes
    while remaining:
        block = source.read(min(READ_BYTES, remaining))
        if not block:
            raise _changed(part, f"{remaining} bytes short")
        remaining -= len(block)
        yield block
    if part.offset + part.length_bytes == part.size_bytes and source.read(1):
        raise _changed(part, "longer than planned")


def _changed(part: ChunkPart, how: str) -> Permanent:
    return Permanent(
        "SourceChanged",
        f"{part.path} is {how} (planned {part.size_bytes} bytes): a frozen file must not change; make a new backup",
    )
