"""A data root of a small Weaviate, and beside it what whoever owns Weaviate would like to reach through the agent.

`Attacker` plays him: he exchanges any entry below the data root for any other kind at any instant. What he may reach is
all made for the test, so that a guard that fails harms nothing but that.
"""

import os
import shutil
import socket
import stat as modes
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.places import place_of

from weaviate_backup.beneath import Place

SECRET = b"secret-of-the-bucket"
FILES = {
    "secrets/AWS_SECRET_ACCESS_KEY": SECRET + b" key",
    "secrets/tls.key": SECRET + b" tls",
    "secrets/indexcount": SECRET + b" of a name that is looked for",
    "secrets/lsm/objects/segment-1.db": SECRET + b" deep",
    "secrets/journal.jsonl": b'{"kind":"session","order":{"lease_seconds":1},"x":"' + SECRET + b'"}\n',
    "prod/nightly-1/backup_config.json": SECRET + b" stored",
    "prod/nightly-1/weaviate-0/backup.json": SECRET + b" stored deep",
    "prod/nightly-2/journal.jsonl": b'{"kind":"session","order":{"lease_seconds":1},"x":"' + SECRET + b'"}\n',
}
"""Of what must be neither read nor changed: a mounted Secret, and a mounted store whose backups look like dead
operations."""
LONG_AGO = 1_000_000_000
LIVE = {
    "article/s1/indexcount": b"\1\0\0\0\0\0\0\0",
    "article/s1/indexcount.copy.tmp": b"\1\0\0\0\0\0\0\0",
    "article/s1/proplengths": b"lengths",
    "article/s1/version": b"2",
    "article/s1/meta_title.db": b"flat",
    "article/s1/lsm/objects/segment-1.db": b"objects",
    "article/s1/lsm/.migrations/done": b"migrated",
    "article/s1/main.hnsw.commitlog.d/17": b"",
    "article/s1/geo.place.hnsw.commitlog.d/18": b"\10",
    "raft/db_users/users.json": b"",
}


@dataclass(frozen=True)
class Seen:
    """What would show that something was touched."""

    mode: int
    inode: int
    links: int
    modified: int
    content: bytes | None


def seen(directory: Path) -> dict[str, Seen]:
    found = {}
    for path in everything_in(str(directory)):
        status = os.lstat(path)
        content = content_of(path) if modes.S_ISREG(status.st_mode) else None
        found[path] = Seen(status.st_mode, status.st_ino, status.st_nlink, status.st_mtime_ns, content)
    return found


def everything_in(directory: str) -> Iterator[str]:
    yield directory
    for folder, folders, names in os.walk(directory):
        yield from (f"{folder}/{name}" for name in (*folders, *names))


def content_of(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def write_all(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = f"{directory}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as stream:
            stream.write(content)


class Outside:
    """What is to stay as it is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        write_all(directory, FILES)
        for path in sorted(directory.rglob("*"), reverse=True):
            os.utime(path, (LONG_AGO, LONG_AGO))
        self._before = seen(directory)

    def changes(self) -> Iterator[str]:
        after = seen(self.directory)
        for path in sorted(self._before.keys() | after.keys()):
            if self._before.get(path) != after.get(path):
                yield f"{path}: {self._before.get(path)} -> {after.get(path)}"


@dataclass
class Volume:
    """One data root. `base` must be on a file system that is not the machine's own, as a volume is not."""

    base: Path
    outside: Path

    def fill(self) -> "Volume":
        for directory in (self.data, self.aside):
            directory.mkdir(parents=True)
        write_all(self.data, LIVE)
        return self

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def aside(self) -> Path:
        return self.base / "aside"

    @property
    def root(self) -> Place:
        return place_of(self.data)

    def entries(self) -> list[str]:
        """Names of everything below the data root now."""
        start = str(self.data)
        return sorted(path.removeprefix(f"{start}/") for path in everything_in(start) if path != start)

    def revealed(self) -> Iterator[str]:
        """What holds the secret, on the volume and in the store."""
        for path in everything_in(str(self.base)):
            if modes.S_ISREG(os.lstat(path).st_mode) and SECRET in content_of(path):
                yield path

    def remove(self) -> None:
        shutil.rmtree(self.base)


@dataclass
class Attacker:
    """Puts a thing in place of an entry, and takes it away again."""

    volume: Volume
    kept: list[tuple[Path, Path]] = field(default_factory=list)

    def put(self, entry: str, kind: str) -> bool:
        """Whether there was something to exchange."""
        path = self.volume.data / entry
        aside = self.volume.aside / str(len(self.kept))
        try:
            path.rename(aside)
            make(path, kind, self.volume)
        except OSError:
            return False
        self.kept.append((path, aside))
        return True

    def take_back(self) -> None:
        for path, aside in reversed(self.kept):
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
                aside.rename(path)
            except OSError:  # what was above it is gone
                continue
        self.kept.clear()


LINKS = {
    "a link to a file of a Secret": "secrets/AWS_SECRET_ACCESS_KEY",
    "a link to a Secret": "secrets",
    "a link to a store": "prod",
    "a link to a backup": "prod/nightly-1/weaviate-0",
    "a link to what is above both": ".",
    "a link to nothing": "secrets/not-there",
}
RELATIVE = "a relative link to a Secret"
KINDS = (*LINKS, RELATIVE, "a directory", "a file", "a FIFO", "a socket", "a device")


def make(path: Path, kind: str, volume: Volume) -> None:
    """Never a link to the machine's own root: were it followed, more than a test would fail."""
    match kind:
        case "a directory":
            path.mkdir()
        case "a file":
            path.write_bytes(b"x")
        case "a FIFO":
            os.mkfifo(path)
        case "a socket":
            with socket.socket(socket.AF_UNIX) as made:
                here = Path.cwd()
                os.chdir(path.parent)
                try:
                    made.bind(path.name)  # whole paths may be too long for a socket
                finally:
                    os.chdir(here)
        case "a device":
            os.mknod(path, 0o666 | modes.S_IFCHR, os.makedev(1, 5))
        case "a relative link to a Secret":
            path.symlink_to(os.path.relpath(volume.outside / "secrets", path.parent))
        case _:
            path.symlink_to(volume.outside / LINKS[kind])


def kinds_that_can_be_made(volume: Volume) -> tuple[str, ...]:
    """All, or all but devices where this user may not make them."""
    try:
        make(volume.aside / "tried", "a device", volume)
    except PermissionError:
        return tuple(kind for kind in KINDS if kind != "a device")
    (volume.aside / "tried").unlink()
    return KINDS
