"""What a directory's store calls stored survives a loss of power: every call that matters is recorded as it happens,
and then replayed against a disk that keeps nothing but what was synced.

A name may reach such a disk at any time, and content may not, until either is synced; so no name may be published
before its content is, and whoever is told that an object is stored has all names that lead to it.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.storage.contract import MIB, blocks

from weaviate_backup.errors import ObjectExists
from weaviate_backup.storage.filesystem import FilesystemStore

KEY = "backup/node/collection/chunk-1"


@dataclass
class Recorder:
    """Calls below `root` in order: what was called, and on which paths."""

    root: Path
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def of(self, descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())

    def add(self, call: str, *paths: str) -> None:
        if all(path.startswith(str(self.root)) for path in paths):
            self.calls.append((call, *(os.path.relpath(path, self.root) for path in paths)))

    def named(self, call: str) -> list[int]:
        return [at for at, each in enumerate(self.calls) if each[0] == call]


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(tmp_path)

    def recorded(name: str, paths: Callable[..., tuple[str, ...]]) -> None:
        real: Any = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if name not in ("write", "fsync") and not options.keys() & {"dir_fd", "dst_dir_fd"}:
                return real(*arguments, **options)  # the test's own
            seen = paths(*arguments, **options)
            result = real(*arguments, **options)
            recorder.add(name, *seen)
            return result

        monkeypatch.setattr(os, name, call)

    def below(descriptor: int, name: str) -> str:
        return f"{recorder.of(descriptor)}/{name}"

    recorded("write", lambda descriptor, _: (recorder.of(descriptor),))
    recorded("fsync", lambda descriptor: (recorder.of(descriptor),))
    recorded("mkdir", lambda name, _=0, *, dir_fd: (below(dir_fd, name),))
    recorded("unlink", lambda name, *, dir_fd: (below(dir_fd, name),))
    for name in ("link", "rename"):
        recorded(
            name,
            lambda source, target, *, src_dir_fd, dst_dir_fd, **_: (
                below(src_dir_fd, source),
                below(dst_dir_fd, target),
            ),
        )
    return recorder


def lost_power(recorder: Recorder, key: str) -> list[str]:
    """What is wrong at the end, or was at any instant; nothing: the object survives."""
    wrong, unsynced, dirty = list[str](), set[str](), set[str]()
    for call, *paths in recorder.calls:
        match call:
            case "write":
                dirty.add(paths[0])
            case "fsync":
                dirty.discard(paths[0])
                unsynced = {path for path in unsynced if Path(path).parent != Path(paths[0])}
            case "mkdir":
                unsynced.add(paths[0])
            case "link" | "rename":
                if paths[0] in dirty:
                    wrong.append(f"{paths[1]} had its name before its content")
                unsynced.add(paths[1])
    chain = [key, *(str(parent) for parent in Path(key).parents if str(parent) != ".")]
    return wrong + [f"the name {path} is not synced" for path in chain if path in unsynced]


@pytest.mark.parametrize("if_absent", [True, False], ids=["written once", "replaced"])
@pytest.mark.parametrize("size_bytes", [0, 5, 3 * MIB])
@pytest.mark.parametrize("there", [(), ("prod",), ("prod/backup/node/collection",)], ids=["new", "below", "beside"])
def test_an_object_that_is_stored_survives_a_loss_of_power(
    recorder: Recorder, tmp_path: Path, if_absent: bool, size_bytes: int, there: tuple[str, ...]
) -> None:
    for directory in there:
        (tmp_path / directory).mkdir(parents=True)
    FilesystemStore(tmp_path, path="prod").put(KEY, lambda: blocks(bytes(size_bytes), MIB), if_absent=if_absent)
    key = f"prod/{KEY}"
    assert lost_power(recorder, key) == []
    assert (tmp_path / key).stat().st_size == size_bytes


@pytest.mark.parametrize("if_absent", [True, False], ids=["written once", "replaced"])
def test_every_call_is_in_its_place(recorder: Recorder, tmp_path: Path, if_absent: bool) -> None:
    """Directories that are there already may be another writer's, who has not synced them yet: all are synced."""
    (tmp_path / "prod/backup/node/collection").mkdir(parents=True)
    FilesystemStore(tmp_path, path="prod").put(KEY, lambda: blocks(bytes(3 * MIB), MIB), if_absent=if_absent)
    calls = recorder.calls
    (publish,) = recorder.named("link") + recorder.named("rename")
    temporary, key = calls[publish][1:]
    assert (calls[publish][0], key) == ("link" if if_absent else "rename", f"prod/{KEY}")
    assert Path(temporary).parent == Path(key).parent
    expected = [
        *[("write", temporary)] * 3,
        ("fsync", temporary),
        calls[publish],
        *([("unlink", temporary)] if if_absent else []),
        *[("fsync", path) for path in (".", "prod", "prod/backup", "prod/backup/node", "prod/backup/node/collection")],
    ]
    assert [each for each in calls if each[0] != "mkdir"] == expected


def test_an_object_that_was_there_is_not_touched(recorder: Recorder, tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.put("k", lambda: blocks(b"1"))
    before = len(recorder.calls)
    with pytest.raises(ObjectExists):
        store.put("k", lambda: blocks(b"2"), if_absent=True)
    assert recorder.calls[before:] == []


def test_what_breaks_is_never_published(recorder: Recorder, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(MIB)
        raise FileNotFoundError("the frozen file is gone")

    with pytest.raises(FileNotFoundError):
        FilesystemStore(tmp_path).put("a/k", broken)
    assert not recorder.named("link") + recorder.named("rename")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("spoil", ["no fsync of the file", "too late", "no fsync of a directory", "too early"])
def test_the_replay_sees_what_is_lost(recorder: Recorder, tmp_path: Path, spoil: str) -> None:
    """Each call left out or moved in the record of a sound put."""
    FilesystemStore(tmp_path, path="prod").put(KEY, lambda: blocks(b"12345"), if_absent=True)
    calls = recorder.calls
    (publish,) = recorder.named("link")
    of_file = next(at for at in recorder.named("fsync") if at < publish)
    above = [at for at in recorder.named("fsync") if at > publish]
    assert len(above) == 5
    for at in [of_file] if spoil in ("no fsync of the file", "too late") else above:
        recorder.calls = [each for number, each in enumerate(calls) if number != at]
        if spoil == "too late":
            recorder.calls.insert(publish, calls[at])
        elif spoil == "too early":
            recorder.calls.insert(publish if at == above[-1] else 0, calls[at])
        assert lost_power(recorder, f"prod/{KEY}") != [], calls[at]
