"""Unpacks one chunk as it streams in: files under the private directory, every part hashed against the manifest.

Names were judged by the reader before anything is opened. Parts are written at their offset without truncating, since
parts of one file come in different chunks at the same time; a file that must not exist yet is never followed as a link.
"""

import hashlib
import os
from pathlib import Path

from weaviate_backup.agent.backup_reading import WantedChunk
from weaviate_backup.agent.meter import Meter
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.chunk_reader import ReadEntry, read_chunk
from weaviate_backup.storage.object_store import ObjectStore

FILE_MODE = 0o600
"""The owner, which is Weaviate's own user, must be able to read and write."""


CHUNK_REASONS = frozenset({"BackupDamaged", "HostileBackup"})
"""What the reader says of a chunk without knowing its key."""


class ChunkReceiver:
    """Writes below `directory/<Class>/`. Used from many threads at once.

    No chunk may hold more than its manifest says, or than `limit_bytes` when there is none.
    """

    def __init__(self, store: ObjectStore, directory: Path, meter: Meter, *, limit_bytes: int) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
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
                stream, compression=chunk.compression, collection=chunk.collection, limit_bytes=limit_bytes
            ):
                self._write(target, entry, chunk)
                seen.add((entry.path, entry.offset))
        missing = chunk.parts.keys() - seen if chunk.parts is not None else ()
        if missing:
            path, offset = min(missing)
            raise Permanent("BackupDamaged", f"{chunk.key} lacks {path} from byte {offset}")

    def _write(self, target: Path, entry: ReadEntry, chunk: WantedChunk) -> None:
        path = target / entry.path
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        digest, position = hashlib.sha256(), entry.offset
        file = os.open(path, flags, (entry.mode & 0o777) | FILE_MODE)
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
        self._meter.add(files_done=1)
        if chunk.parts is None:
            return
        expected = chunk.parts.get((entry.path, entry.offset))
        if expected is None:
            raise Permanent("HostileBackup", f"{chunk.key} holds {entry.path}, which its manifest does not name")
        if expected != digest.hexdigest():
            raise Permanent("BackupDamaged", f"{chunk.key}: {entry.path} is not what was backed up (SHA-256 differs)")
