"""A directory that every agent can reach: one file per object, under its key.

An object appears whole or not at all: written beside its place, synced, then linked or renamed there and the directory
synced. Names starting with a dot are ours while a put runs and are never listed.
"""

import errno
import io
import os
import secrets
import stat as modes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent, Transient
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo, lock_unsupported

UNFINISHED_PREFIX = ".unfinished-"


class FilesystemStore:
    """An `ObjectStore` below `root/path`."""

    def __init__(self, root: Path, *, path: str = "") -> None:
        self._root = root
        self._directory = root / _checked(path.strip("/")) if path.strip("/") else root

    def put(self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False) -> ObjectInfo:
        target = self._directory / _checked(key)
        temporary = target.with_name(f"{UNFINISHED_PREFIX}{secrets.token_hex(8)}")
        with _classified(key):
            if if_absent and target.exists():
                raise ObjectExists(key)
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            size_bytes = _write(temporary, make_blocks(), key)
            with _classified(key, writing=True):
                _publish(temporary, target, key, if_absent=if_absent)
        finally:
            with _classified(key):
                temporary.unlink(missing_ok=True)
        with _classified(key):
            self._sync_above(target)
        return ObjectInfo(key, size_bytes)

    @contextmanager
    def open(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        with _classified(key):
            source = (self._directory / _checked(key)).open("rb", buffering=0)
        with source:
            with _classified(key):
                source.seek(start)
                found_bytes = os.fstat(source.fileno()).st_size - start
            if found_bytes < (length or 0):
                raise Permanent("RangeOutside", f"{key} has only {found_bytes} of {length} bytes from {start} on")
            yield cast(BinaryIO, _Exactly(source, max(0, found_bytes) if length is None else length, key))

    def stat(self, key: str) -> ObjectInfo:
        with _classified(key):
            found = (self._directory / _checked(key)).stat()
        if not modes.S_ISREG(found.st_mode):
            raise ObjectNotFound(key)
        return ObjectInfo(key, found.st_size)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for key, path in self._files(prefix):
            if not path.name.startswith(UNFINISHED_PREFIX):
                with _classified(key):
                    size_bytes = _size_of(path)
                if size_bytes is not None:
                    yield ObjectInfo(key, size_bytes)

    def delete(self, keys: Iterable[str]) -> None:
        failure: BackupError | None = None
        for key in keys:
            path = self._directory / _checked(key)
            try:
                with _classified(key):
                    path.unlink(missing_ok=True)
                    self._remove_empty(path.parent)
            except BackupError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def abort_unfinished(self, prefix: str) -> int:
        removed = 0
        for key, path in self._files(prefix):
            if path.name.startswith(UNFINISHED_PREFIX):
                with _classified(key):
                    path.unlink(missing_ok=True)
                    self._remove_empty(path.parent)
                removed += 1
        return removed

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        raise lock_unsupported("filesystem")

    def check(self) -> None:
        if not self._root.is_dir():
            raise Permanent(
                "DirectoryNotFound",
                "spec.filesystem.volume is not mounted here, or its root is no directory; check the claim or share",
            )
        with _classified(""):
            nearest = next(path for path in (self._directory, *self._directory.parents) if os.path.lexists(path))
        if not nearest.is_dir():
            path = self._directory.relative_to(self._root)
            raise Permanent(
                "PathNoDirectory",
                f"spec.filesystem.path {str(path)!r} is, or lies below, something that is no directory; move it away, "
                "or make a location with another path",
            )
        with _classified(""), os.scandir(self._directory if self._directory.exists() else self._root) as entries:
            next(entries, None)

    def _files(self, prefix: str) -> Iterator[tuple[str, Path]]:
        """Files whose key starts with `prefix`, unfinished ones too."""
        folder = prefix.rpartition("/")[0]
        start = self._directory / _checked(folder) if folder else self._directory
        with _classified(prefix):
            for directory, folders, names in os.walk(start, onerror=_refuse_unless_missing):
                folders.sort()
                for name in sorted(names):
                    path = Path(directory) / name
                    key = path.relative_to(self._directory).as_posix()
                    if key.startswith(prefix):
                        yield key, path

    def _sync_above(self, target: Path) -> None:
        for directory in target.parents:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if directory == self._root:  # the location's own directory may be as new as the object
                return

    def _remove_empty(self, directory: Path) -> None:
        """Keys have no folders, so an empty directory is only a left-over of our own."""
        while directory != self._directory and directory.is_relative_to(self._directory):
            try:
                directory.rmdir()
            except OSError:
                return
            directory = directory.parent


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


def _write(path: Path, blocks: Iterator[bytes], key: str) -> int:
    """What the blocks themselves raise passes as it is: a source that cannot be read is no failure of the store."""
    size_bytes = 0
    with _classified(key, writing=True):
        output = path.open("xb", buffering=0)
    with output:
        for block in blocks:
            with _classified(key, writing=True):
                view = memoryview(block)
                while view:
                    view = view[output.write(view) :]
            size_bytes += len(block)
        with _classified(key, writing=True):
            os.fsync(output.fileno())
    return size_bytes


def _publish(temporary: Path, target: Path, key: str, *, if_absent: bool) -> None:
    if not if_absent:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)
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


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted while we list
        return None


def _refuse_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


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
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if writing:  # a directory that was empty was just removed beside us
            raise Transient("FilesystemFailure", f"spec.filesystem: {key}: {error.strerror}") from error
        raise ObjectNotFound(key) from error
    except OSError as error:
        kind, reason, cure = REASONS.get(error.errno or 0, (Transient, "FilesystemFailure", ""))
        raise kind(reason, f"spec.filesystem: {key or 'its root'}: {error.strerror}{cure}") from error
