"""Reads a chunk back, ours or a server's, as a stream of files whose names are safe to use below a private directory.

Everything in a store is foreign: names that are absolute, climb, or belong to another collection, entries that are no
plain files, and streams that grow beyond the given limit are refused by name before the caller sees them.

The standard library takes a damaged header, or the end of the stream, for the end of an archive, and would so lose
files without a word. Here an archive ends with its end mark or not at all.
"""

import gzip
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import IO, Any, BinaryIO, Self, cast

import zstandard

from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout.chunk_writer import OFFSET_RECORD
from weaviate_backup.layout.compression import ZSTD_WINDOW_LIMIT_BYTES, CompressionType

READ_BYTES = 1 << 20
NAME_LIMIT = 4096
DEPTH_LIMIT = 32
"""Parts of a name, each but the last a directory to make; a server's have six."""
EXTENSION_LIMIT_BYTES = 64 << 10
"""Of the headers that extend one entry (long names, PAX records), all together: they are held in memory."""
EXTENSIONS_OF_AN_ENTRY = 4
RECORD = re.compile(rb"([0-9]{1,6}) ([^=\n]+)=")
"""Of PAX: its length in bytes, a keyword, a value that ends with a line break."""
EXTENSIONS = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
TRAILER_LIMIT_BYTES = 16 << 20
"""What may follow the end mark after decompression; archivers pad with some kilobytes."""


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
    stream: BinaryIO,
    *,
    compression: CompressionType,
    collection: str,
    limit_bytes: int | None = None,
    limit_entries: int | None = None,
    is_named: Callable[[str], bool] | None = None,
) -> Iterator[ReadEntry]:
    """Every file of the chunk. The stream is read to its very end, so that a checksum over it is complete.

    `limit_bytes` bounds the sum of all files, `limit_entries` their number, folders included; `is_named` tells whether
    a path may be in it. Raises `HostileBackup` or `BackupDamaged`; the stream's own errors pass.
    """
    total_bytes, entries = 0, 0
    decompressed = _decompressed(stream, compression)
    with _naming_damage(collection), _open_archive(decompressed) as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # a chunk may hold a hundred thousand files
            entries += 1
            if limit_entries is not None and entries > limit_entries:
                raise Permanent("HostileBackup", f"a chunk of {collection} holds more than {limit_entries} entries")
            if info.isdir():
                continue
            _check_kind(info)
            path = checked_path(info.name, collection)
            if is_named is not None and not is_named(path):
                message = f"a chunk holds {shown(path)}, which the descriptor of its node does not name"
                raise Permanent("HostileBackup", message)
            if info.size < 0:  # a record in a header may say so
                raise Permanent("HostileBackup", f"{shown(path)} has {info.size} bytes")
            total_bytes += info.size
            if limit_bytes is not None and total_bytes > limit_bytes:
                raise Permanent("HostileBackup", f"{shown(path)} makes the chunk larger than {limit_bytes} bytes")
            source = archive.extractfile(info)
            assert source is not None
            yield ReadEntry(path, _offset_of(info), info.size, info.mode & 0o777, _blocks(source, info, collection))
        _drain(decompressed, collection)
    while stream.read(READ_BYTES):
        pass


class _Header(tarfile.TarInfo):
    """A header that is whole and small, or an error."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end mark
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no header and no end mark at byte {archive.offset}: {error}") from error

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """The library's hook for what a type means, called before anything of the member is read."""
        if self.type == tarfile.XGLTYPE:  # the library keeps what it says for the whole archive; no server writes it
            raise Permanent("HostileBackup", "a chunk has a header for all entries")
        extensions = cast(_Archive, archive).extensions
        if self.type in EXTENSIONS:
            extensions.append(self.size)
        if self.size < 0 or sum(extensions) > EXTENSION_LIMIT_BYTES or len(extensions) > EXTENSIONS_OF_AN_ENTRY:
            raise Permanent("HostileBackup", f"a chunk has an entry with headers of {sum(extensions)} bytes")
        if self.type not in EXTENSIONS:
            extensions.clear()
        return cast(tarfile.TarInfo, super()._proc_member(archive))  # type: ignore[misc]

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """The library passes over what is no record, the offset of a part perhaps, and believes what a record says of
        its length: those that lie in one another make gigabytes of some kilobytes."""
        content = archive.fileobj.read(self._block(self.size))  # type: ignore[attr-defined]
        _refuse_broken_records(content[: self.size])
        cast(_Archive, archive).give_again(content)
        return cast(tarfile.TarInfo, super()._proc_pax(archive))  # type: ignore[misc]

    def _refuse_sparse(self, *_: object) -> None:
        """Instead of reading a map of holes, which says itself how long it is."""
        raise Permanent("HostileBackup", "a chunk has a file with holes")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


class _Archive(tarfile.TarFile):
    """Knows the sizes of the headers that extend the entry which is read now."""

    fileobj: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.extensions: list[int] = []
        super().__init__(*arguments, **options)

    def give_again(self, content: bytes) -> None:
        """What was read of the stream is what the library's next read gets."""
        stream = self.fileobj

        def read(_: int) -> bytes:
            self.fileobj = stream
            return content

        self.fileobj = SimpleNamespace(read=read)


def _refuse_broken_records(content: bytes) -> None:
    position = 0
    while position < len(content):
        record = RECORD.match(content, position)
        end = position + int(record[1]) if record else 0
        if record is None or not record.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise tarfile.ReadError("a header's records are damaged")
        if record[2] == b"size" and not content[record.end() : end - 1].isdigit():  # zero, to the library
            raise tarfile.ReadError("a header's size is no number")
        position = end


def _open_archive(stream: IO[bytes]) -> tarfile.TarFile:
    return _Archive.open(fileobj=stream, mode="r|", bufsize=READ_BYTES, tarinfo=_Header)


def _drain(decompressed: IO[bytes], collection: str) -> None:
    """To the end of the stream, so that the codec compares its own checksum."""
    remaining = TRAILER_LIMIT_BYTES
    while block := decompressed.read(READ_BYTES):
        remaining -= len(block)
        if remaining < 0:
            raise Permanent("HostileBackup", f"a chunk of {collection} goes on long after the end of its archive")


def shown(name: str) -> str:
    """A file's name in a message."""
    return excerpt(name, 128)


def checked_path(name: str, collection: str) -> str:
    """The name, if it is a plain path `<class in lower case>/<shard>/<file>` and nothing else."""
    parts = name.split("/")
    prefix = collection.lower()
    if not name or len(name) > NAME_LIMIT or len(parts) > DEPTH_LIMIT or "\\" in name or not name.isprintable():
        raise Permanent("HostileBackup", f"a chunk of {collection} names a file {shown(name)!r}")
    if any(part in ("", ".", "..") for part in parts):
        raise Permanent("HostileBackup", f"a chunk of {collection} names {shown(name)!r}, which is no plain path")
    if len(parts) < 3 or parts[0] != prefix:
        raise Permanent("HostileBackup", f"a chunk of {collection} names {shown(name)!r} outside {prefix}/")
    return name


def _check_kind(info: tarfile.TarInfo) -> None:
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        kind = "a link" if info.issym() or info.islnk() else "no regular file"
        raise Permanent("HostileBackup", f"{shown(info.name)!r} in a chunk is {kind}")


def _offset_of(info: tarfile.TarInfo) -> int:
    text = info.pax_headers.get(OFFSET_RECORD, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Permanent("HostileBackup", f"{shown(info.name)!r} starts at offset {excerpt(text, 40)!r}")
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


DAMAGE = (tarfile.TarError, zstandard.ZstdError, zlib.error, gzip.BadGzipFile, EOFError, RecursionError, ValueError)
"""`ValueError`: the library's own, of records and numbers in headers that are none."""


@contextmanager
def _naming_damage(collection: str) -> Iterator[None]:
    """What the codecs raise, as one of our errors; those of the stream below pass as they are."""
    try:
        yield
    except DAMAGE as error:
        raise Permanent("BackupDamaged", f"a chunk of {collection} cannot be read: {excerpt(str(error))}") from error


def _blocks(source: IO[bytes], info: tarfile.TarInfo, collection: str) -> Iterator[bytes]:
    remaining = info.size
    while remaining:
        with _naming_damage(collection):
            block = source.read(min(READ_BYTES, remaining))
        if not block:
            raise Permanent("BackupDamaged", f"{shown(info.name)!r} ends {remaining} bytes early")
        remaining -= len(block)
        yield block
