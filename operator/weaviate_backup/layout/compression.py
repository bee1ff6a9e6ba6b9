"""How chunks are compressed: Weaviate's three types, and what its names of levels mean for them."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import zstandard


class CompressionType(StrEnum):
    """The word in a node's descriptor that selects the decompressor. Absent means gzip."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"


@dataclass(frozen=True)
class Compression:
    """A type and how hard to try, in the codec's own numbers."""

    type: CompressionType
    effort: int


LEVELS: dict[str, Compression] = {
    "DefaultCompression": Compression(CompressionType.GZIP, 6),
    "BestSpeed": Compression(CompressionType.GZIP, 1),
    "BestCompression": Compression(CompressionType.GZIP, 9),
    "ZstdBestSpeed": Compression(CompressionType.ZSTD, 1),
    "ZstdDefaultCompression": Compression(CompressionType.ZSTD, 3),
    "ZstdBestCompression": Compression(CompressionType.ZSTD, 8),
    "NoCompression": Compression(CompressionType.NONE, 0),
}
"""By the names of Weaviate's request body."""

ZSTD_WINDOW_LIMIT_BYTES = 1 << 25
"""Four times what a server writes. A hostile frame asks for as much memory, and there are as many frames as streams."""
GZIP_WINDOW_BITS = 31
BLOCK_BYTES = 1 << 20


def compress(blocks: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    """One stream of the given type, in blocks of at least 1 MiB but for the last."""
    match compression.type:
        case CompressionType.GZIP:
            return gathered(_deflated(blocks, zlib.compressobj(compression.effort, zlib.DEFLATED, GZIP_WINDOW_BITS)))
        case CompressionType.ZSTD:
            compressor = zstandard.ZstdCompressor(level=compression.effort, write_content_size=False)
            return _chunked(blocks, compressor.chunker(chunk_size=BLOCK_BYTES))
        case CompressionType.NONE:
            return gathered(blocks)


def _chunked(blocks: Iterable[bytes], chunker: "zstandard.ZstdCompressionChunker") -> Iterator[bytes]:
    """The codec fills whole blocks itself, which saves joining them."""
    for block in blocks:
        yield from chunker.compress(block)
    yield from chunker.finish()  # type: ignore[no-untyped-call]


def _deflated(blocks: Iterable[bytes], compressor: "zlib._Compress") -> Iterator[bytes]:
    for block in blocks:
        yield compressor.compress(block)
    yield compressor.flush()


def gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of at least 1 MiB but for the last, none of them empty."""
    waiting: list[bytes] = []
    waiting_bytes = 0
    for piece in pieces:
        waiting.append(piece)
        waiting_bytes += len(piece)
        if waiting_bytes >= BLOCK_BYTES:
            yield b"".join(waiting)
            waiting, waiting_bytes = [], 0
    if waiting_bytes:
        yield b"".join(waiting)
