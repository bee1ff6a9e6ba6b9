"""Small writes and whole reads on a store, as several steps need them: exact, idempotent, hashed.

An object of a completed backup is never replaced: before anything that exists is written over, the marker is looked
for.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent
from weaviate_backup.layout import keys
from weaviate_backup.storage.object_store import ObjectStore, exists
from weaviate_backup.stored.meter import Meter

log = logging.getLogger(__name__)
READ_BLOCK_BYTES = 1 << 20
DOCUMENT_LIMIT_BYTES = 1 << 30
"""A descriptor of a hundred thousand tenants has tens of megabytes; more than this is no descriptor."""


def prefix_of(backup_id: str) -> str:
    """Of all keys of a backup."""
    return f"{backup_id}/"


def folder_of(backup_id: str, node: str) -> str:
    """Of all keys that one node writes."""
    return f"{prefix_of(backup_id)}{node}/"


def sizes_of(store: ObjectStore, prefix: str) -> dict[str, int]:
    """Key -> bytes of every object below the prefix, as the store lists them now."""
    return {each.key: each.size_bytes for each in store.list(prefix)}


def put_exactly(store: ObjectStore, key: str, content: bytes, *, backup_id: str) -> None:
    """Store a document; one that is there with the same bytes is success, one of an earlier attempt is replaced."""
    try:
        store.put(key, lambda: iter((content,)), if_absent=True)
    except ObjectExists:
        if read_document(store, key) != content:
            replace(store, key, content, backup_id=backup_id)


def replace(store: ObjectStore, key: str, content: bytes, *, backup_id: str) -> None:
    refuse_committed(store, backup_id)
    store.delete([key])
    store.put(key, lambda: iter((content,)), if_absent=True)


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
    """The whole of a small object. One that is absurdly large is refused before it is read."""
    size_bytes = store.stat(key).size_bytes
    if size_bytes > DOCUMENT_LIMIT_BYTES:
        raise Permanent("HostileBackup", f"{key} has {size_bytes} bytes; no descriptor is that large")
    with store.open(key) as stream:
        return stream.read()


def find_document(store: ObjectStore, key: str) -> bytes | None:
    """The object's content, None when there is no such object."""
    try:
        return read_document(store, key)
    except ObjectNotFound:
        return None


def hash_object(store: ObjectStore, key: str, meter: Meter) -> tuple[int, str]:
    """Size and SHA-256 of every byte as the store gives it back, counted as done."""
    return hash_blocks(meter.counted(read_blocks(store, key)))


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
