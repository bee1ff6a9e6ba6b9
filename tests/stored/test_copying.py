"""A copy is the backup, byte for byte, however often it was broken off; anything doubtful is refused before a write."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.agent.foreign_backup import COLLECTION, ForeignBackup, chain
from tests.storage.faults import Answer, Flip, HangUp, Moment, Request
from tests.stored.conftest import BIG, Bucket, contents, copied, directory_store, flip
from tests.stored.own_backup import own_backup

from weaviate_backup.errors import Permanent
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo
from weaviate_backup.stored.copying import Copied, copy_backup, plan_copies
from weaviate_backup.stored.passage import CopyOptions, Passage, Verification

MARKER = "nightly/backup_config.json"
CHUNK = f"nightly/n1/{COLLECTION}/chunk-3"
SIZES_ONLY = CopyOptions(verification=Verification.SIZE)
SLOW_DOWN = Answer(503, b"<Error><Code>SlowDown</Code></Error>", (("Retry-After", "0"),))


def reads(key: str) -> Callable[[Request], bool]:
    return lambda request: request.method == "GET" and key in request.path


def test_there_and_back_through_s3(own: ForeignBackup, bucket: Bucket, tmp_path: Path) -> None:
    before, back = contents(own.root), tmp_path / "back"
    (there,) = copy_backup(Passage(directory_store(own.root), bucket.store), "nightly")
    assert contents(bucket.directory) == before
    sizes = sum(len(content) for content in before.values())
    assert there == Copied("nightly", len(before), sizes, len(before), sizes, verifiable=True)
    puts = [each.path for each in bucket.line.requests if each.method == "PUT"]
    assert puts[-1].endswith(MARKER)
    assert len(puts) == len(before)
    copy_backup(Passage(bucket.store, directory_store(back)), "nightly")
    assert contents(back) == before


def test_a_stock_backup_without_the_state_of_its_restore(tmp_path: Path) -> None:
    """What a restore once left beside the backup would pass for a restore at the target."""
    stock = ForeignBackup(tmp_path / "source", "nightly", files=BIG).write()
    before = contents(stock.root)
    stock.put("restore_config.json", {"status": "SUCCESS"})
    (report,) = copied(stock.root, tmp_path / "target")
    assert not report.verifiable
    assert contents(tmp_path / "target") == before


@pytest.mark.parametrize("options", [CopyOptions(), SIZES_ONLY], ids=["read-back", "size"])
def test_objects_are_read_back_unless_the_store_is_trusted(
    own: ForeignBackup, bucket: Bucket, options: CopyOptions
) -> None:
    copy_backup(Passage(directory_store(own.root), bucket.store, options), "nightly")
    read = {each.path for each in bucket.line.requests if reads("/chunk-")(each)}
    assert len(read) == (2 * (len(BIG) + 1) if options.verification is Verification.READ_BACK else 0)


def test_the_target_is_told_how_large_an_object_is(
    own: ForeignBackup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a store which wants parts of one size gets them, and none are larger than need be."""
    told, put = dict[str, int | None](), FilesystemStore.put

    def remembered(store: FilesystemStore, key: str, make: MakeBlocks, **wishes: Any) -> ObjectInfo:
        told[key] = wishes["at_most_bytes"]
        return put(store, key, make, **wishes)

    monkeypatch.setattr(FilesystemStore, "put", remembered)
    copied(own.root, tmp_path / "target")
    sizes = {key: len(content) for key, content in contents(own.root).items()}
    assert {key: size for key, size in told.items() if not key.endswith(MARKER)} == {
        key: size for key, size in sizes.items() if not key.endswith(MARKER)
    }


def test_again_sends_nothing(own: ForeignBackup, tmp_path: Path) -> None:
    copied(own.root, tmp_path / "target")
    (report,) = copied(own.root, tmp_path / "target")
    assert (report.objects_sent, report.bytes_sent) == (0, 0)


@pytest.mark.parametrize("own_manifests", [True, False], ids=["own", "stock"])
def test_a_killed_copy_is_no_backup_and_is_continued(tmp_path: Path, own_manifests: bool) -> None:
    """A process that was killed in the middle, with -9. What had arrived stays the very same files."""
    source, target = tmp_path / "source", tmp_path / "target"
    files = {name: os.urandom(200_000) for name in BIG}
    if own_manifests:
        own_backup(source, "nightly", files=files)
    else:
        ForeignBackup(source, "nightly", files=files).write()
    script = (
        "import sys; from pathlib import Path; from tests.stored.conftest import copied\n"
        "copied(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, max_bytes_per_second=1_000_000)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, source, target])
    wait_until(lambda: len(list(target.glob("nightly/n*/*/chunk-*"))) >= 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    arrived = {path: path.stat().st_ino for path in target.rglob("nightly/n*/*/chunk-*")}
    assert 5 <= len(arrived) < 2 * (len(BIG) + 1)
    assert not (target / MARKER).exists()
    (report,) = copied(source, target)
    assert contents(target) == contents(source)
    assert report.objects_sent <= report.objects - len(arrived)
    assert {path: path.stat().st_ino for path in arrived} == arrived


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_damage_at_the_source_never_arrives(own: ForeignBackup, tmp_path: Path) -> None:
    flip(own.root / CHUNK)
    with pytest.raises(Permanent, match=f"SourceDamaged: {CHUNK}") as caught:
        copied(own.root, tmp_path / "target")
    assert caught.value.__notes__ == ["at the source"]
    assert CHUNK not in contents(tmp_path / "target")
    assert MARKER not in contents(tmp_path / "target")


@pytest.mark.parametrize("stock", [False, True], ids=["own", "stock"])
def test_damage_on_the_way_is_noticed_and_taken_back(tmp_path: Path, bucket: Bucket, stock: bool) -> None:
    """The answer to the first read back of a chunk has one bit that is wrong."""
    source = tmp_path / "source"
    backup = ForeignBackup(source, "nightly", files=BIG).write() if stock else own_backup(source, "nightly", files=BIG)
    bucket.line.fail(reads(CHUNK), Flip(Moment.RECEIVING, 50))
    with pytest.raises(Permanent, match=f"VerificationFailed: {CHUNK}") as caught:
        copy_backup(Passage(directory_store(backup.root), bucket.store), "nightly")
    assert caught.value.__notes__ == ["at the target"]
    there = contents(bucket.directory)
    assert CHUNK not in there
    assert MARKER not in there
    copy_backup(Passage(directory_store(backup.root), bucket.store), "nightly")
    assert contents(bucket.directory) == contents(source)


def test_stumbling_stores_are_outlasted(own: ForeignBackup, bucket: Bucket, tmp_path: Path) -> None:
    before = contents(own.root)
    bucket.line.fail(lambda request: request.method == "PUT", SLOW_DOWN, times=3)
    copy_backup(Passage(directory_store(own.root), bucket.store, SIZES_ONLY), "nightly")
    bucket.line.fail(reads("/chunk-"), HangUp(Moment.RECEIVING, 100), times=3)
    passage = Passage(bucket.store, directory_store(tmp_path / "back"))
    copy_backup(passage, "nightly")
    assert contents(tmp_path / "back") == before
    done = passage.meter.snapshot()
    assert done.bytes_done == done.bytes_total
    assert done.files_done == done.files_total


def test_two_copies_at_once_are_one(own: ForeignBackup, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(copied, own.root, target) for _ in range(2)]:
            future.result()
    assert contents(target) == contents(own.root)


def test_a_chain_is_copied_from_its_oldest_on(tmp_path: Path, bucket: Bucket) -> None:
    newest = chain(tmp_path / "source")
    passage = Passage(directory_store(newest.root), bucket.store)
    with pytest.raises(Permanent, match=r"BasesNeeded: .*b2, b1"):
        plan_copies(passage, "b3", with_bases=False)
    assert [each.backup_id for each in copy_backup(passage, "b3")] == ["b1", "b2", "b3"]
    assert contents(bucket.directory) == contents(newest.root)
    puts = [each.path for each in bucket.line.requests if each.method == "PUT"]
    markers = [path for path in puts if path.endswith("backup_config.json")]
    assert [path.split("/")[-2] for path in markers] == ["b1", "b2", "b3"]


def test_the_limit_is_kept(own: ForeignBackup, tmp_path: Path) -> None:
    """What was read, sent and read back, took at least its time."""
    size_bytes = sum(len(content) for content in contents(own.root).values())
    started = time.monotonic()
    copied(own.root, tmp_path / "target", workers=3, max_bytes_per_second=size_bytes)
    took_seconds = time.monotonic() - started
    assert took_seconds >= 1.5
