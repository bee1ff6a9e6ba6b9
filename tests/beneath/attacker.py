"""Somebody who writes to the same volume, and acts between two calls of the system, whichever they are.

A `Volume` is a root with a backup in it, and beside it `outside`, where the same names lie: who follows a link finds
there what was looked for. The kernel tells of every touch of it (inotify), a mere opening, too.
"""

import ctypes
import errno
import os
import select
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.time_limits import ended_after

from weaviate_backup import no_links

CALLS = ("open", "stat", "fstat", "listdir", "link", "rename", "mkdir", "unlink", "rmdir", "fsync", "write", "fchmod")
CHUNK = "prod/nightly/weaviate-0/chunk-1"
INNER = "prod/nightly/weaviate-0/class/chunk-2"
HALF = "prod/nightly/weaviate-0/.unfinished-0123456789abcdef"
FILES = (CHUNK, INNER, HALF, "prod/weekly/weaviate-0/chunk-1")
FOLDERS = ("prod", "prod/nightly", "prod/nightly/weaviate-0", "prod/nightly/weaviate-0/class")
TEMPORARY = "whatever a put has made beside its place"
_ALL_EVENTS = 0x00000FFF
_NONBLOCK = os.O_NONBLOCK


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside.with_name("not-there-yet"))


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _other_kind(path: Path, outside: Path) -> None:
    if outside.is_dir():
        path.write_bytes(b"a file now")
    else:
        path.mkdir()


def _nothing(_: Path, __: Path) -> None: ...


Kind = Callable[[Path, Path], None]
KINDS: dict[str, Kind] = {
    "link": _link,
    "dangling": _dangling,
    "fifo": _fifo,
    "other": _other_kind,
    "nothing": _nothing,
}


class Watch:
    """What happens to files and directories that nobody may touch."""

    def __init__(self, *paths: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(_NONBLOCK)
        self._paths = {}
        for path in paths:
            number = libc.inotify_add_watch(self._descriptor, os.fsencode(path), _ALL_EVENTS)
            assert number >= 0, os.strerror(ctypes.get_errno())
            self._paths[number] = path

    def close(self) -> None:
        os.close(self._descriptor)

    def events(self) -> list[str]:
        found, content = [], b""
        while select.select([self._descriptor], [], [], 0)[0]:
            content += os.read(self._descriptor, 1 << 16)
        while content:
            number, mask, _, length = struct.unpack_from("iIII", content)
            found.append(f"{self._paths[number]}: {mask:#x} {content[16 : 16 + length].rstrip(bytes(1))!r}")
            content = content[16 + length :]
        return found


@dataclass
class Volume:
    root: Path
    outside: Path
    parked: Path
    watch: Watch
    _exchanged: Path | None = None

    def reset(self) -> None:
        """As in the beginning. What is right already is not made again."""
        found = _contents(self.root)
        for name in sorted(set(found) - set(WHOLE)):
            _remove(self.root / name)
        if any(found.get(name) != size for name, size in WHOLE.items()) or any(self.parked.iterdir()):
            for path in (self.root, self.parked):
                shutil.rmtree(path)
                path.mkdir()
            fill(self.root, OURS)

    def exchange(self, entry: str, kind: Kind) -> bool:
        """Puts something else in the place of an entry, which is kept. False: there is none now."""
        path = self._path(entry)
        if path is None or not os.path.lexists(path) or self._exchanged is not None:
            return False
        path.rename(self.parked / "entry")
        kind(path, self.outside / (CHUNK if entry == TEMPORARY else entry))
        self._exchanged = path
        return True

    def restore(self) -> None:
        path, self._exchanged = self._exchanged, None
        if path is not None:
            _remove(path)
            with suppress(OSError):  # the folder may be gone, or something new be there
                (self.parked / "entry").rename(path)

    def _path(self, entry: str) -> Path | None:
        if entry != TEMPORARY:
            return self.root / entry
        below = set(self.root.rglob(".unfinished-*")) - {self.root / HALF}
        return next(iter(below), None)


OURS = b"ours"
WHOLE = {**dict.fromkeys((*FOLDERS, "prod/weekly", "prod/weekly/weaviate-0"), -1), **dict.fromkeys(FILES, len(OURS))}


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _contents(root: Path) -> dict[str, int]:
    """Names below with the sizes of files, -1 for directories, and -2 for what is neither."""
    found, pending = {}, [""]
    while pending:
        folder = pending.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{name}/")
                    found[name] = -1
                else:
                    is_file = entry.is_file(follow_symlinks=False)
                    found[name] = entry.stat(follow_symlinks=False).st_size if is_file else -2
    return found


def fill(root: Path, content: bytes) -> None:
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@contextmanager
def volume_in_memory() -> Iterator[Volume]:
    """In a file system of memory where there is one: thousands are made."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as directory, _volume_below(Path(directory)) as made:
        yield made


@contextmanager
def _volume_below(directory: Path) -> Iterator[Volume]:
    root, outside, parked = (directory / name for name in ("volume", "outside", "parked"))
    root.mkdir()
    parked.mkdir()
    fill(outside, b"the secret of another")
    watch = Watch(outside, *outside.rglob("*"))
    made = Volume(root, outside, parked, watch)
    try:
        yield made
    finally:
        watch.close()


@contextmanager
def interposed(root: Path, before_call: Callable[[int], None]) -> Iterator[Callable[[], int]]:
    """Calls `before_call` with the number of each call of the system by the code under test, but for the steps of the
    way to the root, where nobody else writes. Gives how many it made.

    Nothing is written through to the disk meanwhile, which takes the time of a hundred other calls.
    """
    count, busy = 0, False
    libc = no_links.libc
    above = {"/", *root.parts[1:]}

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def before(*arguments: Any, **named: Any) -> Any:
            nonlocal count, busy
            if not busy and arguments[0] not in above:
                busy = True
                try:
                    before_call(count)
                finally:
                    busy = False
                count += 1
            return call(*arguments, **named)

        return before

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrapped(getattr(os, name) if name != "fsync" else lambda _: None))
        patch.setattr(no_links, "libc", SimpleNamespace(syscall=wrapped(libc.syscall), syncfs=libc.syncfs))
        yield lambda: count


@contextmanager
def without_the_call() -> Iterator[None]:
    """A kernel that has no openat2."""

    def absent(*_: object) -> int:
        ctypes.set_errno(errno.ENOSYS)
        return -1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(no_links, "libc", SimpleNamespace(syscall=absent, syncfs=no_links.libc.syncfs))
        yield


def within(seconds: float) -> AbstractContextManager[None]:
    """What waits longer, for a FIFO, is ended."""
    return ended_after(seconds, AssertionError(f"still waiting after {seconds} s"))


def exchange_everything(
    volume: Volume,
    verb: Callable[[], object],
    *,
    entries: tuple[str, ...],
    kinds: tuple[str, ...],
    expected: tuple[type[Exception], ...],
) -> int:
    """Runs the verb once for each call it makes x entry x kind, exchanged for good or for one or two calls. How many.

    Fails when anything outside was touched, when the verb waited, and when it raised what is not expected.
    """
    volume.reset()
    with interposed(volume.root, lambda _: None) as counted:
        verb()
    calls, exchanged = counted(), 0
    for entry in entries:
        for kind in kinds:
            for back_after in (None, 1, 2) if kind == "link" else (None,):
                for at in range(calls):
                    volume.reset()
                    done = _attacked(volume, verb, expected, (entry, KINDS[kind], at, back_after))
                    assert not (events := volume.watch.events()), (entry, kind, at, back_after, events)
                    exchanged += done
                    volume.restore()
    return exchanged


def _attacked(
    volume: Volume,
    verb: Callable[[], object],
    expected: tuple[type[Exception], ...],
    attack: tuple[str, Kind, int, int | None],
) -> bool:
    entry, kind, at, back_after = attack
    done = False

    def before_call(number: int) -> None:
        nonlocal done
        if number == at:
            done = volume.exchange(entry, kind)
        elif done and back_after is not None and number == at + back_after:
            volume.restore()

    with within(20), interposed(volume.root, before_call), suppress(*expected):
        verb()
    return done
