"""What lies below a directory that others write to: the only place that opens, links, renames or removes there.

Weaviate and its agent share a volume, and all users of a filesystem location share one. Whoever else writes there can
exchange any entry for another at any instant. So a `Place` is no path: it cannot be handed to `open`, its names are
checked when it is made, and each use resolves it anew by directory descriptors, through real directories only. What is
opened, linked or sent is a regular file, judged by its descriptor before one byte of it is read or written.

Raises `OSError` as the system does (callers classify: a file that vanished is often no failure), `UnsafeName` for names
that are no path below a directory, and `UnexpectedEntry` for whatever is neither a regular file nor a directory.
"""

import ctypes
import errno
import io
import os
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from weaviate_backup import no_links
from weaviate_backup.errors import Permanent
from weaviate_backup.no_links import COPY_BLOCK_BYTES, UnexpectedEntry, judged, kind_of, write_all

__all__ = ["COPY_BLOCK_BYTES", "Held", "Place", "Root", "UnexpectedEntry", "write_all"]

MOST_HELD = 128


@dataclass(frozen=True)
class Root:
    """A directory that is ours to enter and others' to write to, such as a data root or a mounted store."""

    path: Path
    """As it is named; absolute."""

    def __post_init__(self) -> None:
        if not self.path.is_absolute() or ".." in self.path.parts:
            raise Permanent("UnsafeName", f"{self.path} is no absolute path of a directory")

    @property
    def place(self) -> "Place":
        """The directory itself."""
        return Place(self, ())

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Of the way there. Links of the machine's own file system (`/var/run`) are resolved; those on a volume are
        what an attacker would make, and stay to be refused."""
        return no_links.way_to(self.path)


@dataclass(frozen=True)
class Place:
    """A directory or file below a root, there or not. Made with `/`; not a path, on purpose."""

    root: Root
    parts: tuple[str, ...]

    def __truediv__(self, name: str) -> "Place":
        """Below this one. `name` may have several parts, none of which leads upwards."""
        return Place(self.root, (*self.parts, *no_links.safe_parts(name)))

    def __str__(self) -> str:
        return str(self.root.path.joinpath(*self.parts))

    @property
    def name(self) -> str:
        return self.parts[-1] if self.parts else self.root.path.name

    @property
    def parent(self) -> "Place":
        """The directory above; of the root itself there is none to go to."""
        if not self.parts:
            raise Permanent("UnsafeName", f"{self} has nothing above it that is ours")
        return Place(self.root, self.parts[:-1])

    def beside(self, name: str) -> "Place":
        """Another entry of the same directory."""
        return self.parent / name

    def below(self, other: "Place") -> str:
        """This place's name seen from `other`, with `/`."""
        count = len(other.parts)
        if self.root != other.root or self.parts[:count] != other.parts or len(self.parts) == count:
            raise ValueError(f"{self} is not below {other}")
        return "/".join(self.parts[count:])

    # Looks

    def look(self) -> os.stat_result | None:
        """What stands there now, whatever it is, and a link as a link. None: nothing."""
        try:
            return self.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def stat(self) -> os.stat_result:
        """As `look`, but its absence is an error."""
        if not self.parts:
            with self.opened() as descriptor:
                return os.fstat(descriptor)
        with self._above() as above:
            return os.stat(self.name, dir_fd=above, follow_symlinks=False)

    def exists(self) -> bool:
        return self.look() is not None

    def is_file(self) -> bool:
        """A regular file; anything but a file or a directory is refused."""
        return modes.S_ISREG(self._judged_mode())

    def is_directory(self) -> bool:
        """A real directory; anything but a file or a directory is refused."""
        return modes.S_ISDIR(self._judged_mode())

    def entries(self) -> list[tuple[str, os.stat_result]]:
        """Names directly below with their status, in order. What vanishes meanwhile is left out."""
        with self.opened() as descriptor:
            return self._entries_of(descriptor)

    def _entries_of(self, descriptor: int) -> list[tuple[str, os.stat_result]]:
        found = []
        for name in sorted(os.listdir(descriptor)):
            try:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                continue
            judged(
                status.st_mode, Place(self.root, (*self.parts, name))
            )  # which is spelled out only when it is refused
            found.append((name, status))
        return found

    def names(self) -> list[str]:
        """Of everything directly below, in order, unjudged."""
        with self.opened() as descriptor:
            return sorted(os.listdir(descriptor))

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every regular file below, with its name seen from here, in order. `FileNotFoundError` when a directory that
        was listed is gone."""
        return self._files("", 0)

    def _files(self, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
        no_links.refuse_deep(self, depth)
        for name, status in self.entries():
            if modes.S_ISREG(status.st_mode):
                yield prefix + name, status
            else:
                yield from (self / name)._files(f"{prefix}{name}/", depth + 1)

    def born(self) -> int | None:
        """When this directory was made, in nanoseconds, wherever it was moved since; None where nobody knows. Numbers
        of inodes are used again, this is not."""
        with self.opened() as descriptor:
            return no_links.born_nanoseconds(descriptor)

    def free_bytes(self, *, full_percentage: int = 100) -> int:
        """Of its file system, for an ordinary user, until so much of it is in use."""
        with self.opened() as descriptor:
            status = os.fstatvfs(descriptor)
        kept = -(status.f_blocks * (full_percentage - 100) // 100)
        return max(0, status.f_bavail - kept) * status.f_frsize

    def free_files(self) -> int:
        """The same; where their number is not fixed, as many as there are bytes."""
        with self.opened() as descriptor:
            status = os.fstatvfs(descriptor)
        return status.f_favail if status.f_files else status.f_bavail * status.f_frsize

    # Reads and writes

    def open(self, *, writable: bool = False) -> io.FileIO:
        """An existing regular file, from its start. Unbuffered."""
        return io.FileIO(self.descriptor(os.O_RDWR if writable else os.O_RDONLY), "r+b" if writable else "rb")

    def create(self, *, mode: int = 0o666) -> io.FileIO:
        """A new file to write; `FileExistsError` for whatever stands there."""
        with self._above() as above:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return io.FileIO(os.open(self.name, flags, mode, dir_fd=above), "wb")

    def descriptor(self, flags: int, *, create_mode: int | None = None) -> int:
        """Of the regular file there, opened with `flags`; with `create_mode` it is made when there is none.

        The entry is looked at before it is opened: to open a FIFO would wait, to open a device can do something.
        """
        for _ in range(2):
            if create_mode is not None:
                try:
                    with self._above() as above:
                        made = flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                        return os.open(self.name, made, create_mode, dir_fd=above)
                except FileExistsError:
                    pass
            try:
                with self._judged_file() as found:
                    return os.open(f"/proc/self/fd/{found}", flags | os.O_CLOEXEC)
            except FileNotFoundError:
                if create_mode is None:
                    raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))

    def read_bytes(self, *, limit_bytes: int) -> bytes:
        """The whole of a small file; `FileTooLarge` when it has more than that."""
        with self.open() as stream:
            content = bytearray()
            while block := stream.read(min(COPY_BLOCK_BYTES, limit_bytes + 1 - len(content))):
                content += block
                if len(content) > limit_bytes:
                    raise Permanent("FileTooLarge", f"{self} has more than the {limit_bytes} bytes it may have")
        return bytes(content)

    def copy_to(self, target: "Place", *, durable: bool = True) -> int:
        """A copy of this file as a new one, with the same permissions. Its bytes: those it had when it was opened, so
        that a file which grows without end does not keep us."""
        with self.open() as source, target.create() as output:
            status = os.fstat(source.fileno())
            total_bytes = no_links.copy_content(source.fileno(), output.fileno(), status.st_size)
            os.fchmod(output.fileno(), status.st_mode & 0o777)
            if durable:
                os.fsync(output.fileno())
        return total_bytes

    def link_to(self, target: "Place") -> None:
        """Give this very file a second name."""
        with Held() as held:
            held.link(self, target)

    def rename_to(self, target: "Place") -> None:
        """In place of what is there, as rename(2)."""
        with self._above() as source, target._above() as above:
            os.rename(self.name, target.name, src_dir_fd=source, dst_dir_fd=above)

    def make_directory(self, *, mode: int = 0o777, exist_ok: bool = True) -> None:
        """With those above it that are missing, up to the root, which must be there."""
        missing = [self]
        while missing:
            place = missing[-1]
            try:
                place._make(mode, exist_ok=exist_ok or place is not self)
            except FileNotFoundError:
                if not place.parts or len(missing) > len(self.parts):
                    raise
                missing.append(place.parent)
            else:
                missing.pop()

    def _make(self, mode: int, *, exist_ok: bool) -> None:
        if not self.parts:
            with self.opened():
                return
        try:
            with self._above() as above:
                os.mkdir(self.name, mode, dir_fd=above)
        except FileExistsError:
            if not exist_ok or not self.is_directory():
                raise

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Take a file's name away; of a link the link itself."""
        try:
            with self._above() as above:
                os.unlink(self.name, dir_fd=above)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_directory(self) -> None:
        """An empty one."""
        with self._above() as above:
            os.rmdir(self.name, dir_fd=above)

    def remove_tree(self) -> None:
        """The directory and all below, following nothing. It may be gone or going already."""
        try:
            with self._above() as above:
                no_links.remove_tree(self.name, above, str(self), 0)
        except FileNotFoundError:
            return

    def sync(self) -> None:
        """Make the names in this directory durable."""
        with self.opened() as descriptor:
            os.fsync(descriptor)

    def sync_from_root(self) -> None:
        """The same, and those of all directories that lead here: each may be as new as this one. The root comes first,
        so that a name is never durable before what it lies in."""
        for count in range(len(self.parts) + 1):
            Place(self.root, self.parts[:count]).sync()

    def sync_file_system(self) -> None:
        """Make everything durable that was written to the file system of this directory."""
        with self.opened() as descriptor:
            if no_links.libc.syncfs(descriptor) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(self))

    # How

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of this directory."""
        descriptor = no_links.open_directory((*self.root.parts, *self.parts), os.O_RDONLY, self)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _above(self) -> Iterator[int]:
        """A descriptor of the directory that holds this entry."""
        descriptor = self.parent._hold()
        try:
            yield descriptor
        except OSError as error:
            _name_whole(error, self)
            raise
        finally:
            os.close(descriptor)

    def _hold(self) -> int:
        """A descriptor of this directory from which its entries can be reached, and nothing else be done."""
        return no_links.open_directory((*self.root.parts, *self.parts), os.O_PATH, self)

    @contextmanager
    def _judged_file(self) -> Iterator[int]:
        """A descriptor that can only be looked at, of a regular file: whatever happens to its name, it stays that."""
        with self._above() as above:
            found = os.open(self.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            mode = os.fstat(found).st_mode
            if modes.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))
            if not modes.S_ISREG(mode):
                raise UnexpectedEntry(self, kind_of(mode))
            yield found
        finally:
            os.close(found)

    def _judged_mode(self) -> int:
        status = self.look()
        return 0 if status is None else judged(status.st_mode, self)


class Held:
    """Directories that stay open while many of their files are linked or looked at: each file is two calls instead of
    eight, while a shard is halted. `with` closes them; one thread at a time."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, ...], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _above(self, place: Place) -> int:
        key = (*place.root.parts, *place.parts[:-1])
        found = self._open.get(key)
        if found is None:
            if len(self._open) >= MOST_HELD:
                self.close()
            found = self._open[key] = place.parent._hold()
        return found

    def stat(self, place: Place) -> os.stat_result:
        """What stands there now, a link as a link."""
        try:
            return os.stat(place.name, dir_fd=self._above(place), follow_symlinks=False)
        except OSError as error:
            _name_whole(error, place)
            raise

    def is_file(self, place: Place) -> bool:
        """As `Place.is_file`."""
        try:
            mode = self.stat(place).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        return modes.S_ISREG(judged(mode, place))

    def link(self, source: Place, target: Place) -> os.stat_result:
        """Give a file a second name, whose directory is made when it is missing. Returns the file's status."""
        try:
            try:
                above = self._above(target)
            except FileNotFoundError:
                target.parent.make_directory()
                above = self._above(target)
            of = self._above(source)
            os.link(source.name, target.name, src_dir_fd=of, dst_dir_fd=above, follow_symlinks=False)
            status = os.stat(target.name, dir_fd=above, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.EPERM and not modes.S_ISREG(mode := self.stat(source).st_mode):
                raise UnexpectedEntry(source, kind_of(mode)) from error
            _name_whole(error, source)
            raise
        if not modes.S_ISREG(status.st_mode):  # the entry itself was linked, nothing that it points to
            os.unlink(target.name, dir_fd=above)
            raise UnexpectedEntry(source, kind_of(status.st_mode))
        return status


def _name_whole(error: OSError, place: Place) -> None:
    """Calls that start from a descriptor tell the last part alone."""
    if error.filename == place.name:
        error.filename = str(place)
