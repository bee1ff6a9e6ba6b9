"""Lines of text in zstd frames that follow each other: our manifests, and the schema by which nodes freeze."""

import io
from collections.abc import Iterator
from typing import BinaryIO, cast

import zstandard

from weaviate_backup.layout.compression import ZSTD_WINDOW_LIMIT_BYTES


def packed_lines(stream: BinaryIO, *, limit_bytes: int) -> Iterator[bytes]:
    """One at a time, unpacked. One too long is cut one byte beyond the limit, and so passes the bounds of whoever
    parses it. Raises `zstandard.ZstdError` for what is no zstd."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_LIMIT_BYTES)
    with decompressor.stream_reader(stream, read_across_frames=True, closefd=False) as reader:
        buffered = io.BufferedReader(cast(io.RawIOBase, reader))
        while line := buffered.readline(limit_bytes + 1):
            yield line
