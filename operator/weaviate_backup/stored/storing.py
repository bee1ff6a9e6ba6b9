"""What several steps look for, read and hash in a store."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from weaviate_backup.answers import document_bounds
from weaviate_backup.errors import BackupError, ObjectNotFound, Permanent
from weaviate_backup.layout import keys
from weaviate_backup.layout.json_bounds import MORE_MEMORY, BeyondBounds, JsonBounds, TooDeep, values_in
from weaviate_backup.storage.object_store import MakeBlocks, ObjectStore, exists
from weaviate_backup.stored.meter import Meter

log = logging.getLogger(__name__)
READ_BLOCK_BYTES = 1 << 20
PACKED = ".zst"
"""Such documents are unpacked and bounded line by line."""


@dataclass(frozen=True)
class Document:
    """What is to be stored, and how it is told from anything else."""

    make_blocks: MakeBlocks
    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Self:
        """One that memory holds."""
        return cls(lambda: iter((content,)), len(content), hashlib.sha256(content).hexdigest())


def prefix_of(backup_id: str) -> str:
    """Of all keys of a backup."""
    return f"{backup_id}/"


def folder_of(backup_id: str, node: str) -> str:
    """Of all keys that one node writes."""
    return f"{prefix_of(backup_id)}{node}/"


def sizes_of(store: ObjectStore, prefix: str) -> dict[str, int]:
    """Key -> bytes of every object below the prefix, as the store lists them now."""
    return {each.key: each.size_bytes for each in store.list(prefix)}


def refuse_committed(store: ObjectStore, backup_id: str) -> None:
    """Nothing of a committed backup is deleted or written over."""
    if is_committed(store, backup_id):
        raise Permanent("BackupCommitted", f"backup {backup_id!r} is complete; its objects are never changed")


def is_committed(store: ObjectStore, backup_id: str) -> bool:
    return exists(store, keys.backup_config(backup_id))


def lock_backup(store: ObjectStore, backup_id: str, *, days: int | None, completed_at: datetime) -> datetime | None:
    """Keep every object that lies under the identifier now, for those days from its completion; until when. Without
    days nothing is kept. Again it is no error, so that who goes on for a killed process ends it."""
    if days is None:
        return None
    until = completed_at + timedelta(days=days)
    store.lock([each.key for each in store.list(prefix_of(backup_id))], until)
    return until


def abort_unfinished(store: ObjectStore, folder: str) -> None:
    """Rid a folder that only we write to of what dead processes left half sent. It costs money, but fails nothing."""
    try:
        aborted = store.abort_unfinished(folder)
    except BackupError as error:
        log.warning("unfinished uploads below %s could not be looked for: %s", folder, error)
        return
    if aborted:
        log.info("aborted %d unfinished uploads below %s", aborted, folder)


def read_document(store: ObjectStore, key: str) -> bytes:
    """The whole of a small object. One that memory would not hold, or its values, is refused before it is read."""
    bounds = document_bounds()
    size_bytes = store.stat(key).size_bytes
    if size_bytes > bounds.size_bytes:
        raise too_large(key, f"{size_bytes} bytes, more than {bounds.size_bytes}")
    content = read_small(store, key, limit_bytes=bounds.size_bytes)
    if not key.endswith(PACKED):
        refuse_beyond(content, bounds, what=key)
    return content


def read_small(store: ObjectStore, key: str, *, limit_bytes: int) -> bytes:
    """The whole of an object that is known to be small, whatever the store has of that name."""
    with store.open(key) as stream:
        blocks, found_bytes = list[bytes](), 0
        while block := stream.read(min(READ_BLOCK_BYTES, limit_bytes + 1 - found_bytes)):
            blocks.append(block)
            found_bytes += len(block)
            if found_bytes > limit_bytes:
                raise too_large(key, f"more than {limit_bytes} bytes")
    return b"".join(blocks)


def refuse_beyond(content: bytes, bounds: JsonBounds, *, what: str) -> None:
    """Before JSON out of a backup is parsed. Raises `DocumentTooLarge` and, for what no program writes,
    `HostileBackup`."""
    try:
        bounds.refuse_beyond(content)
    except TooDeep as error:
        raise Permanent("HostileBackup", f"{what} is no descriptor or manifest: {error}") from error
    except BeyondBounds as error:
        raise too_large(what, str(error)) from error


def too_large(what: str, how: str) -> Permanent:
    message = f"{what} is larger than this process can hold: {how}; if the backup is right, {MORE_MEMORY}"
    return Permanent("DocumentTooLarge", message)


class Budget:
    """Of several documents that are held at once: as much as two may take of memory, and the values of one."""

    def __init__(self) -> None:
        bounds = document_bounds()
        self._bytes, self._values = 2 * bounds.size_bytes, bounds.values

    def take(self, content: bytes, *, what: str) -> None:
        """Raises `DocumentTooLarge` once they are too much together."""
        self.take_values(values_in(content), len(content), what=what)

    def take_values(self, values: int, size_bytes: int, *, what: str) -> None:
        """The same, of what is held of a document that is never held whole."""
        self._bytes -= size_bytes
        self._values -= values
        if self._bytes < 0 or self._values < 0:
            raise too_large(what, "together with the documents of other nodes")


def find_document(store: ObjectStore, key: str) -> bytes | None:
    """The object's content, None when there is no such object."""
    try:
        return read_document(store, key)
    except ObjectNotFound:
        return None


def hash_object(store: ObjectStore, key: str, meter: Meter) -> tuple[int, str]:
    """Size and SHA-256 of every byte as the store gives it back, counted as done."""
    return hash_blocks(meter.counted(read_blocks(store, key)))


def is_stored_as(store: ObjectStore, key: str, size_bytes: int, sha256: str) -> bool:
    """Whether an object that is there has these very bytes. Its size first: a stranger's may be of any."""
    return store.stat(key).size_bytes == size_bytes and hash_object(store, key, Meter()) == (size_bytes, sha256)


def hash_blocks(blocks: Iterable[bytes]) -> tuple[int, str]:
    """Size and SHA-256 of all."""
    digest, size_bytes = hashlib.sha256(), 0
    for block in blocks:
        digest.update(block)
        size_bytes += len(block)
    return size_bytes, digest.hexdigest()


def read_blocks(store: ObjectStore, key: str) -> Iterator[bytes]:
    with store.open(key) as stream:
        while block := stream.read(READ_BLOCK_BYTES):
            yield block
