"""A frozen shard is whole or not there: sealed files share their inode with the server's, others are copies."""

from pathlib import Path

import pytest
from tests.places import place_of

from weaviate_backup.agent.linking import take_cut
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.weaviate.shard_source import ShardCut, ShardFile


def cut_of(source: Path, *, names: dict[str, bool]) -> ShardCut:
    files = []
    for name, mutable in names.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
        files.append(ShardFile(name, place_of(source) / name, mutable=mutable))
    return ShardCut("Article", "s1", driver="test", files=tuple(files), halt_seconds=0.0)


def nothing() -> None:
    pass


def test_sealed_files_are_linked_and_mutable_ones_copied(tmp_path: Path) -> None:
    cut = cut_of(tmp_path / "live", names={"lsm/objects/segment-1.db": False, "indexcount": True})
    (tmp_path / "live" / "indexcount").chmod(0o600)
    target = tmp_path / "frozen" / "article" / "s1"
    assert take_cut(cut, place_of(tmp_path) / "frozen/article/s1", check=nothing) == (
        len("content of lsm/objects/segment-1.db") + 21,
        2,
    )
    assert (target / "lsm/objects/segment-1.db").samefile(tmp_path / "live/lsm/objects/segment-1.db")
    assert not (target / "indexcount").samefile(tmp_path / "live/indexcount")
    assert (target / "indexcount").stat().st_mode & 0o777 == 0o600
    (tmp_path / "live/indexcount").write_text("later")
    assert (target / "indexcount").read_text() == "content of indexcount"


def test_a_file_that_vanished_leaves_no_shard_and_may_be_tried_again(tmp_path: Path) -> None:
    cut = cut_of(tmp_path / "live", names={"a": False, "b": False})
    target = tmp_path / "frozen" / "article" / "s1"
    (tmp_path / "live/b").unlink()
    with pytest.raises(Transient, match="lost 'b'"):
        take_cut(cut, place_of(tmp_path) / "frozen/article/s1", check=nothing)
    assert not target.exists()
    (tmp_path / "live/b").write_text("back")
    take_cut(cut, place_of(tmp_path) / "frozen/article/s1", check=nothing)
    assert sorted(path.name for path in target.iterdir()) == ["a", "b"]
    assert [path.name for path in target.parent.iterdir()] == ["s1"]


def test_another_file_system_is_refused_by_name(tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at hand")
    source = shared_memory / f"wvb-test-{tmp_path.name}"
    try:
        cut = cut_of(source, names={"a": False})
        with pytest.raises(Permanent) as refused:
            take_cut(cut, place_of(tmp_path) / "frozen/s1", check=nothing)
        assert refused.value.reason == "HardLinksUnsupported"
    finally:
        (source / "a").unlink()
        source.rmdir()
