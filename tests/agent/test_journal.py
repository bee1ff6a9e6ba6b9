"""The journal survives a crash in the middle of a line, and shows whether its writer lives."""

from pathlib import Path

import pytest

from weaviate_backup.agent.journal import JOURNAL, Journal, is_held
from weaviate_backup.errors import Transient


def test_records_are_found_again_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "operation" / JOURNAL
    with Journal(path) as journal:
        journal.append("chunk", number=1)
        journal.append("shard", name="s", sync=False)
        journal.append("chunk", number=2)
    with Journal(path) as journal:
        assert [record["number"] for record in journal.of("chunk")] == [1, 2]
        assert journal.last("shard") == {"kind": "shard", "name": "s"}
        assert journal.last("frozen") is None


@pytest.mark.parametrize("torn", [b'{"kind":"chunk","num', b'{"kind":"chunk","number":9}', b"\x00\x00\x00", b"[]\n"])
def test_a_torn_last_line_is_cut_off_and_written_over(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / JOURNAL
    with Journal(path) as journal:
        journal.append("chunk", number=1)
    with path.open("ab") as file:
        file.write(torn)
    with Journal(path) as journal:
        journal.append("chunk", number=2)
    with Journal(path) as journal:
        assert [record["number"] for record in journal.of("chunk")] == [1, 2]


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    assert not is_held(path)
    with Journal(path):
        assert is_held(path)
        with pytest.raises(Transient, match="another agent process"):
            Journal(path)
    assert not is_held(path)


def test_without_a_volume_nothing_is_kept() -> None:
    journal = Journal(None)
    journal.append("chunk", number=1)
    assert journal.last("chunk") == {"kind": "chunk", "number": 1}
