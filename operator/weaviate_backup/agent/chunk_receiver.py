"""Unpacks one chunk as it streams in: files under the private directory, every part hashed against the manifest.

Names were judged by the reader before anything is opened. Parts are written at their offset without truncating, since
parts of one file come in different chunks at the same time; a file that must not exist yet is never followed as a link.
"""

import errno
import hashlib
import os
import threading

from weaviate_backup.agent.wanted_files import WantedChunk
from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.chunk_reader import ReadEntry, read_chunk
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.meter import Meter

FILE_MODE = 0o600
"""The owner, which is Weaviate's own user, must be able to read and write."""
OTHERS_MODE = 0o044
"""All that a chunk may ask for beyond: no manifest vouches for modes, and nobody else has to write, or run a file."""

FILE_BYTES = 512
"""What a file takes at least of the volume, if only an inode: millions of empty ones fill it, too."""
MOST_FILES = 1_000_000

CHUNK_REASONS = frozenset({"BackupDamaged", "HostileBackup"})
"""What the reader says of a chunk without knowing its key."""


IMPOSSIBLE_NAME = frozenset(
    {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EFBIG}
)
"""How a file system refuses what no server can have had: a file and a folder of one name, parts too long, too far."""


class ChunkReceiver:
    """Writes below `directory/<Class>/`. Used from many threads at once.

    No chunk may hold more than its manifest says; those without one not more than `limit_bytes` and `limit_files`, all
    together.
    """

    def __init__(
        self, store: ObjectStore, directory: Place, meter: Meter, *, limit_bytes: int, limit_files: int = MOST_FILES
    ) -> None:
        self._store = store
        self._limit_files = self._left_files = limit_files
        self._limit_bytes = limit_bytes
        self._left_bytes = limit_bytes
        self._lock = threading.Lock()
        self._directory = directory
        self._meter = meter

    def receive(self, chunk: WantedChunk) -> None:
        """All entries of the chunk, none more and none less than the manifest says, when there is one."""
        try:
            self._receive(chunk)
        except Permanent as error:
            if error.reason not in CHUNK_REASONS or chunk.key in error.message:
                raise
            raise Permanent(error.reason, f"{chunk.key}: {error.message}") from error

    def _receive(self, chunk: WantedChunk) -> None:
        seen: set[tuple[str, int]] = set()
        target = self._directory / chunk.collection
        limit_bytes = self._limit_bytes if chunk.parts is None else chunk.source_bytes
        limit_entries = self._limit_files if chunk.parts is None else len(chunk.parts)
        with self._store.open(chunk.key) as stream:
            for entry in read_chunk(
                stream, compression=chunk.compression, collection=chunk.collection,
                limit_bytes=limit_bytes, limit_entries=limit_entries,
            ):  # fmt: skip
                if chunk.only is None or entry.path == chunk.only:
                    self._write(target, entry, chunk)
                    seen.add((entry.path, entry.offset))
        missing = chunk.parts.keys() - seen if chunk.parts is not None else ()
        if missing:
            path, offset = min(missing)
            raise Permanent("BackupDamaged", f"{chunk.key} lacks {path} from byte {offset}")
        if chunk.only is not None and not seen:
            raise Permanent("BackupDamaged", f"{chunk.key} lacks {chunk.only}")

    def _write(self, target: Place, entry: ReadEntry, chunk: WantedChunk) -> None:
        expected = None
        if chunk.parts is None:
            self._allow(entry)
        else:
            expected = chunk.parts.get((entry.path, entry.offset))
            if expected is None:
                raise Permanent("HostileBackup", f"{chunk.key} holds {entry.path}, which its manifest does not name")
        try:
            digest = self._write_file(target / entry.path, entry)
        except OSError as error:
            if error.errno not in IMPOSSIBLE_NAME:
                raise
            message = f"{chunk.key}: {entry.path} cannot be a file beside the others: {error.strerror}"
            raise Permanent("HostileBackup", message) from error
        self._meter.add(files_done=1)
        if expected is not None and expected != digest:
            raise Permanent("BackupDamaged", f"{chunk.key}: {entry.path} is not what was backed up (SHA-256 differs)")

    def _allow(self, entry: ReadEntry) -> None:
        """Bounded though nothing tells sizes: neither may many chunks fill the volume, nor one file reach past it."""
        if entry.offset + entry.length_bytes > self._limit_bytes:
            where = f"bytes {entry.offset} to {entry.offset + entry.length_bytes}"
            raise Permanent("HostileBackup", f"{entry.path} has {where}, the volume has {self._limit_bytes} free")
        with self._lock:
            self._left_bytes -= entry.length_bytes + FILE_BYTES
            self._left_files -= 1
            exceeded, too_many = self._left_bytes < 0, self._left_files < 0
        if too_many:
            raise Permanent("HostileBackup", f"the chunks hold more than {self._limit_files} files: {entry.path}, …")
        if exceeded:
            message = (
                f"the backup's chunks hold more than the {self._limit_bytes} bytes that are free on the data volume"
            )
            raise Permanent("NotEnoughSpace", f"{message}, and more than the backup says; enlarge it")

    def _write_file(self, place: Place, entry: ReadEntry) -> str:
        """The SHA-256 of what was written."""
        digest, position = hashlib.sha256(), entry.offset
        file = _open(place, (entry.mode & OTHERS_MODE) | FILE_MODE)
        try:
            for block in entry.blocks:
                self._meter.add(bytes_done=len(block))
                digest.update(block)
                written = 0
                while written < len(block):
                    written += os.pwrite(file, block[written:], position + written)
                position += len(block)
        finally:
            os.close(file)
        return digest.hexdigest()


def _open(place: Place, mode: int) -> int:
    try:
        return place.descriptor(os.O_WRONLY, create_mode=mode)
    except FileNotFoundError:
        place.parent.make_directory(mode=0o755)
        return place.descriptor(os.O_WRONLY, create_mode=mode)
