"""The end of a copy: what is locked when, and that the marker comes last, once, and only beside all that was copied."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.agent.foreign_backup import COLLECTION, ForeignBackup
from tests.stored.conftest import BIG, contents, copied, directory_store

from weaviate_backup.errors import ObjectExists, Permanent
from weaviate_backup.layout import keys
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo
from weaviate_backup.stored.copying import Copied, copy_backup
from weaviate_backup.stored.passage import CopyOptions, Passage, Verification

MARKER = "nightly/backup_config.json"
CHUNK = f"nightly/n1/{COLLECTION}/chunk-3"


class Watched(FilesystemStore):
    """A directory of the target that remembers what was done, and in which something may happen before a put."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        super().__init__(root)
        self.done: list[tuple[str, int]] = []
        self.until: list[datetime] = []
        self.before: dict[str, Callable[[], object]] = {}
        self.hidden = ""
        self.changed = ""

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        if key in self.before:
            self.before.pop(key)()
        info = super().put(key, make_blocks, if_absent=if_absent, at_most_bytes=at_most_bytes)
        self.done.append((key, info.size_bytes))
        return info

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        self.done.append(("lock", len(list(keys))))
        self.until.append(until)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return (each for each in super().list(prefix) if each.key != self.hidden)

    @contextmanager
    def open(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        with super().open(key, start=start + (key == self.changed), length=length) as stream:
            yield stream


@pytest.fixture
def target(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "target")


def copy(source: ForeignBackup, target: Watched, **wishes: object) -> Copied:
    options = CopyOptions(**wishes)  # type: ignore[arg-type]
    (done,) = copy_backup(Passage(directory_store(source.root), target, options), "nightly")
    return done


def test_all_is_locked_before_the_marker_makes_it_a_backup_and_with_it(own: ForeignBackup, target: Watched) -> None:
    before = datetime.now(UTC)
    done = copy(own, target, lock_days=7)
    assert target.done[-3:-1] == [("lock", done.objects - 1), (MARKER, (own.root / MARKER).stat().st_size)]
    assert target.done[-1] == ("lock", done.objects)
    for until in target.until:
        assert before + timedelta(days=7) <= until <= datetime.now(UTC) + timedelta(days=7)
    target.done.clear()
    copy(own, target, lock_days=9)
    assert target.done == [("lock", done.objects)], "a killed copy may not have come so far"
    target.done.clear()
    copy(own, target)
    assert target.done == []


def test_the_claim_goes_first_then_the_largest_and_the_marker_last(own: ForeignBackup, target: Watched) -> None:
    copy(own, target, workers=1)
    (first, _), *others, (last, _) = target.done
    sizes = [size for _, size in others]
    assert sizes == sorted(sizes, reverse=True)
    assert (first, last) == (keys.claim("nightly"), MARKER)


def test_what_is_reported_is_what_was_sent(own: ForeignBackup, target: Watched, tmp_path: Path) -> None:
    whole = copy(own, target)
    everything = contents(own.root)
    for key in (MARKER, CHUNK):
        (tmp_path / "target" / key).unlink()
    again = copy(own, target)
    sent_bytes = len(everything[MARKER]) + len(everything[CHUNK])
    total_bytes = sum(map(len, everything.values()))
    assert whole == Copied("nightly", len(everything), total_bytes, len(everything), total_bytes, verifiable=True)
    assert again == Copied("nightly", len(everything), total_bytes, 2, sent_bytes, verifiable=True)


def test_no_marker_stands_beside_objects_that_are_not_listed(
    own: ForeignBackup, target: Watched, tmp_path: Path
) -> None:
    target.hidden = CHUNK
    with pytest.raises(Permanent, match=rf"VerificationFailed: .*does not list what was copied: {CHUNK}"):
        copy(own, target)
    assert MARKER not in contents(tmp_path / "target")


def test_the_marker_of_another_copy_of_it_is_the_same(own: ForeignBackup, target: Watched, tmp_path: Path) -> None:
    target.before[MARKER] = lambda: copied(own.root, tmp_path / "target")
    assert copy(own, target).objects_sent > 0
    assert contents(tmp_path / "target") == contents(own.root)


def test_the_marker_of_another_backup_stays(own: ForeignBackup, target: Watched, tmp_path: Path) -> None:
    target.before[MARKER] = lambda: (tmp_path / "target" / MARKER).write_bytes(b"another")
    with pytest.raises(Permanent, match=r"BackupExists: .*backup_config.json was written meanwhile") as caught:
        copy(own, target)
    assert isinstance(caught.value.__cause__, ObjectExists)
    assert (tmp_path / "target" / MARKER).read_bytes() == b"another"


def test_a_marker_that_comes_back_otherwise_is_told(own: ForeignBackup, target: Watched) -> None:
    target.changed = MARKER
    with pytest.raises(Permanent, match=r"VerificationFailed: .*backup_config.json came back with other bytes"):
        copy(own, target)


def test_the_size_alone_is_looked_at_when_a_store_is_trusted(own: ForeignBackup, target: Watched) -> None:
    target.changed = CHUNK
    with pytest.raises(Permanent, match=f"VerificationFailed: {CHUNK} came back with other bytes"):
        copy(own, target)
    copy(own, target, verification=Verification.SIZE)


@pytest.mark.parametrize("backup_id", ["", "../nightly", "Nightly", "a/b", "nightly\n"])
def test_what_is_no_identifier_is_not_looked_for(own: ForeignBackup, tmp_path: Path, backup_id: str) -> None:
    with pytest.raises(Permanent, match=r"InvalidRequest: .*is no identifier of a backup"):
        copied(own.root, tmp_path / "target", backup_id)


def test_a_servers_backup_is_what_it_is_by_its_sizes(tmp_path: Path, target: Watched) -> None:
    stock = ForeignBackup(tmp_path / "source", "nightly", files=BIG).write()
    assert not copy(stock, target).verifiable
