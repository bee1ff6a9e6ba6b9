"""What the kernel is asked so that no link is ever followed: how a directory is opened, a tree removed, a file copied.

`beneath` gives it names; nothing else uses it.
"""

import ctypes
import errno
import os
import stat as modes
from contextlib import suppress
from pathlib import Path, PurePosixPath

from weaviate_backup.errors import Permanent, excerpt, printable

_OPENAT2 = 437
"""The number of the system call, the same on every architecture (Linux 5.6)."""
_NO_SYMLINKS = 0x04
_NO_MAGIC_LINKS = 0x02
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_ABSENT_CALL = frozenset({errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.EAGAIN})
"""An older kernel, a seccomp profile without the call, or a rename at that very instant: the parts are walked then."""
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
COPY_BLOCK_BYTES = 1 << 20
MOST_TRUSTED_LINKS = 40
PATH_BYTES = 4096
"""What the kernel takes as one path, with the NUL at its end."""
DEEPEST = 64
"""Directories in each other; of all that may lie there, nothing comes near it."""
REMOVALS = 3
"""How often a directory is emptied into which somebody goes on writing."""


class UnexpectedEntry(Permanent):
    """Something stands there that none of us makes: a link, a FIFO, a device, a socket."""

    def __init__(self, where: object, kind: str) -> None:
        cure = "neither Weaviate nor an agent puts such a thing there, so see who did, and remove it"
        super().__init__("UnexpectedEntry", f"{printable(str(where))} is {kind}; {cure}")


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.syscall.argtypes = (
    ctypes.c_long,
    ctypes.c_long,
    ctypes.c_char_p,
    ctypes.POINTER(_How),
    ctypes.c_size_t,
)


class _Status(ctypes.Structure):
    """What statx(2) fills in, up to the time of birth."""

    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("before", ctypes.c_uint8 * 76),
        ("born_seconds", ctypes.c_int64),
        ("born_nanoseconds", ctypes.c_uint32),
        ("behind", ctypes.c_uint8 * 164),
    )


def born_nanoseconds(descriptor: int) -> int | None:
    """When the file or directory was made. None where the file system, or the kernel, does not tell."""
    status = _Status()
    statx = getattr(libc, "statx", None)
    if statx is None or statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, ctypes.byref(status)) != 0:
        return None
    if not status.mask & _STATX_BTIME:
        return None
    return int(status.born_seconds) * 1_000_000_000 + int(status.born_nanoseconds)


def safe_parts(name: str) -> tuple[str, ...]:
    """Of a name below a directory. `UnsafeName` for what is none."""
    parts = tuple(name.split("/"))
    if any(part in ("", ".", "..") for part in parts) or "\0" in name or not _is_encodable(name):
        raise Permanent("UnsafeName", f"{excerpt(ascii(name))} is no name below a directory")
    return parts


def _is_encodable(name: str) -> bool:
    """JSON can spell what no file system can."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def way_to(path: Path) -> tuple[str, ...]:
    """The parts of an absolute path, with the links of the machine's own file system resolved, and no others: from the
    first part that lies on a volume on, what is looked at could be exchanged for something of the machine."""
    machine = os.stat("/").st_dev
    pending, done, links = list(path.parts[1:]), list[str](), 0
    while pending:
        part = pending.pop(0)
        here = "/" + "/".join((*done, part))
        try:
            found = os.lstat(here)
        except OSError:  # the use will say it
            return (*done, part, *pending)
        if found.st_dev != machine:
            return (*done, part, *pending)
        if modes.S_ISLNK(found.st_mode) and links < MOST_TRUSTED_LINKS:
            links += 1
            target = PurePosixPath(os.path.normpath(PurePosixPath("/", *done, os.readlink(here))))
            pending, done = [*target.parts[1:], *pending], []
        else:
            done.append(part)
    return tuple(done)


def open_directory(parts: tuple[str, ...], flags: int, where: object) -> int:
    """By one call that follows no link, or part by part where the kernel has none."""
    path = os.fsencode("/" + "/".join(parts))
    how = _How(flags | os.O_DIRECTORY | os.O_CLOEXEC, 0, _NO_SYMLINKS | _NO_MAGIC_LINKS)
    code = errno.EINTR
    while code == errno.EINTR:
        found = libc.syscall(_OPENAT2, _AT_FDCWD, path, ctypes.byref(how), ctypes.sizeof(how))
        if found >= 0:
            return int(found)
        code = ctypes.get_errno()
    if code in _ABSENT_CALL:
        if len(path) < PATH_BYTES:
            return _walk(parts, flags, where)
        code = errno.ENAMETOOLONG
    if code == errno.ELOOP:
        raise UnexpectedEntry(where, "or lies below a symbolic link")
    raise OSError(code, os.strerror(code), str(where))


def _walk(parts: tuple[str, ...], flags: int, where: object) -> int:
    """The same, by one descriptor for each part."""
    here = os.open("/", (os.O_PATH if parts else flags) | _DIRECTORY)
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


def copy_content(source: int, target: int, length_bytes: int) -> int:
    """So many bytes from where both descriptors are, or all there are; by the kernel, where the file system lets it."""
    done = 0
    while done < length_bytes:
        try:
            sent = os.sendfile(target, source, None, length_bytes - done)
        except OSError as error:
            if done or error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            break
        if sent == 0:
            return done
        done += sent
    while done < length_bytes and (block := os.read(source, min(COPY_BLOCK_BYTES, length_bytes - done))):
        write_all(target, block)
        done += len(block)
    return done


def refuse_deep(where: object, depth: int) -> None:
    """Before a walk has as many descriptors or calls upon each other as there can be."""
    if depth > DEEPEST:
        raise UnexpectedEntry(where, f"a directory below {DEEPEST} others")


def remove_tree(name: str, above: int, where: str, depth: int) -> None:
    """A directory and all below. What is in it is unlinked first, so that only what cannot be, a directory, is opened.
    `FileNotFoundError` when it is gone already."""
    refuse_deep(where, depth)
    try:
        descriptor = os.open(name, os.O_RDONLY | _DIRECTORY, dir_fd=above)
    except OSError as error:
        mode = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
        if not modes.S_ISDIR(mode):
            raise UnexpectedEntry(where, "a file" if modes.S_ISREG(mode) else kind_of(mode)) from error
        raise
    try:
        for attempt in range(1, REMOVALS + 1):
            for entry in os.listdir(descriptor):
                _remove_entry(entry, descriptor, where, depth)
            try:
                os.rmdir(name, dir_fd=above)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == REMOVALS:
                    raise
            else:
                return
    finally:
        os.close(descriptor)


def _remove_entry(name: str, above: int, where: str, depth: int) -> None:
    """It may vanish meanwhile."""
    with suppress(FileNotFoundError):
        try:
            os.unlink(name, dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            remove_tree(name, above, f"{where}/{name}", depth + 1)


def judged(mode: int, where: object) -> int:
    """The mode, when it is a file's or a directory's."""
    if not modes.S_ISREG(mode) and not modes.S_ISDIR(mode):
        raise UnexpectedEntry(where, kind_of(mode))
    return mode


def kind_of(mode: int) -> str:
    kinds = (
        (modes.S_ISDIR, "a directory"),
        (modes.S_ISLNK, "a symbolic link"),
        (modes.S_ISFIFO, "a FIFO"),
        (modes.S_ISSOCK, "a socket"),
        (modes.S_ISBLK, "a block device"),
        (modes.S_ISCHR, "a device"),
    )
    return next((text for judge, text in kinds if judge(mode)), "neither a file nor a directory")


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """All of it, however little the system takes at a time."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
