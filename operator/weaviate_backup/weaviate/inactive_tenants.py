"""Inactive (COLD) tenants: shards that no server has in memory, read from disk by rule.

A cleanly unloaded shard is quiescent: every file is closed, and what is not in a segment is in a write-ahead log. No
lock of the server is open to us, and any query may wake a tenant, so the caller compares: fingerprint and tenant status
before, copy, fingerprint and status again. If `changes` finds any, the copy is thrown away and the tenant is cut as an
active one. Nothing here writes.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.weaviate.late_writes import LATE_WRITES
from weaviate_backup.weaviate.shard_source import ShardCut, ShardFile
from weaviate_backup.weaviate.snapshot_staging import BOOKKEEPING, shard_directory
from weaviate_backup.weaviate.write_capture import CAPTURED

DRIVER = "inactive-files"
SEALED_SUFFIXES = {".bloom", ".cna", ".metadata", ".condensed", ".snapshot", ".sorted"}


@dataclass(frozen=True)
class FileState:
    """What shows that a file was written to, or is another file by now."""

    size_bytes: int
    modified_nanoseconds: int
    inode: int


Fingerprint = dict[str, FileState]
"""Shard-relative path -> state, of every file a backup takes."""


def cut_inactive(data_root: Place, collection: str, shard: str) -> tuple[ShardCut, Fingerprint]:
    """The files of an inactive tenant, and the fingerprint to compare with after they were copied.

    `ShardNotFound`: the shard has no directory here. `ShardIncomplete`: it was not unloaded cleanly.
    """
    directory = shard_directory(data_root, collection, shard)
    fingerprint = fingerprint_of(directory)
    missing = [name for name in BOOKKEEPING if name not in fingerprint]
    if missing:
        raise Transient("ShardIncomplete", f"inactive tenant {collection}/{shard} lacks {', '.join(missing)}")
    files = tuple(ShardFile(name, directory / name, mutable=not is_sealed(name)) for name in in_order(fingerprint))
    return ShardCut(collection=collection, shard=shard, driver=DRIVER, files=files, halt_seconds=0.0), fingerprint


def fingerprint_of(directory: Place) -> Fingerprint:
    """State of every file of a shard directory that belongs to a backup."""
    if not directory.is_directory():
        raise Permanent("ShardNotFound", f"no directory {directory.name} of that shard in {directory.parent}")
    try:
        return {
            name: FileState(status.st_size, status.st_mtime_ns, status.st_ino)
            for name, status in directory.files()
            if belongs(name)
        }
    except FileNotFoundError as error:
        what = f"{directory.parent.name}/{directory.name}"
        raise Transient("TenantChanged", f"{what} lost a directory while it was read") from error


def changes(before: Fingerprint, after: Fingerprint) -> tuple[str, ...]:
    """Paths that came, went or were written to between two fingerprints. Empty: the copy between them is whole."""
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


def belongs(name: str) -> bool:
    """Whether a file of an inactive shard is taken.

    Inside `lsm` that is every file directly in a bucket, logs included, and all records of migrations; elsewhere, and
    at the root, everything that is not scratch. Late writes left by a restore that did not replay them are not taken:
    replayed later they would undo newer writes. Nor is what was captured of a tenant before it was put to sleep.
    """
    path = PurePosixPath(name)
    if path.suffix == ".tmp" or path.parts[0] in (LATE_WRITES, CAPTURED):
        return False
    if path.parts[0] == "lsm":
        return len(path.parts) == 3 or path.parts[1:2] == (".migrations",)
    return True


def is_sealed(name: str) -> bool:
    """Whether a file never changes in place, so that a hard link to it is as good as a copy."""
    path = PurePosixPath(name)
    if path.parts[:2] == ("lsm", ".migrations"):
        return False
    if path.suffix == ".db":
        return len(path.parts) == 3 and path.parts[0] == "lsm" and path.name.startswith("segment-")
    return path.suffix in SEALED_SUFFIXES


def in_order(fingerprint: Fingerprint) -> tuple[str, ...]:
    """By name, with `indexcount` last as in any cut."""
    return (*(name for name in sorted(fingerprint) if name != "indexcount"), "indexcount")
