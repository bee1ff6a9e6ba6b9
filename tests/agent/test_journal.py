"""The journal survives a crash in the middle of a line, and shows whether its writer lives."""

import errno
import fcntl
import os
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.agent.failing_disk import FailingDisk
from tests.places import path_of, place_of

from weaviate_backup.agent import journal as journaling
from weaviate_backup.agent.chunk_sender import sent_of, stored_record
from weaviate_backup.agent.describing import believed, shard_records
from weaviate_backup.agent.fates import fates, records_of
from weaviate_backup.agent.journal import JOURNAL, Journal, is_held, read_records
from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout.manifests import ChunkLine, ShardRecord


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


def test_a_synced_record_outlasts_a_loss_of_power_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However new the directories are in which it lies."""
    (tmp_path / "data").mkdir()
    disk, place = FailingDisk(tmp_path / "data"), place_of(tmp_path / "data") / "ours" / "operation" / JOURNAL
    with disk.below(monkeypatch), Journal(place) as journal:
        journal.append("applying", collection="A")
    disk.after_power_loss()
    assert [record["collection"] for record in read_records(place)] == ["A"]


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


@contextmanager
def full_at(size_bytes: int) -> Iterator[None]:
    """As on a full disk: a write comes short, and the next one fails. Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("cut_bytes", [*range(40), 79, 80])
@pytest.mark.parametrize("dies", [False, True])
def test_a_full_disk_in_a_line_costs_that_line_alone(tmp_path: Path, cut_bytes: int, dies: bool) -> None:
    place = place_of(tmp_path) / JOURNAL
    with Journal(place) as journal:
        journal.append("applying", collection="A")
        whole_bytes = path_of(place).stat().st_size
        with full_at(whole_bytes + cut_bytes), pytest.raises(OSError, match="File too large"):
            journal.append("applying", collection="B" * 100)
        assert path_of(place).stat().st_size == whole_bytes
        if not dies:
            journal.append("applying", collection="C")
        known = [record["collection"] for record in journal.of("applying")]
    with Journal(place) as journal:
        assert known == [record["collection"] for record in journal.of("applying")] == ["A", "C"][: 2 - dies]


def test_half_a_line_that_could_not_be_taken_back_is_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(tmp_path) / JOURNAL
    with Journal(place) as journal:
        journal.append("applying", collection="A")
        whole_bytes = path_of(place).stat().st_size
        with monkeypatch.context() as patch, full_at(whole_bytes + 20):
            patch.setattr(os, "ftruncate", refused)
            for _ in range(2):
                with pytest.raises(OSError):
                    journal.append("applying", collection="B" * 100)
        assert path_of(place).stat().st_size == whole_bytes + 20
        journal.append("applying", collection="C")
    with Journal(place) as journal:
        assert [record["collection"] for record in journal.of("applying")] == ["A", "C"]


def test_a_journal_that_somebody_else_cut_is_not_written_on(tmp_path: Path) -> None:
    place = place_of(tmp_path) / JOURNAL
    with Journal(place) as journal:
        journal.append("applying", collection="A")
        os.truncate(path_of(place), 5)
        with pytest.raises(Permanent, match="JournalDamaged: somebody cut the journal"):
            journal.append("applying", collection="B")
        assert path_of(place).stat().st_size == 5


def refused(_: int, __: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_who_holds_it_is_asked_as_network_file_systems_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lock nothing exclusively that is open for reading alone."""
    place, flock = place_of(tmp_path) / JOURNAL, fcntl.flock

    def as_nfs(file: int, how: int) -> None:
        if how & fcntl.LOCK_EX and fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", as_nfs)
    with Journal(place):
        assert is_held(place)
    assert not is_held(place)


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


CUT = {"collection": "A", "shard": "s", "driver": "d", "halt_seconds": 0.1, "object_count": 1, "bytes": 1, "files": 1}
AT = "2026-05-01T10:00:00Z"


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("shard", {"started_at": "yesterday"}),
        ("shard", {"ended_at": ""}),
        ("shard", {"object_count": -1}),
        ("shard", {"halt_seconds": float("nan")}),
        ("gone", {"at": "x"}),
        ("chunk", {"record": {"number": -1, "stored_bytes": 1, "sha256": "a", "parts": []}}),
        ("chunk", {"record": {"number": 1, "stored_bytes": "x", "sha256": 7, "parts": []}}),
        ("chunk", {"record": {"number": 1}}),
    ],
)
def test_records_that_say_what_cannot_be_make_no_manifest(tmp_path: Path, kind: str, wrong: dict[str, Any]) -> None:
    right: dict[str, dict[str, Any]] = {
        "shard": {**CUT, "started_at": AT, "ended_at": AT},
        "gone": {"collection": "A", "shard": "t", "at": AT},
        "chunk": {
            "collection": "A",
            "number": 1,
            "record": {"number": 1, "stored_bytes": 1, "sha256": "a", "parts": []},
        },
    }
    place = place_of(tmp_path) / JOURNAL
    with Journal(place) as journal:
        for each, fields in right.items():
            journal.append(each, **fields)
    assert len(_manifest_of(place)) == 2
    with Journal(place) as journal:
        journal.append(kind, **right[kind] | wrong)
    with pytest.raises(Permanent, match=f"JournalDamaged: the journal's record '{kind}'"):
        _manifest_of(place)


def _manifest_of(place: Place) -> list[ShardRecord]:
    with Journal(place) as journal:
        shards = list(shard_records(records_of(journal, fates(journal))))
        for (collection, _), at in sent_of(journal).items():
            with believed("chunk"):
                ChunkLine.of(collection, stored_record(journal, at))
        return shards


def test_a_journal_takes_no_memory_for_what_it_holds(tmp_path: Path) -> None:
    place = place_of(tmp_path) / JOURNAL
    with Journal(place) as journal:
        for number in range(200):
            journal.append("chunk", sync=False, collection="A", number=number, record={"parts": ["x" * 50_000]})
    tracemalloc.start()
    with Journal(place) as journal:
        assert [record["number"] for record in journal.of("chunk")] == list(range(200))
        journal.append("chunk", sync=False, collection="A", number=200, record={"parts": ["x" * 50_000]})
        last = journal.last("chunk")
        assert last is not None and last["number"] == 200
        assert sum(1 for _ in read_records(place)) == 201
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2_000_000, "of ten million"


def test_a_record_is_found_again_by_its_number(tmp_path: Path) -> None:
    for place in (None, place_of(tmp_path) / JOURNAL):
        with Journal(place) as journal:
            for collection in "ABC":
                journal.append("applying", collection=collection)
                journal.append("all-placed")
            assert [(at, each["collection"]) for at, each in journal.numbered("applying")] == [
                (0, "A"),
                (2, "B"),
                (4, "C"),
            ]
            assert journal.at(2) == {"kind": "applying", "collection": "B"}


def test_a_record_that_somebody_changed_is_not_believed(tmp_path: Path) -> None:
    place = place_of(tmp_path) / JOURNAL
    with Journal(place) as journal:
        journal.append("applying", collection="A")
        journal.append("applied", collection="A", index=7)
        text = path_of(place).read_text()
        for changed in (text.replace("applied", "apply!!"), text.replace('"A"', '"A]'), text[:10]):
            path_of(place).write_text(changed)
            with pytest.raises(Permanent, match="JournalDamaged: the journal's record 'applied'"):
                journal.last("applied")
        path_of(place).write_text(text)
        assert journal.last("applied") is not None
    with pytest.raises(ValueError, match="closed"):
        journal.append("applied", collection="A", index=8)
    with pytest.raises(ValueError, match="closed"):
        journal.last("applied")


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process would cut it off, and all behind it."""
    monkeypatch.setattr(journaling, "LINE_LIMIT_BYTES", 100)
    place, fitting = place_of(tmp_path) / JOURNAL, 100 - len('{"kind":"applying","collection":""}\n')
    with Journal(place) as journal:
        journal.append("applying", collection="A" * fitting)
        size_bytes = path_of(place).stat().st_size
        assert size_bytes == 100
        wrong: dict[str, dict[str, Any]] = {
            "applying": {"collection": "A" * (fitting + 1)},
            "applied": {"collection": "A"},
            "replaying": {"collection": "A", "shard": "../x"},
        }
        for kind, fields in wrong.items():
            with pytest.raises(Permanent, match=f"RecordUnreadable: the journal's record '{kind}'"):
                journal.append(kind, **fields)
        assert path_of(place).stat().st_size == size_bytes
        monkeypatch.setattr(journaling, "LIMIT_BYTES", 120)
        with pytest.raises(Permanent, match=r"RecordUnreadable: .* more than 120 bytes"):
            journal.append("applying", collection="B")
        monkeypatch.setattr(journaling, "LIMIT_BYTES", 1000)
        journal.append("applying", collection="B")
    with Journal(place) as journal:
        assert [record["collection"] for record in journal.of("applying")] == ["A" * fitting, "B"]
