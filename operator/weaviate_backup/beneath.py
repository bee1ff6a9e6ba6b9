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
import shutil
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from weaviate_backup.errors import Permanent

_OPENAT2 = 437
"""The number of the system call, the same on every architecture (Linux 5.6)."""
_NO_SYMLINKS = 0x04
_NO_MAGIC_LINKS = 0x02
_AT_FDCWD = -100
_ABSENT_CALL = frozenset({errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.EAGAIN})
"""An older kernel, a seccomp profile without the call, or a rename at that very instant: the parts are walked then."""
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_TRUSTED_LINKS = 40
COPY_BLOCK_BYTES = 1 << 20


class UnexpectedEntry(Permanent):
    """Something stands there that none of us makes: a link, a FIFO, a device, a socket."""

    def __init__(self, where: object, kind: str) -> None:
        message = f"{where} is {kind}; only files and directories belong there, so look at who made it, and remove it"
        super().__init__("UnexpectedEntry", message)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = (
    ctypes.c_long,
    ctypes.c_long,
    ctypes.c_char_p,
    ctypes.POINTER(_How),
    ctypes.c_size_t,
)


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
        machine = os.stat("/").st_dev
        pending, done, links = list(self.path.parts[1:]), list[str](), 0
        while pending:
            part = pending.pop(0)
            here = "/" + "/".join((*done, part))
            try:
                found = os.lstat(here)
            except OSError:  # the use will say it
                return (*done, part, *pending)
            if modes.S_ISLNK(found.st_mode) and found.st_dev == machine and links < _MAX_TRUSTED_LINKS:
                links += 1
                target = PurePosixPath(os.path.normpath(PurePosixPath("/", *done, os.readlink(here))))
                pending, done = [*target.parts[1:], *pending], []
            else:
                done.append(part)
        return tuple(done)


@dataclass(frozen=True)
class Place:
    """A directory or file below a root, there or not. Made with `/`; not a path, on purpose."""

    root: Root
    parts: tuple[str, ...]

    def __truediv__(self, name: str) -> "Place":
        """Below this one. `name` may have several parts, none of which leads upwards."""
        return Place(self.root, (*self.parts, *_safe_parts(name)))

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
            if not modes.S_ISREG(status.st_mode) and not modes.S_ISDIR(status.st_mode):
                raise UnexpectedEntry(f"{self}/{name}", _kind(status.st_mode))
            found.append((name, status))
        return found

    def names(self) -> list[str]:
        """Of everything directly below, in order, unjudged."""
        with self.opened() as descriptor:
            return sorted(os.listdir(descriptor))

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every regular file below, with its name seen from here, in order. `FileNotFoundError` when a directory that
        was listed is gone."""
        with self.opened() as descriptor:
            entries = self._entries_of(descriptor)
        for name, status in entries:
            if modes.S_ISREG(status.st_mode):
                yield name, status
            else:
                for inner, found in (self / name).files():
                    yield f"{name}/{inner}", found

    def free_bytes(self) -> int:
        """Of its file system, for an ordinary user."""
        with self.opened() as descriptor:
            status = os.fstatvfs(descriptor)
        return status.f_bavail * status.f_frsize

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
        """A copy of this file as a new one, with the same permissions. Its bytes."""
        total_bytes = 0
        with self.open() as source, target.create() as output:
            while block := source.read(COPY_BLOCK_BYTES):
                write_all(output.fileno(), block)
                total_bytes += len(block)
            os.fchmod(output.fileno(), os.fstat(source.fileno()).st_mode & 0o777)
            if durable:
                os.fsync(output.fileno())
        return total_bytes

    def link_to(self, target: "Place") -> None:
        """Give this very file, once judged, a second name."""
        with self._judged_file() as found, target._above() as above:
            os.link(f"/proc/self/fd/{found}", target.name, dst_dir_fd=above, follow_symlinks=True)

    def rename_to(self, target: "Place") -> None:
        """In place of what is there, as rename(2)."""
        with self._above() as source, target._above() as above:
            os.rename(self.name, target.name, src_dir_fd=source, dst_dir_fd=above)

    def make_directory(self, *, mode: int = 0o777, exist_ok: bool = True) -> None:
        """With those above it that are missing, up to the root, which must be there."""
        if not self.parts:
            with self.opened():
                return
        try:
            with self._above() as above:
                os.mkdir(self.name, mode, dir_fd=above)
        except FileNotFoundError:
            self.parent.make_directory(mode=mode)
            self.make_directory(mode=mode, exist_ok=exist_ok)
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
        for last in (False, True):
            if not self.exists() or (not self.is_directory() and last):
                return
            try:
                with self._above() as above:
                    shutil.rmtree(self.name, dir_fd=above)
                return
            except FileNotFoundError:  # something vanished inside while it was being deleted
                if last:
                    raise

    def sync(self) -> None:
        """Make the names in this directory durable."""
        with self.opened() as descriptor:
            os.fsync(descriptor)

    # How

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of this directory."""
        descriptor = _open_directory((*self.root.parts, *self.parts), os.O_RDONLY, str(self))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _above(self) -> Iterator[int]:
        """A descriptor of the directory that holds this entry."""
        above = self.parent
        descriptor = _open_directory((*self.root.parts, *above.parts), os.O_PATH, str(above))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

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
                raise UnexpectedEntry(self, _kind(mode))
            yield found
        finally:
            os.close(found)

    def _judged_mode(self) -> int:
        status = self.look()
        if status is None:
            return 0
        if not modes.S_ISREG(status.st_mode) and not modes.S_ISDIR(status.st_mode):
            raise UnexpectedEntry(self, _kind(status.st_mode))
        return status.st_mode


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """All of it, however little the system takes at a time."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _safe_parts(name: str) -> tuple[str, ...]:
    parts = tuple(name.split("/"))
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Permanent("UnsafeName", f"{name!r} is no name below a directory")
    return parts


def _kind(mode: int) -> str:
    kinds = (
        (modes.S_ISLNK, "a symbolic link"),
        (modes.S_ISFIFO, "a FIFO"),
        (modes.S_ISSOCK, "a socket"),
        (modes.S_ISBLK, "a block device"),
        (modes.S_ISCHR, "a device"),
    )
    return next((text for judge, text in kinds if judge(mode)), "neither a file nor a directory")


def _open_directory(parts: tuple[str, ...], flags: int, where: str) -> int:
    """By one call that follows no link, or part by part where the kernel has none."""
    path = "/" + "/".join(parts)
    how = _How(flags | _DIRECTORY, 0, _NO_SYMLINKS | _NO_MAGIC_LINKS)
    found = _libc.syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
    if found >= 0:
        return int(found)
    code = ctypes.get_errno()
    if code == errno.ELOOP:
        raise UnexpectedEntry(where, "or lies below a symbolic link")
    if code in _ABSENT_CALL:
        return _walk(parts, flags, where)
    raise OSError(code, os.strerror(code), where)


def _walk(parts: tuple[str, ...], flags: int, where: str) -> int:
    """The same, by one descriptor for each part."""
    here = os.open("/", os.O_PATH | _DIRECTORY)
    for number, part in enumerate(parts, start=1):
        try:
            below = os.open(part, (flags if number == len(parts) else os.O_PATH) | _DIRECTORY, dir_fd=here)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(part, here):
                raise UnexpectedEntry(where, "or lies below a symbolic link") from error
            raise
        finally:
            os.close(here)
        here = below
    return here


def _is_link(name: str, directory: int) -> bool:
    try:
        return modes.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:
        return False
