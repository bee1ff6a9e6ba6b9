"""What was placed of a collection is read back whole, however many shards it has and wherever an agent was killed."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.places import path_of, place_of

from weaviate_backup.agent import placed_records
from weaviate_backup.agent.identity import born_of
from weaviate_backup.agent.journal import JOURNAL, LINE_LIMIT_BYTES, Journal
from weaviate_backup.agent.placed_records import SHARDS_IN_A_RECORD, append_placed, placed_of
from weaviate_backup.agent.sweep import OtherOperation
from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_of(tmp_path) / JOURNAL


def append(journal: Journal, shards: dict[str, int], *, late: dict[str, int] | None = None, files: int = 9) -> None:
    born = {"ready": 1, "data": 2, "late": late or {}}
    append_placed(journal, collection="A", inode=1, data_inode=2, files=files, shards=shards, born=born)


def shards_of(count: int, *, first: int = 0) -> dict[str, int]:
    return {f"t{number}": number for number in range(first, first + count)}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_shards_of_many_records_are_joined(place: Place, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(placed_records, "SHARDS_IN_A_RECORD", 2)
    shards = shards_of(count)
    late = {name: inode + 100 for name, inode in shards.items() if inode % 2}
    with Journal(place) as journal:
        append(journal, shards, late=late)
        assert len(list(journal.of("placed-shards"))) == max(0, (count - 1) // 2)
    with Journal(place) as journal:
        record = placed_of(journal)["A"]
    assert record["shards"] == shards
    assert {name: born_of(record, "late", name) for name in late} == late
    assert (born_of(record, "ready"), born_of(record, "data"), record["files"]) == (1, 2, 9)
    assert OtherOperation.told_by("u", place).placed == [record]


def test_one_who_goes_on_says_all_of_it_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its predecessor was killed between two records, or behind the last."""
    monkeypatch.setattr(placed_records, "SHARDS_IN_A_RECORD", 2)
    with Journal(place) as journal:
        journal.append("placed-shards", collection="A", shards=shards_of(2, first=50), late={"t50": 1})
        journal.append("placed-shards", collection="B", shards=shards_of(2, first=70), late={})
        append(journal, shards_of(5))
        append(journal, shards_of(3))
        record = placed_of(journal)["A"]
        assert (record["shards"], record["born"]["late"]) == (shards_of(3), {})
        assert [each["shards"] for each in OtherOperation.told_by("u", place).placed] == [shards_of(5), shards_of(3)]


def test_a_record_as_older_agents_wrote_it_is_whole(place: Place) -> None:
    with Journal(place) as journal:
        journal.append("placed", collection="A", inode=1, data_inode=2, shards={"t": 3}, files=4)
        assert placed_of(journal) == {"A": journal.last("placed")}


@pytest.mark.parametrize("count", [2, -1, "x", None])
def test_one_whose_other_records_are_missing_is_not_believed(place: Place, count: Any) -> None:
    """Its directories are known to the sweep all the same."""
    with Journal(place) as journal:
        journal.append("placed-shards", collection="A", shards={"s": 1}, late={})
        fields: dict[str, Any] = {"inode": 1, "data_inode": 2, "shards": {"t": 3}, "files": 4}
        journal.append("placed", collection="A", **fields, earlier_records=count)
        with pytest.raises(Permanent, match="JournalDamaged: the journal's record 'placed'"):
            placed_of(journal)
    assert [each["inode"] for each in OtherOperation.told_by("u", place).placed] == [1]


def test_names_as_long_as_can_be_fit(place: Place) -> None:
    shards = {"\x01" * 250 + f"{number:05}": 1 << 63 for number in range(SHARDS_IN_A_RECORD)}
    with Journal(place) as journal:
        append(journal, shards, late=shards)
    assert path_of(place).stat().st_size < LINE_LIMIT_BYTES


def test_half_a_million_tenants_are_found_again_by_the_next_process(place: Place) -> None:
    shards = {f"{number:064d}": 1 << 33 for number in range(450_000)}
    with Journal(place) as journal:
        append(journal, shards)
        journal.append("all-placed", collections=["A"])
    assert path_of(place).stat().st_size > LINE_LIMIT_BYTES
    with Journal(place) as journal:
        assert journal.last("all-placed") is not None
        assert placed_of(journal)["A"]["shards"] == shards


@pytest.mark.parametrize("born", [7, "x", [], {"late": 7}])
def test_a_time_of_birth_that_is_none_is_left_out(place: Place, born: Any) -> None:
    record = {"collection": "A", "inode": 1, "data_inode": 2, "shards": {"t": 3}, "files": 4, "born": born}
    lines = [
        {"kind": "placed-shards", "collection": "A", "shards": {"s": 1}, "late": {"s": 5}},
        {"kind": "placed", **record, "earlier_records": 1},
    ]
    path_of(place).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Journal(place) as journal:
        assert placed_of(journal)["A"]["born"]["late"] == {"s": 5}
