"""What dead operations left on a volume goes, what living ones own stays."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.agent.sweeping import removed, swept
from tests.places import path_of, place_of

from weaviate_backup.agent.journal import JOURNAL, Journal
from weaviate_backup.agent.sweep import DEFAULT_LEASE_SECONDS
from weaviate_backup.agent.taking_back import remove_operation
from weaviate_backup.core.session import DATA_DIRECTORY
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.weaviate.snapshot_staging import operation_id, staging_directory

NOW = datetime.now(UTC)
NOTHING: frozenset[str] = frozenset()


def dead_operation(data_path: Path, uid: str, *, lease_seconds: int = 300, silent_seconds: float = 400) -> Path:
    directory = data_path / DATA_DIRECTORY / uid
    with Journal(place_of(directory.parent.parent) / DATA_DIRECTORY / directory.name / JOURNAL) as journal:
        journal.append("session", order={"lease_seconds": lease_seconds})
    (directory / "frozen" / "article").mkdir(parents=True, exist_ok=True)
    last = (NOW - timedelta(seconds=silent_seconds)).timestamp()
    os.utime(directory / JOURNAL, (last, last))
    return directory


def test_a_dead_operation_is_removed_with_its_staging(tmp_path: Path) -> None:
    uid = "6f1c2a9e-0d3b-4a52-9a3e-1f0d8c7b6a55"
    directory = dead_operation(tmp_path, uid)
    staging = path_of(staging_directory(place_of(tmp_path), operation_id(uid, "Article", "s1", 0), "Article"))
    staging.mkdir()
    assert swept(place_of(tmp_path), "ours", NOW) == (uid,)
    assert not directory.exists()
    assert not staging.exists()
    assert not (tmp_path / DATA_DIRECTORY).exists()


def test_one_that_was_silent_for_less_than_its_lease_is_left(tmp_path: Path) -> None:
    directory = dead_operation(tmp_path, "theirs", lease_seconds=900)
    assert swept(place_of(tmp_path), "ours", NOW) == ()
    assert directory.exists()


@pytest.mark.parametrize(
    ("ahead_seconds", "goes"), [(60, False), (300, False), (301, True), (30 * 86400, True)], ids=str
)
def test_a_time_to_come_is_no_sign_of_life(tmp_path: Path, ahead_seconds: float, goes: bool) -> None:
    """The clock that gave it was ahead, and was put back since."""
    directory = dead_operation(tmp_path, "theirs", lease_seconds=300, silent_seconds=-ahead_seconds)
    assert swept(place_of(tmp_path), "ours", NOW) == (("theirs",) if goes else ())
    assert directory.exists() is not goes


@pytest.mark.parametrize("lease_seconds", [0, -1])
def test_a_lease_that_is_none_is_the_usual_one(tmp_path: Path, lease_seconds: int) -> None:
    dead_operation(tmp_path, "theirs", lease_seconds=lease_seconds, silent_seconds=DEFAULT_LEASE_SECONDS - 1)
    assert swept(place_of(tmp_path), "ours", NOW) == ()
    dead_operation(tmp_path, "theirs", lease_seconds=lease_seconds, silent_seconds=DEFAULT_LEASE_SECONDS + 1)
    assert swept(place_of(tmp_path), "ours", NOW) == ("theirs",)


def test_a_living_one_is_waited_for_however_old_it_is(tmp_path: Path) -> None:
    directory = dead_operation(tmp_path, "theirs")
    last = (NOW - timedelta(days=1)).timestamp()
    with (
        Journal(place_of(directory.parent.parent) / DATA_DIRECTORY / directory.name / JOURNAL),
        pytest.raises(Transient, match="theirs is at work"),
    ):
        os.utime(directory / JOURNAL, (last, last))
        swept(place_of(tmp_path), "ours", NOW)
    assert directory.exists()


def test_our_own_directory_is_never_swept(tmp_path: Path) -> None:
    directory = dead_operation(tmp_path, "ours")
    assert swept(place_of(tmp_path), "ours", NOW) == ()
    assert directory.exists()


@pytest.mark.parametrize(
    ("collections", "same_directory", "taken_back"),
    [(NOTHING, True, True), (frozenset({"Article"}), True, False), (NOTHING, False, False)],
    ids=["never applied", "in the schema: a lagging node still takes it", "not what we placed"],
)
def test_placed_collections_are_taken_back(
    tmp_path: Path, collections: frozenset[str], same_directory: bool, taken_back: bool
) -> None:
    placed = tmp_path / ".backup.tmp" / "Article"
    placed.mkdir(parents=True)
    inode = placed.stat().st_ino + (0 if same_directory else 1)
    records = [{"kind": "placed", "collection": "Article", "inode": inode}]
    removed(place_of(tmp_path), "ours", records, collections=collections)
    assert placed.exists() is not taken_back


def test_a_link_in_place_of_a_directory_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / DATA_DIRECTORY).mkdir()
    (tmp_path / DATA_DIRECTORY / "ours").symlink_to(elsewhere)
    with pytest.raises(Permanent, match="symbolic link"):
        remove_operation(place_of(tmp_path), "ours", [], collections=NOTHING)
    assert elsewhere.exists()
