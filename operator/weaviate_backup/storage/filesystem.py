"""A directory that every agent can reach: one file per object, under its key.

An object appears whole or not at all: written beside its place, synced, then linked or renamed there and the directory
synced. Names starting with a dot are ours while a put runs and are never listed.

Others write to the volume, too, so all of it is reached by `weaviate_backup.beneath`. A link, a FIFO or a device on the
way to an object, in its place or in a folder that is listed is `UnexpectedEntry`, and no listing leaves it out. What
deletes or replaces an object takes away such an entry itself, and nothing behind it.
"""

import errno
import io
import os
import re
import secrets
import stat as modes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from weaviate_backup.beneath import Place, Root, UnexpectedEntry, write_all
from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent, Transient
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo, lock_unsupported

UNFINISHED_PREFIX = ".unfinished-"
DELETED_BUT_OPEN = re.compile(r"\.nfs[0-9a-f]{24}")
"""The name that an NFS client gives a file which is deleted while somebody beside it has it open, until it is closed
(`nfs_sillyrename` in Linux)."""

MOST_FOLDERS = 64
"""In each other. No key of ours has a quarter of it, and a walk takes the longer for each, the deeper it is."""


class FilesystemStore:
    """An `ObjectStore` below `root/path`."""

    def __init__(self, root: Path, *, path: str = "") -> None:
        self._root = Root(root).place
        self._directory = self._root / _checked(path.strip("/")) if path.strip("/") else self._root

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        del at_most_bytes  # nothing is cut
        target = self._directory / _checked(key)
        temporary = target.beside(f"{UNFINISHED_PREFIX}{secrets.token_hex(8)}")
        with _classified(key, writing=True):
            if if_absent and target.exists():
                target.is_file()  # what is no object is said to be none
                raise ObjectExists(key)
            self._make_folders(target.parent)
        try:
            size_bytes = _write(temporary, make_blocks(), key)
            with _classified(key, writing=True):
                _publish(temporary, target, key, if_absent=if_absent)
        finally:
            with _classified(key, writing=True):
                temporary.unlink(missing_ok=True)
        with _classified(key, writing=True):
            target.parent.sync_from_root()  # the location's own directory may be as new as the object
        return ObjectInfo(key, size_bytes)

    @contextmanager
    def open(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        with _classified(key):
            source = (self._directory / _checked(key)).open()
        with source:
            with _classified(key):
                source.seek(start)
                found_bytes = os.fstat(source.fileno()).st_size - start
            if found_bytes < (length or 0):
                raise Permanent("RangeOutside", f"{key} has only {found_bytes} of {length} bytes from {start} on")
            yield cast(BinaryIO, _Exactly(source, max(0, found_bytes) if length is None else length, key))

    def stat(self, key: str) -> ObjectInfo:
        place = self._directory / _checked(key)
        with _classified(key):
            found = place.stat()
            if not modes.S_ISREG(found.st_mode) and not place.is_file():
                raise ObjectNotFound(key)
        return ObjectInfo(key, found.st_size)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for key, size_bytes, unfinished in self._files(prefix):
            if not unfinished:
                yield ObjectInfo(key, size_bytes)

    def delete(self, keys: Iterable[str]) -> None:
        failure: BackupError | None = None
        for key in keys:
            place = self._directory / _checked(key)
            try:
                self._delete(place, key)
            except BackupError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def abort_unfinished(self, prefix: str) -> int:
        removed = 0
        for key, _, unfinished in self._files(prefix):
            if unfinished:
                self._delete(self._directory / key, key)
                removed += 1
        return removed

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        raise lock_unsupported("filesystem")

    def check(self) -> None:
        with _classified(""):
            self._require_root()
            nearest = self._root
            for part in self._directory.parts:
                below = nearest / part
                if not below.exists():
                    break
                if not below.is_directory():
                    raise Permanent(
                        "PathNoDirectory",
                        f"spec.filesystem.path {self._directory.below(self._root)!r} is, or lies below, something that "
                        "is no directory; move it away, or make a location with another path",
                    )
                nearest = below
            nearest.names()

    def _require_root(self) -> None:
        if not self._root.exists():
            raise Permanent(
                "DirectoryNotFound",
                "spec.filesystem.volume is not mounted here, or its root is no directory; check the claim or share",
            )

    def _make_folders(self, folder: Place) -> None:
        try:
            folder.make_directory()
        except FileNotFoundError:
            self._require_root()
            raise

    def _files(self, prefix: str) -> Iterator[tuple[str, int, bool]]:
        """Key, size and whether it is unfinished of the files whose key starts with `prefix`."""
        start = prefix.rpartition("/")[0]
        pending = [_checked(start) if start else ""]
        while pending:
            folder = pending.pop()
            place = self._directory / folder if folder else self._directory
            with _classified(prefix):
                if len(place.parts) > MOST_FOLDERS:
                    raise UnexpectedEntry(place, f"below {MOST_FOLDERS} directories")
                entries = _entries(place)
            inner = []
            for name, status in entries:
                key = f"{folder}/{name}" if folder else name
                if modes.S_ISDIR(status.st_mode):
                    inner.append(key)
                elif key.startswith(prefix) and not DELETED_BUT_OPEN.fullmatch(name):
                    yield key, status.st_size, name.startswith(UNFINISHED_PREFIX)
            pending += [key for key in reversed(inner) if f"{key}/".startswith(prefix)]

    def _delete(self, place: Place, key: str) -> None:
        """It, and the folders that are empty then: keys have none, so those are only left-overs of our own."""
        with suppress(ObjectNotFound), _classified(key):
            place.unlink(missing_ok=True)
            folder = place.parent
            while len(folder.parts) > len(self._directory.parts):
                try:
                    folder.remove_directory()
                except OSError:
                    return
                folder = folder.parent


class _Exactly(io.RawIOBase):
    """A file read up to a length; one that ends before is no complete read."""

    def __init__(self, source: io.FileIO, length: int, key: str) -> None:
        self._source = source
        self._remaining = length
        self._key = key

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")[: self._remaining]
        with _classified(self._key):
            count = self._source.readinto(view) or 0
        if count == 0 and len(view):
            raise Transient("TruncatedBody", f"{self._key} ended {self._remaining} bytes early")
        self._remaining -= count
        return count


def _write(place: Place, blocks: Iterator[bytes], key: str) -> int:
    """What the blocks themselves raise passes as it is: a source that cannot be read is no failure of the store."""
    size_bytes = 0
    with _classified(key, writing=True):
        output = place.create()
    with output:
        for block in blocks:
            with _classified(key, writing=True):
                write_all(output.fileno(), block)
            size_bytes += len(block)
        with _classified(key, writing=True):
            os.fsync(output.fileno())
    return size_bytes


def _publish(temporary: Place, target: Place, key: str, *, if_absent: bool) -> None:
    if not if_absent:
        temporary.rename_to(target)
        return
    try:
        temporary.link_to(target)
    except FileExistsError as error:
        raise ObjectExists(key) from error
    except OSError as error:
        if error.errno not in LINKS_UNSUPPORTED:
            raise
        raise Permanent(
            "HardLinksUnsupported",
            "spec.filesystem.volume cannot link files, without which nothing can be written once; use NFS, a local "
            "or a cluster file system, or spec.s3",
        ) from error


def _checked(key: str) -> str:
    path = PurePosixPath(key)
    if not key or path.is_absolute() or ".." in path.parts or str(path) != key or "\0" in key:
        raise Permanent("KeyRefused", f"{key!r} is no object's name below a directory")
    if path.name.startswith(UNFINISHED_PREFIX):
        raise Permanent("KeyRefused", f"{key!r} starts like an unfinished object")
    return key


def _entries(folder: Place) -> list[tuple[str, os.stat_result]]:
    """Of a folder that may never have been one, or is none any more."""
    try:
        entries = folder.entries()
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        folder.is_directory()  # refuses what is no file either
        return []
    for name, _ in entries:
        if not name.isascii() and not _is_text(name):
            raise UnexpectedEntry(folder / name, "no UTF-8")
    return entries


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


LINKS_UNSUPPORTED = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
REASONS: dict[int, tuple[type[Permanent] | type[Transient], str, str]] = {
    errno.EACCES: (
        Permanent,
        "AccessDenied",
        "; the agent's user needs the right to read and write on spec.filesystem.volume",
    ),
    errno.EPERM: (
        Permanent,
        "AccessDenied",
        "; the agent's user needs the right to read and write on spec.filesystem.volume",
    ),
    errno.EROFS: (Permanent, "ReadOnlyFilesystem", "; mount spec.filesystem.volume writable, or set spec.readOnly"),
    errno.ENOSPC: (Permanent, "DiskFull", "; free space on spec.filesystem.volume"),
    errno.EDQUOT: (Permanent, "DiskFull", "; raise the quota of spec.filesystem.volume"),
    errno.ENAMETOOLONG: (Permanent, "KeyRefused", "; shorten spec.filesystem.path or the backup's id"),
}


@contextmanager
def _classified(key: str, *, writing: bool = False) -> Iterator[None]:
    try:
        yield
    except UnexpectedEntry as error:
        raise Permanent(error.reason, f"spec.filesystem: {error.message}") from error
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if writing:  # a directory that was empty was just removed beside us
            raise Transient("FilesystemFailure", f"spec.filesystem: {key}: {error.strerror}") from error
        raise ObjectNotFound(key) from error
    except OSError as error:
        kind, reason, cure = REASONS.get(error.errno or 0, (Transient, "FilesystemFailure", ""))
        raise kind(reason, f"spec.filesystem: {key or 'its root'}: {error.strerror}{cure}") from error
