"""Small writes are exact, and nothing of a committed backup is written over; whole reads are bounded."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from weaviate_backup.errors import ObjectNotFound, Permanent, Transient
from weaviate_backup.layout.claims import Claim
from weaviate_backup.layout.json_bounds import JsonBounds
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo
from weaviate_backup.stored import storing
from weaviate_backup.stored.claiming import ClaimedPlace
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import (
    Budget,
    Document,
    abort_unfinished,
    find_document,
    folder_of,
    hash_object,
    is_stored_as,
    lock_backup,
    read_document,
    read_small,
    refuse_beyond,
    sizes_of,
)

KEY = "b/n/backup.json"
SMALL = JsonBounds(100, 20)


class Recording(FilesystemStore):
    """A directory that remembers what it was asked to write."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.puts: list[tuple[str, bool]] = []
        self.locked: list[tuple[list[str], datetime]] = []

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        self.puts.append((key, if_absent))
        return super().put(key, make_blocks, if_absent=if_absent, at_most_bytes=at_most_bytes)

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        self.locked.append((sorted(keys), until))


@pytest.fixture
def store(tmp_path: Path) -> Recording:
    (tmp_path / "store").mkdir()
    return Recording(tmp_path / "store")


def there(store: FilesystemStore, key: str, content: bytes) -> None:
    store.put(key, lambda: iter((content,)), if_absent=True)


@pytest.fixture
def place(store: Recording) -> ClaimedPlace:
    """Taken, and nothing else is there."""
    place = ClaimedPlace(store, Claim(operation_uid="ours", backup_id="b"), "file:///backups")
    place.take()
    store.puts.clear()
    return place


def test_a_document_is_stored_once_and_one_of_an_earlier_attempt_is_replaced(
    store: Recording, place: ClaimedPlace
) -> None:
    place.put_exactly(KEY, Document.of(b"one"))
    place.put_exactly(KEY, Document.of(b"one"))
    assert read_document(store, KEY) == b"one"
    place.put_exactly(KEY, Document.of(b"two"))
    assert read_document(store, KEY) == b"two"
    assert store.puts == [(KEY, True)] * 4, "nothing is ever written over: it is deleted before, if it may be"


def test_nothing_of_a_committed_backup_is_replaced(store: Recording, place: ClaimedPlace) -> None:
    there(store, KEY, b"committed")
    there(store, "b/backup_config.json", b"{}")
    with pytest.raises(Permanent, match="BackupCommitted: backup 'b' is complete"):
        place.put_exactly(KEY, Document.of(b"other"))
    assert read_document(store, KEY) == b"committed"
    place.put_exactly(KEY, Document.of(b"committed"))


def test_a_lock_covers_all_of_the_backup_for_its_days(store: Recording) -> None:
    for key in (KEY, "b/backup_config.json", "bb/other"):
        there(store, key, b"x")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert lock_backup(store, "b", days=None, completed_at=at) is None
    assert store.locked == []
    assert lock_backup(store, "b", days=30, completed_at=at) == at + timedelta(days=30)
    assert store.locked == [(["b/backup_config.json", KEY], at + timedelta(days=30))]


def test_sizes_are_of_one_folder(store: Recording) -> None:
    there(store, KEY, b"12")
    there(store, "b/n2/backup.json", b"123")
    assert sizes_of(store, folder_of("b", "n")) == {KEY: 2}


def test_a_document_that_memory_would_not_hold_is_refused_before_it_is_read(
    store: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "document_bounds", lambda: SMALL)
    there(store, KEY, b" " * 100)
    assert len(read_document(store, KEY)) == 100
    there(store, "b/large", b" " * 101)
    monkeypatch.setattr(store, "open", None)  # it is not even opened
    with pytest.raises(Permanent, match=r"DocumentTooLarge: b/large is larger than .*101 bytes, more than 100"):
        read_document(store, "b/large")


def test_a_document_of_too_many_values_is_refused_unless_it_is_packed(
    store: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "document_bounds", lambda: SMALL)
    for key in (KEY, "b/n/manifest.json.zst"):
        there(store, key, b"[" + b"1," * 30 + b"1]")
    with pytest.raises(Permanent, match=r"DocumentTooLarge: b/n/backup.json"):
        read_document(store, KEY)
    assert read_document(store, "b/n/manifest.json.zst")


def test_what_no_program_writes_is_told_from_what_is_too_large() -> None:
    refuse_beyond(b"[1]", SMALL, what="it")
    with pytest.raises(Permanent, match="HostileBackup: it is no descriptor or manifest"):
        refuse_beyond(b"[" * 150 + b"]" * 150, JsonBounds(1000, 1000), what="it")
    with pytest.raises(Permanent, match="DocumentTooLarge: it"):
        refuse_beyond(b"[1]" * 40, SMALL, what="it")


def test_a_small_object_is_read_whole_up_to_its_limit(store: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the store said of its size before."""
    monkeypatch.setattr(storing, "READ_BLOCK_BYTES", 4)
    there(store, KEY, b"0123456789")
    assert read_small(store, KEY, limit_bytes=10) == b"0123456789"
    with pytest.raises(Permanent, match=r"DocumentTooLarge: .*more than 9 bytes"):
        read_small(store, KEY, limit_bytes=9)


def test_documents_that_are_held_at_once_share_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "document_bounds", lambda: SMALL)
    bytes_of_two = Budget()
    bytes_of_two.take(b" " * 100, what="one")
    bytes_of_two.take(b" " * 100, what="two")
    with pytest.raises(Permanent, match=r"DocumentTooLarge: three .*together with the documents of other nodes"):
        bytes_of_two.take(b" ", what="three")
    values_of_one = Budget()
    values_of_one.take(b"[" + b"," * 17, what="one")
    values_of_one.take(b"", what="two")
    with pytest.raises(Permanent, match="DocumentTooLarge: three"):
        values_of_one.take(b"", what="three")


def test_no_document_is_told_from_an_empty_one(store: Recording) -> None:
    there(store, KEY, b"")
    assert find_document(store, KEY) == b""
    assert find_document(store, "b/none") is None


def test_a_hash_is_of_every_byte_and_counts_it(store: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "READ_BLOCK_BYTES", 2)
    there(store, KEY, b"hello")
    meter = Meter()
    size_bytes, sha256 = hash_object(store, KEY, meter)
    assert (size_bytes, sha256[:8]) == (5, "2cf24dba")
    assert meter.snapshot().bytes_done == 5


def test_an_object_is_told_by_its_bytes_and_by_its_size_first(
    store: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(store, KEY, b"hello")
    right = Document.of(b"hello")
    assert is_stored_as(store, KEY, right.size_bytes, right.sha256)
    assert not is_stored_as(store, KEY, right.size_bytes, Document.of(b"hallo").sha256)
    monkeypatch.setattr(store, "open", None)  # it is not read
    assert not is_stored_as(store, KEY, right.size_bytes + 1, right.sha256)
    with pytest.raises(ObjectNotFound):
        is_stored_as(store, "b/none", 0, Document.of(b"").sha256)


def test_left_overs_that_cannot_be_looked_for_fail_nothing(
    store: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def denied(folder: str) -> int:
        raise Transient("StoreUnavailable", f"{folder}: not now")

    monkeypatch.setattr(store, "abort_unfinished", denied)
    abort_unfinished(store, "b/n/")
    assert "unfinished uploads below b/n/ could not be looked for: StoreUnavailable" in caplog.text
