"""What a backup wants of memory, names and inodes is bounded before a byte of it is fetched."""

from pathlib import Path

import pytest
from tests.agent.foreign_backup import COLLECTION
from tests.places import place_of
from tests.stored.own_backup import own_backup

from weaviate_backup.agent import wanted_files as module
from weaviate_backup.agent.download import refuse_without_space
from weaviate_backup.agent.wanted_files import FILE_BYTES, WantedFiles, wanted_files
from weaviate_backup.errors import Permanent
from weaviate_backup.stored.backup_reading import BackupReader

FEW = 40


def wanted(root: Path, names: list[str]) -> WantedFiles:
    backup = own_backup(root, "b1", files=dict.fromkeys(names, b"x"))
    return wanted_files(BackupReader(backup.store, "b1"), "n0", [COLLECTION])[COLLECTION]


@pytest.mark.parametrize(("name_length", "files", "fits"), [(10, FEW, True), (10, 3 * FEW, False), (1000, FEW, False)])
def test_a_manifest_takes_no_more_memory_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name_length: int, files: int, fits: bool
) -> None:
    """By the number of files, and by the length of their names. Each file of it is a chunk of its own."""
    monkeypatch.setattr(module, "memory_bytes", lambda: (2 * FEW + 10) * (FILE_BYTES + 50))
    names = [
        f"lsm/{'/'.join(['d' * 99] * (name_length // 100))}/{number}".replace("//", "/") for number in range(files)
    ]
    if fits:
        assert len(wanted(tmp_path, names).names) == files + 3
        return
    with pytest.raises(Permanent, match="DocumentTooLarge: the manifest of n0 is larger than this process can hold"):
        wanted(tmp_path, names)


def test_a_name_of_a_manifest_is_judged_before_it_is_fetched(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 30)
    with pytest.raises(Permanent, match="HostileBackup: a chunk of Article names a file"):
        wanted(tmp_path, [f"{deep}/x"])


@pytest.mark.parametrize(("there", "refused"), [(0, True), (1, False)])
def test_more_files_than_inodes_are_refused_before_a_byte_is_fetched(tmp_path: Path, there: int, refused: bool) -> None:
    files = {COLLECTION: WantedFiles(names={"a", "b", "c"})}
    place = place_of(tmp_path)
    if refused:
        with pytest.raises(Permanent, match="NotEnoughSpace: 3 files are to come to the data volume"):
            refuse_without_space(place, files, already=(there, 0), free_inodes=2)
    else:
        refuse_without_space(place, files, already=(there, 0), free_inodes=2)
