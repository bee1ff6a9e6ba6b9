"""A disk below the product's own calls that loses power, or is full, at any one of them.

It is strict: what was written to a file lasts once that file, or the whole file system, was synced, and a name once its
directory was; what was renamed has one name, the old one, or the new one once either directory was synced. What a loss
of power leaves is put together from that: the same inodes, with files that were never synced empty, as journaling file
systems leave them.
"""

import errno
import os
import shutil
import stat as modes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from weaviate_backup import no_links

CHANGES = ("write", "pwrite", "sendfile", "ftruncate", "rename", "link", "unlink", "mkdir", "rmdir")
REMOVALS = frozenset({"unlink", "rmdir"})
WRITES = frozenset({"write", "pwrite", "sendfile"})


class PowerLost(BaseException):
    """The machine is off: nobody catches this, and nothing is written after it."""


class _Rename(NamedTuple):
    """`source` and `target` are directories; all but the names are inodes."""

    source: int
    old_name: str
    target: int
    new_name: str
    inode: int


class FailingDisk:
    """Below `root`. `calls` counts changes and syncs; at the one numbered `fails_at` it goes off, or is full from then
    on until `heal`."""

    def __init__(self, root: Path, *, fails_at: int | None = None, full: bool = False) -> None:
        self.root = root
        self.calls = 0
        self._fails_at = fails_at
        self._full = full
        self._lock = threading.RLock()
        self._content: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._renames: list[_Rename] = []
        self._removed: list[tuple[int, str, int]] = []
        self._pins: dict[int, int] = {}
        self._keep(root)

    def __del__(self) -> None:
        for descriptor in self._pins.values():
            os.close(descriptor)

    def _pin(self, path: Path, inode: int) -> None:
        """While it is open its number is not used again for another."""
        if inode not in self._pins:
            self._pins[inode] = os.open(path, os.O_PATH | os.O_NOFOLLOW)

    @property
    def failed(self) -> bool:
        return self._fails_at is not None and self.calls >= self._fails_at

    def heal(self) -> None:
        self._fails_at = None

    @contextmanager
    def below(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Every call of this process passes here."""
        with monkeypatch.context() as patched:
            for name in CHANGES:
                patched.setattr(os, name, self._watched(name, getattr(os, name)))
            patched.setattr(os, "fsync", self._syncing(os.fsync, self._synced))
            patched.setattr(
                no_links, "libc", _Libc(self._syncing(no_links.libc.syncfs, lambda _: self._keep(self.root)))
            )
            yield

    def after_power_loss(self, *, lucky: str = "", removals_last: bool = False) -> None:
        """Only what was synced; and the file of this name as it was written, by a kernel that came to it in time.
        `removals_last`: it came to all that was removed, too, though not to what was renamed before."""
        for above, name, inode in self._removed if removals_last else ():
            if self._names.get(above, {}).get(name) == inode:
                del self._names[above][name]
        for path in self.root.rglob(lucky) if lucky else ():
            self._content[path.stat().st_ino] = path.read_bytes()
        pool = self.root.with_name(f"{self.root.name}-inodes")
        pool.mkdir()
        for directory, folders, files in os.walk(self.root, topdown=False):
            for path in (Path(directory) / name for name in (*files, *folders)):
                path.rename(pool / str(path.stat().st_ino))
        self._build(self.root, self.root.stat().st_ino, pool)
        shutil.rmtree(pool)
        self._keep(self.root)

    def _build(self, directory: Path, inode: int, pool: Path) -> None:
        """Those that were removed, and are there again, are made anew."""
        for name, number in self._names.get(inode, {}).items():
            path, kept = directory / name, pool / str(number)
            if number in self._names:
                if kept.exists():
                    kept.rename(path)
                else:
                    path.mkdir()
                self._build(path, number, pool)
                continue
            if kept.exists():
                os.link(kept, path)
            path.write_bytes(self._content.get(number, b""))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self._is_ours(args[0] if args else None, kwargs):
                return call(*args, **kwargs)
            with self._lock:
                self.calls += 1
                if name == "rename" and (self._full or not self.failed):
                    return self._rename(call, args, kwargs)
                if not self.failed:
                    return self._remove(call, args, kwargs) if name in REMOVALS else call(*args, **kwargs)
                if not self._full:
                    raise PowerLost
                if name in WRITES:
                    return self._half(name, call, args, kwargs)
                if name in ("mkdir", "link") and not _is_there(name, args, kwargs):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return call(*args, **kwargs)

        return watched

    def _half(self, name: str, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call that fills the disk comes short, each later one fails."""
        if name == "write" and self.calls == self._fails_at and len(args[1]) > 1:
            return call(args[0], args[1][: len(args[1]) // 2], *args[2:], **kwargs)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _syncing(self, call: Callable[[int], Any], keep: Callable[[int], None]) -> Callable[[int], Any]:
        def synced(descriptor: int) -> Any:
            if not self._is_ours(descriptor, {}):
                return call(descriptor)
            with self._lock:
                self.calls += 1
                if self.failed and not self._full:
                    raise PowerLost
                result = call(descriptor)
                keep(descriptor)
                return result

        return synced

    def _is_ours(self, first: object, kwargs: dict[str, Any]) -> bool:
        """By the descriptor that the call names, of the file or of a directory above."""
        found = kwargs.get("dst_dir_fd", kwargs.get("dir_fd", first))
        if not isinstance(found, int):
            return False
        try:
            return Path(f"/proc/self/fd/{found}").readlink().is_relative_to(self.root)
        except OSError:
            return False

    def _synced(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if modes.S_ISDIR(status.st_mode):
            self._names[status.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
            for entry in os.scandir(path):
                self._pin(path / entry.name, entry.inode())
                if entry.is_dir():
                    self._names.setdefault(entry.inode(), {})
            for rename in [each for each in self._renames if status.st_ino in (each.source, each.target)]:
                self._renames.remove(rename)
                before = self._names.setdefault(rename.source, {})
                if before.get(rename.old_name) == rename.inode:
                    del before[rename.old_name]
                self._names.setdefault(rename.target, {})[rename.new_name] = rename.inode
        elif status.st_nlink:
            self._content[status.st_ino] = path.read_bytes()

    def _rename(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        old_name, new_name = args
        source, target = kwargs["src_dir_fd"], kwargs["dst_dir_fd"]
        inode = os.lstat(old_name, dir_fd=source).st_ino
        result = call(*args, **kwargs)
        self._pin(Path(f"/proc/self/fd/{target}") / new_name, inode)
        self._renames.append(_Rename(os.fstat(source).st_ino, old_name, os.fstat(target).st_ino, new_name, inode))
        return result

    def _remove(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        above = kwargs["dir_fd"]
        inode = os.lstat(args[0], dir_fd=above).st_ino
        result = call(*args, **kwargs)
        self._removed.append((os.fstat(above).st_ino, args[0], inode))
        return result

    def _keep(self, directory: Path) -> None:
        """All of it."""
        self._renames.clear()
        with os.scandir(directory) as entries:
            found = list(entries)
        self._names[directory.stat().st_ino] = {entry.name: entry.inode() for entry in found}
        for entry in found:
            path = directory / entry.name
            self._pin(path, entry.inode())
            if entry.is_dir():
                self._keep(path)
            else:
                self._content[entry.inode()] = path.read_bytes()


def _is_there(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """What is to be made: then that is what is said, on a full disk, too."""
    try:
        os.lstat(args[0 if name == "mkdir" else 1], dir_fd=kwargs.get("dst_dir_fd", kwargs.get("dir_fd")))
    except FileNotFoundError:
        return False
    return True


class _Libc:
    """The C library, but for the one call that syncs."""

    def __init__(self, syncfs: Callable[[int], Any]) -> None:
        self._libc = no_links.libc
        self.syncfs = syncfs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._libc, name)
