"""A directory that was made after another was deleted is another, though it has its inode's number again."""

from pathlib import Path
from typing import Any

import pytest
from tests.agent.foreign_backup import COLLECTION
from tests.agent.small_restore import Restore, ours
from tests.agent.sweeping import removed
from tests.places import place_of

from weaviate_backup.agent.confirm import lost_shards
from weaviate_backup.agent.identity import born_of, is_same
from weaviate_backup.agent.journal import Record
from weaviate_backup.agent.place import _place_all
from weaviate_backup.agent.replays import is_still_there
from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.late_writes import LATE_WRITES


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Makes every file system one that uses numbers again: all directories have the same."""
    monkeypatch.setattr(Place, "look", lambda place: _Numbered() if Path(str(place)).exists() else None)
    monkeypatch.setattr(Place, "stat", lambda _: _Numbered())
    return {}


class _Numbered:
    st_ino = 7
    st_mode = 0o040755


def test_a_directory_stays_the_same_wherever_it_goes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    place = place_of(tmp_path)
    inode, born = (place / "a").stat().st_ino, (place / "a").born()
    (tmp_path / "a/file").write_bytes(b"x")
    (tmp_path / "a").rename(tmp_path / "b")
    assert is_same(place / "b", inode, born)
    assert not is_same(place / "a", inode, born)
    assert not is_same(place / "b", inode + 1, born)


def test_one_that_was_made_anew_is_another(tmp_path: Path, numbered: dict[str, int]) -> None:
    (tmp_path / "a").mkdir()
    place = place_of(tmp_path) / "a"
    born = place.born()
    if born is None:
        pytest.skip(f"the file system of {tmp_path} tells no time of birth")
    (tmp_path / "a").rmdir()
    (tmp_path / "a").mkdir()
    assert place.born() != born
    assert not is_same(place, 7, born)


@pytest.mark.parametrize("told", [None, "x", {}])
def test_without_a_time_of_birth_the_inode_decides(tmp_path: Path, numbered: dict[str, int], told: object) -> None:
    (tmp_path / "a").mkdir()
    assert is_same(place_of(tmp_path) / "a", 7, told)


@pytest.mark.parametrize("record", [{}, {"born": None}, {"born": 5}, {"born": {"late": 5}}, {"born": {"late": {}}}])
def test_a_record_that_does_not_tell_is_none(record: dict[str, Any]) -> None:
    assert born_of(record, "late", "s0") is None


@pytest.fixture
def placed(tmp_path: Path) -> tuple[Restore, Record]:
    """A restore whose collection lies where Weaviate takes it from, with late writes of its shard."""
    restore = Restore(tmp_path / "node", ours(tmp_path))
    restore.judge()
    restore.download()
    shard = restore.workspace.directory / "restore" / COLLECTION / "article" / "s0" / LATE_WRITES
    Path(str(shard)).write_bytes(b"late")
    restore.tell_what_came()
    _place_all(restore.workspace, (COLLECTION,), Meter())
    (record,) = restore.workspace.journal.of("placed")
    if record["born"]["data"] is None:
        pytest.skip(f"the file system of {tmp_path} tells no time of birth")
    return restore, record


def data_of(restore: Restore) -> Path:
    return Path(str(restore.workspace.data_root))


def made_anew(path: Path, root: Path) -> None:
    """With the names of the directories that it has."""
    names = [each.relative_to(path) for each in path.rglob("*") if each.is_dir()]
    path.rename(root / "old")
    for name in (Path(), *sorted(names)):
        (path / name).mkdir()


@pytest.mark.parametrize("anew", ["", "article", "article/s0"])
def test_what_weaviate_made_anew_is_not_what_was_placed(
    placed: tuple[Restore, Record], tmp_path: Path, numbered: dict[str, int], anew: str
) -> None:
    restore, record = placed
    record = {**record, "inode": 7, "data_inode": 7, "shards": {"s0": 7}}
    data, root = restore.workspace.data_root, data_of(restore)
    (root / ".backup.tmp" / COLLECTION / "article").rename(root / "article")
    assert lost_shards(data, record) == []
    assert is_still_there(data, record, "s0")
    if anew:
        made_anew(root / anew, tmp_path)
        assert not is_still_there(data, record, "s0")
    if anew == "article":
        with pytest.raises(Permanent, match="FilesNotTaken"):
            lost_shards(data, record)


@pytest.mark.parametrize("anew", [True, False])
def test_what_another_placed_there_is_not_taken_back(
    placed: tuple[Restore, Record], tmp_path: Path, anew: bool
) -> None:
    restore, record = placed
    root = data_of(restore)
    place = root / ".backup.tmp" / COLLECTION
    if anew:
        made_anew(place, tmp_path)
        record = {**record, "inode": place.stat().st_ino}
    removed(restore.workspace.data_root, "0b5f2c1e", [record])
    assert place.exists() is anew
