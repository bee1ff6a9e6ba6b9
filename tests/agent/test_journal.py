"""The journal survives a crash in the middle of a line, and shows whether its writer lives."""

from pathlib import Path

import pytest
from tests.places import path_of, place_of

from weaviate_backup.agent.journal import JOURNAL, Journal, is_held
from weaviate_backup.errors import Transient


def test_records_are_found_again_by_the_next_process(tmp_path: Path) -> None:
    place = place_of(tmp_path) / "operation" / JOURNAL
    with Journal(place) as journal:
        journal.append("applying", collection="A")
        journal.append("replayed", collection="A", shard="s", sync=False)
        journal.append("applying", collection="B")
    with Journal(place) as journal:
        assert [record["collection"] for record in journal.of("applying")] == ["A", "B"]
        assert journal.last("replayed") == {"kind": "replayed", "collection": "A", "shard": "s"}
        assert journal.last("frozen") is None


@pytest.mark.parametrize(
    "torn", [b'{"kind":"applying","coll', b'{"kind":"applying","collection":"C"}', b"\x00\x00\x00", b"[]\n"]
)
def test_a_torn_last_line_is_cut_off_and_written_over(tmp_path: Path, torn: bytes) -> None:
    place = place_of(tmp_path) / JOURNAL
    with Journal(place) as journal:
        journal.append("applying", collection="A")
    with path_of(place).open("ab") as file:
        file.write(torn)
    with Journal(place) as journal:
        journal.append("applying", collection="B")
    with Journal(place) as journal:
        assert [record["collection"] for record in journal.of("applying")] == ["A", "B"]


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    place = place_of(tmp_path) / JOURNAL
    assert not is_held(place)
    with Journal(place):
        assert is_held(place)
        with pytest.raises(Transient, match="another agent process"):
            Journal(place)
    assert not is_held(place)


def test_without_a_volume_nothing_is_kept() -> None:
    journal = Journal(None)
    journal.append("applying", collection="A")
    assert journal.last("applying") == {"kind": "applying", "collection": "A"}
