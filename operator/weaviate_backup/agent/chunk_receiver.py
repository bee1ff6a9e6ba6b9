"""Unpacks one chunk as it streams in: files under the private directory, every part hashed against the manifest.

Names were judged by the reader before anything is opened. Parts are written at their offset without truncating, since
parts of one file come in different chunks at the same time; a file that must not exist yet is never followed as a link.
"""

import errno
import hashlib
import io
import os
import threading

from weaviate_backup.agent.wanted_files import WantedChunk
from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.chunk_reader import ReadEntry, read_chunk, shown
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.meter import Meter

FILE_MODE = 0o600
"""The owner, which is Weaviate's own user, must be able to read and write."""
OTHERS_MODE = 0o044
"""All that a chunk may ask for beyond: no manifest vouches for modes, and nobody else has to write, or run a file."""

FILE_BYTES = 512
"""What a file takes at least of the volume, if only its name: millions of empty ones fill it, too."""

CHUNK_REASONS = frozenset({"BackupDamaged", "HostileBackup"})
"""What the reader says of a chunk without knowing its key."""

IMPOSSIBLE_NAME = frozenset(
    {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EFBIG}
)
"""How a file system refuses what no server can have had: a file and a folder of one name, parts too long, too far."""


class ChunkReceiver:
    """Writes below `directory/<Class>/`. Used from many threads at once.

    No chunk may hold more than its manifest says; those without one nothing that their node's descriptor does not name,
    and not more than `limit_bytes`, all together. Files and directories of all are `limit_inodes` at most.
    """

    def __init__(
        self, store: ObjectStore, directory: Place, meter: Meter, *, limit_bytes: int, limit_inodes: int
    ) -> None:
        self._store = store
        self._limit_inodes = self._left_inodes = limit_inodes
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
        with self._store.open(chunk.key) as stream:
            for entry in read_chunk(
                stream, compression=chunk.compression, collection=chunk.collection,
                limit_bytes=limit_bytes, limit_entries=chunk.limit_entries, is_named=chunk.is_named,
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
                message = f"{chunk.key} holds {shown(entry.path)}, which its manifest does not name"
                raise Permanent("HostileBackup", message)
        try:
            digest = self._write_file(target / entry.path, entry)
        except OSError as error:
            if error.errno not in IMPOSSIBLE_NAME:
                raise
            message = f"{chunk.key}: {shown(entry.path)} cannot be a file beside the others: {error.strerror}"
            raise Permanent("HostileBackup", message) from error
        self._meter.add(files_done=1)
        if expected is not None and expected != digest:
            message = f"{chunk.key}: {shown(entry.path)} is not what was backed up (SHA-256 differs)"
            raise Permanent("BackupDamaged", message)

    def _allow(self, entry: ReadEntry) -> None:
        """Bounded though nothing tells sizes: neither may many chunks fill the volume, nor one file reach past it."""
        if entry.offset + entry.length_bytes > self._limit_bytes:
            where = f"bytes {entry.offset} to {entry.offset + entry.length_bytes}"
            message = f"{shown(entry.path)} has {where}, the volume has {self._limit_bytes} free"
            raise Permanent("HostileBackup", message)
        with self._lock:
            self._left_bytes -= entry.length_bytes + FILE_BYTES
            exceeded = self._left_bytes < 0
        if exceeded:
            message = (
                f"the backup's chunks hold more than the {self._limit_bytes} bytes that are free on the data volume"
            )
            raise Permanent("NotEnoughSpace", f"{message}, and more than the backup says; enlarge it")

    def _write_file(self, place: Place, entry: ReadEntry) -> str:
        """The SHA-256 of what was written."""
        digest, position = hashlib.sha256(), entry.offset
        with self._open(place, (entry.mode & OTHERS_MODE) | FILE_MODE) as file:
            for block in entry.blocks:
                self._meter.add(bytes_done=len(block))
                digest.update(block)
                written = 0
                while written < len(block):
                    written += os.pwrite(file.fileno(), block[written:], position + written)
                position += len(block)
        return digest.hexdigest()

    def _open(self, place: Place, mode: int) -> io.FileIO:
        """A new file, or the one that another part began."""
        try:
            return self._create(place, mode)
        except FileNotFoundError:
            self._make_directory(place.parent)
            return self._create(place, mode)

    def _create(self, place: Place, mode: int) -> io.FileIO:
        try:
            file = place.create(mode=mode)
        except FileExistsError:
            return place.open(writable=True)
        try:
            self._count_inodes(1)
        except BaseException:
            file.close()
            raise
        return file

    def _make_directory(self, place: Place) -> None:
        """With those above it. Each is counted before it is made: a name is enough for thirty of them."""
        missing = []
        while place.look() is None:
            missing.append(place)
            place = place.parent
        self._count_inodes(len(missing))
        for each in reversed(missing):
            each.make_directory(mode=0o755)

    def _count_inodes(self, count: int) -> None:
        with self._lock:
            self._left_inodes -= count
            exceeded = self._left_inodes < 0
        if exceeded:
            message = f"the backup has more files and folders than the {self._limit_inodes} that a restore may make"
            raise Permanent("NotEnoughSpace", f"{message}: half of the data volume's free inodes; enlarge it")
