"""A directory's objects outlive a crash of the machine: what is published was synced before, its folders afterwards.

The page cache hides what was not synced from every test that reads back. So the order of calls is looked at as they
are made; each of them reaches the system.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weaviate_backup.storage.filesystem import FilesystemStore


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was synced, linked and renamed, by its path below the root; an unfinished file by its folder."""
    made: list[str] = []

    def below(descriptor: int) -> str:
        path = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path)
        return str(path.parent / "unfinished" if path.name.startswith(".unfinished-") else path)

    real_sync, real_link, real_rename, real_unlink = os.fsync, os.link, os.rename, os.unlink

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        made.append(f"sync {below(descriptor)}")

    def link(source: str, target: str, **where: Any) -> None:
        real_link(source, target, **where)
        made.append(f"link {target}")

    def rename(source: str, target: str, **where: Any) -> None:
        real_rename(source, target, **where)
        made.append(f"rename {target}")

    def unlink(name: str, **where: Any) -> None:
        real_unlink(name, **where)
        made.append("unlink")

    for name, call in {"fsync": sync, "link": link, "rename": rename, "unlink": unlink}.items():
        monkeypatch.setattr(os, name, call)
    return made


def blocks() -> Iterator[bytes]:
    yield b"content"


@pytest.mark.parametrize(("if_absent", "published"), [(True, ["link chunk-1", "unlink"]), (False, ["rename chunk-1"])])
def test_an_object_is_on_disk_before_its_name_and_its_folders_after(
    tmp_path: Path, calls: list[str], if_absent: bool, published: list[str]
) -> None:
    """The location's own directory may be as new as the object."""
    FilesystemStore(tmp_path, path="prod").put("b/n/chunk-1", blocks, if_absent=if_absent)
    folders = ["sync prod/b/n", "sync prod/b", "sync prod", "sync ."]
    assert calls == ["sync prod/b/n/unfinished", *published, *folders]


def test_what_is_not_published_is_taken_away(tmp_path: Path, calls: list[str]) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the source cannot be read")

    with pytest.raises(RuntimeError):
        FilesystemStore(tmp_path).put("k", broken)
    assert calls == ["unlink"]
    assert list(tmp_path.iterdir()) == []
