"""Tenants that no server has in memory: which files are taken, how, and how a change is noticed."""

import shutil
from pathlib import Path

import pytest
from tests.places import path_of, place_of

from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.weaviate.inactive_tenants import (
    FileState,
    belongs,
    changes,
    cut_inactive,
    fingerprint_of,
    is_sealed,
)
from weaviate_backup.weaviate.snapshot_staging import shard_directory


@pytest.mark.parametrize(
    ("name", "taken", "sealed"),
    [
        ("indexcount", True, False),
        ("proplengths", True, False),
        ("index.db", True, False),
        ("meta.db", True, False),
        ("meta_title.db", True, False),
        ("lsm/objects/segment-1.l0.s0.db", True, True),
        ("lsm/objects/segment-1.l0.s0.bloom", True, True),
        ("lsm/objects/segment-1.wal", True, False),
        ("lsm/objects/edits.db", True, False),
        ("lsm/objects/segment-1.db.tmp", False, False),
        ("lsm/objects/scratch/segment-1.db", False, False),
        ("lsm/.migrations/searchable/progress", True, False),
        ("main.hnsw.commitlog.d/1700000000", True, False),
        ("main.hnsw.commitlog.d/1700000000.condensed", True, True),
        ("main.hnsw.commitlog.d/1700000000.snapshot", True, True),
        ("main.queue.d/chunk-1.bin", True, False),
        ("hashtree_default/hashtree-1.ht", True, False),
        ("indexcount.copy.tmp", False, False),
        (".late-writes", False, False),
        ("changelog/wvb-0b5f2c1e-5.log", False, False),
    ],
)
def test_what_is_taken_and_what_is_linked(name: str, taken: bool, sealed: bool) -> None:
    assert belongs(name) is taken
    if taken:
        assert is_sealed(name) is sealed


def test_every_change_shows_in_the_comparison() -> None:
    one, two = FileState(8, 1, 10), FileState(9, 1, 10)
    before = {"a": one, "b": one, "c": one}
    assert changes(before, dict(before)) == ()
    assert changes(before, {"a": one, "b": two, "d": one}) == ("b", "c", "d")
    assert changes({"a": one}, {"a": FileState(8, 2, 10)}) == ("a",), "written to without growing"
    assert changes({"a": one}, {"a": FileState(8, 1, 11)}) == ("a",), "replaced by another file"


@pytest.mark.weaviate
@pytest.mark.asyncio(loop_scope="session")
async def test_a_tenant_is_read_whole_from_disk(data_path: Path) -> None:
    cut, fingerprint = cut_inactive(place_of(data_path), "Multi", "cold")
    names = [file.path for file in cut.files]
    assert set(names) == set(fingerprint)
    assert {"proplengths", "version", "indexcount"} <= set(names) and names[-1] == "indexcount"
    assert any(name.startswith("lsm/objects/") for name in names)
    assert any(name.startswith("main.hnsw.commitlog.d/") for name in names)
    assert all(file.mutable is not is_sealed(file.path) for file in cut.files)
    live = path_of(shard_directory(place_of(data_path), "Multi", "cold"))
    everything = {path.relative_to(live).as_posix() for path in live.rglob("*") if path.is_file()}
    assert everything == set(names)
    assert changes(fingerprint, fingerprint_of(place_of(live))) == ()


@pytest.mark.weaviate
@pytest.mark.asyncio(loop_scope="session")
async def test_a_copy_that_is_written_to_is_noticed(data_path: Path, tmp_path: Path) -> None:
    copied = tmp_path / "multi" / "cold"
    shutil.copytree(path_of(shard_directory(place_of(data_path), "Multi", "cold")), copied)
    _, before = cut_inactive(place_of(tmp_path), "Multi", "cold")
    with (copied / "indexcount").open("r+b") as stream:
        stream.write(b"\x01")
    (copied / "lsm" / "objects" / "segment-9.wal").write_bytes(b"woken")
    assert changes(before, fingerprint_of(place_of(copied))) == ("indexcount", "lsm/objects/segment-9.wal")
    (copied / "version").unlink()
    with pytest.raises(Transient) as incomplete:
        cut_inactive(place_of(tmp_path), "Multi", "cold")
    assert incomplete.value.reason == "ShardIncomplete"


def test_a_tenant_without_a_directory_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as caught:
        cut_inactive(place_of(tmp_path), "Multi", "nowhere")
    assert caught.value.reason == "ShardNotFound"
