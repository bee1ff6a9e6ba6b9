"""Reads a chunk back, ours or a server's, as a stream of files whose names are safe to use below a private directory.

Everything in a store is foreign: names that are absolute, climb, or belong to another collection, entries that are no
plain files, and streams that grow beyond the given limit are refused by name before the caller sees them.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, BinaryIO, cast

import zstandard

from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout.chunk_writer import OFFSET_RECORD
from weaviate_backup.layout.compression import ZSTD_WINDOW_LIMIT_BYTES, CompressionType

READ_BYTES = 1 << 20
NAME_LIMIT = 4096


@dataclass
class ReadEntry:
    """One file, or a part of it. `blocks` must be used before the next entry is asked for.

    `path` is relative to the data root and starts with the collection's directory and a shard.
    """

    path: str
    offset: int
    length_bytes: int
    mode: int
    blocks: Iterator[bytes]

    @property
    def shard(self) -> str:
        return self.path.split("/", 2)[1]


def read_chunk(
    stream: BinaryIO, *, compression: CompressionType, collection: str, limit_bytes: int | None = None
) -> Iterator[ReadEntry]:
    """Every file of the chunk. The stream is read to its very end, so that a checksum over it is complete.

    `limit_bytes` bounds the sum of all files. Raises `HostileBackup` or `BackupDamaged`; the stream's own errors pass.
    """
    total_bytes = 0
    decompressed = _decompressed(stream, compression)
    with _naming_damage(collection), tarfile.open(fileobj=decompressed, mode="r|", bufsize=READ_BYTES) as archive:
        for info in archive:
            if info.isdir():
                continue
            _check_kind(info)
            path = checked_path(info.name, collection)
            total_bytes += info.size
            if limit_bytes is not None and total_bytes > limit_bytes:
                raise Permanent("HostileBackup", f"{path} makes the chunk larger than {limit_bytes} bytes")
            source = archive.extractfile(info)
            assert source is not None
            yield ReadEntry(path, _offset_of(info), info.size, info.mode & 0o777, _blocks(source, info, collection))
    while stream.read(READ_BYTES):
        pass


def checked_path(name: str, collection: str) -> str:
    """The name, if it is a plain path `<class in lower case>/<shard>/<file>` and nothing else."""
    path = PurePosixPath(name)
    parts = name.split("/")
    prefix = collection.lower()
    if not name or len(name) > NAME_LIMIT or "\0" in name or "\\" in name:
        raise Permanent("HostileBackup", f"a chunk of {collection} names a file {excerpt(name, 80)!r}")
    if path.is_absolute() or any(part in ("", ".", "..") for part in parts):
        raise Permanent("HostileBackup", f"a chunk of {collection} names {excerpt(name, 80)!r}, which is no plain path")
    if len(parts) < 3 or parts[0] != prefix:
        raise Permanent("HostileBackup", f"a chunk of {collection} names {excerpt(name, 80)!r} outside {prefix}/")
    return name


def _check_kind(info: tarfile.TarInfo) -> None:
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse():
        kind = "a link" if info.issym() or info.islnk() else "no regular file"
        raise Permanent("HostileBackup", f"{excerpt(info.name, 80)!r} in a chunk is {kind}")


def _offset_of(info: tarfile.TarInfo) -> int:
    text = info.pax_headers.get(OFFSET_RECORD, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Permanent("HostileBackup", f"{info.name!r} starts at offset {excerpt(text, 40)!r}")
    return int(text)


def _decompressed(stream: BinaryIO, compression: CompressionType) -> IO[bytes]:
    match compression:
        case CompressionType.GZIP:
            return cast(IO[bytes], gzip.GzipFile(fileobj=stream, mode="rb"))
        case CompressionType.ZSTD:
            decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_LIMIT_BYTES)
            return cast(IO[bytes], decompressor.stream_reader(stream, read_across_frames=True, closefd=False))
        case CompressionType.NONE:
            return stream


@contextmanager
def _naming_damage(collection: str) -> Iterator[None]:
    """What the codecs raise, as one of our errors; those of the stream below pass as they are."""
    try:
        yield
    except (tarfile.TarError, zstandard.ZstdError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise Permanent("BackupDamaged", f"a chunk of {collection} cannot be read: {excerpt(str(error))}") from error


def _blocks(source: IO[bytes], info: tarfile.TarInfo, collection: str) -> Iterator[bytes]:
    remaining = info.size
    while remaining:
        with _naming_damage(collection):
            block = source.read(min(READ_BYTES, remaining))
        if not block:
            raise Permanent("BackupDamaged", f"{info.name!r} ends {remaining} bytes early")
        remaining -= len(block)
        yield block
