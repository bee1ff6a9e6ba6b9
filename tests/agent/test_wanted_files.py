"""What a backup wants of memory, names and inodes is bounded before a byte of it is fetched."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from tests.agent.foreign_backup import COLLECTION, ForeignBackup
from tests.places import place_of
from tests.stored.own_backup import own_backup
from tests.whole_manifest import decode_node_manifest, encode_node_manifest

from weaviate_backup.agent.chunk_receiver import ChunkReceiver
from weaviate_backup.agent.download import refuse_without_space
from weaviate_backup.agent.wanted_files import DescribedCollection, DescribedFiles, wanted_files
from weaviate_backup.errors import Permanent
from weaviate_backup.stored import node_manifest
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.node_manifest import CHUNK_BYTES, MEMORY_SHARE


@pytest.mark.parametrize(("chunks", "fits"), [(20, True), (60, False)])
def test_what_is_held_of_a_manifest_is_no_more_than_memory_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: int, fits: bool
) -> None:
    """Of its chunks and shards, not of its files. Each file of it is a chunk of its own."""
    monkeypatch.setattr(node_manifest, "memory_bytes", lambda: MEMORY_SHARE * 40 * CHUNK_BYTES)
    backup = own_backup(tmp_path, "b1", files={f"lsm/{number}": b"x" for number in range(chunks)})
    reader = BackupReader(backup.store, "b1")
    if fits:
        assert wanted_files(reader, "n0", [COLLECTION]).files == chunks + 3
        return
    with pytest.raises(Permanent, match=r"DocumentTooLarge: b1/n0/manifest\.json\.zst is larger than this process can"):
        wanted_files(reader, "n0", [COLLECTION])


@pytest.mark.parametrize("name", [f"article/s0/{'d/' * 30}x", "article/s0/\x1b[2J", "other/s0/x", "article/s0/../../x"])
def test_a_name_of_a_manifest_is_judged_before_it_is_fetched(tmp_path: Path, name: str) -> None:
    backup = own_backup(tmp_path, "b1", files={"lsm/1": b"x"})
    key, place = "k", tmp_path / "b1/n0/manifest.json.zst"
    manifest = decode_node_manifest(place.read_bytes(), key=key)
    first = manifest.chunks[0].model_copy(update={"files": ((name, 0, 1, "ab" * 32),)})
    vouched_for(backup, encode_node_manifest(replace(manifest, chunks=(first, *manifest.chunks[1:]))))
    with pytest.raises(Permanent, match="HostileBackup: a chunk of Article names"):
        wanted_files(BackupReader(backup.store, "b1"), "n0", [COLLECTION])


def vouched_for(backup: ForeignBackup, content: bytes) -> None:
    """The manifest of a node that whoever made the backup's meant."""
    backup.put_bytes("n0/manifest.json.zst", content)
    entry = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    backup.change("manifest.json", lambda document: document["nodes"]["n0"].update(manifest=entry))


def test_a_manifest_that_breaks_off_is_not_what_it_says_until_there(tmp_path: Path) -> None:
    backup = own_backup(tmp_path, "b1", files={"lsm/1": b"x"})
    content = (tmp_path / "b1/n0/manifest.json.zst").read_bytes()
    vouched_for(backup, content + zstandard.compress(b'{"kind":"chunk"}\n'))
    with pytest.raises(Permanent, match=r"HostileBackup: b1/n0/manifest\.json\.zst is no manifest"):
        wanted_files(BackupReader(backup.store, "b1"), "n0", [COLLECTION])


@pytest.mark.parametrize(("there", "refused"), [(0, True), (1, False)])
def test_more_files_than_inodes_are_refused_before_a_byte_is_fetched(there: int, refused: bool) -> None:
    files = DescribedFiles({COLLECTION: DescribedCollection(names={"a", "b", "c"})})
    if refused:
        with pytest.raises(Permanent, match="NotEnoughSpace: 3 files are to come to the data volume"):
            refuse_without_space(files, already=(there, 0), free_bytes=99, free_inodes=2)
    else:
        refuse_without_space(files, already=(there, 0), free_bytes=99, free_inodes=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.unlink(), "the chunks of Article hold no article/s0/lsm/1"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "article/s0/lsm/1 has .* bytes instead of"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "5 files of .* came of Article instead of 5"),
        (lambda path: (path.parent / "more").write_bytes(b""), "6 files of .* came of Article instead of 5"),
    ],
    ids=["gone", "shorter", "longer", "one more"],
)
def test_what_came_is_what_the_manifest_names(tmp_path: Path, change: Callable[[Path], object], said: str) -> None:
    backup = own_backup(tmp_path / "store", "b1", files={"lsm/1": b"123456", "lsm/2": b""})
    wanted = wanted_files(BackupReader(backup.store, "b1"), "n0", [COLLECTION, "Other"])
    receiver = ChunkReceiver(backup.store, place_of(tmp_path), Meter(), limit_bytes=1 << 20, limit_inodes=100)
    for chunk in wanted.chunks():
        receiver.receive(chunk)
    wanted.check_complete(place_of(tmp_path))
    assert (set(wanted.shards_of(COLLECTION)), set(wanted.shards_of("Other"))) == ({"s0"}, set())
    assert wanted.objects == [f"b1/n0/{COLLECTION}/chunk-{number}" for number in range(1, len(wanted.objects) + 1)]
    change(tmp_path / COLLECTION / "article/s0/lsm/1")
    with pytest.raises(Permanent, match=f"BackupIncomplete: {said}"):
        wanted.check_complete(place_of(tmp_path))


@pytest.mark.parametrize("made", [own_backup, lambda *a, **how: ForeignBackup(*a, **how).write()], ids=["own", "stock"])
def test_a_node_that_the_backup_does_not_have_is_named(tmp_path: Path, made: Callable[..., ForeignBackup]) -> None:
    backup = made(tmp_path, "b1", files={"lsm/1": b"x"})
    with pytest.raises(Permanent, match="NodeNotFound: backup 'b1' has no node 'n9'"):
        wanted_files(BackupReader(backup.store, "b1"), "n9", [COLLECTION])
