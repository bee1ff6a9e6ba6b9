"""The data volume loses power, or fills up, at every single call that an upload or a download makes: whoever goes on
knows all that was synced, believes nothing that was not, and what it completes is whole."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.agent.failing_disk import FailingDisk, PowerLost
from tests.agent.hand_frozen import COLLECTION, Node, shard_of
from tests.agent.small_restore import Restore, ours
from tests.places import place_of

from weaviate_backup.agent import durability
from weaviate_backup.agent.download import _download
from weaviate_backup.agent.freeze import take_place
from weaviate_backup.agent.journal import JOURNAL, Journal, read_records
from weaviate_backup.agent.upload import _upload
from weaviate_backup.agent.verify import _verify
from weaviate_backup.agent.workspace import Workspace, operation_directory
from weaviate_backup.core.session import Step, StepCommand
from weaviate_backup.errors import BackupError
from weaviate_backup.layout import keys
from weaviate_backup.stored.meter import Meter

UID = "0b5f2c1e-0000-4000-8000-000000000020"
SHARDS = {f"s{number}": shard_of(str(number), size_bytes=700 * number) for number in range(1, 4)}
EVERYTHING = sum(len(content) for files in SHARDS.values() for content in files.values())
MANY = 2000


def uploading(base: Path) -> tuple[Node, Callable[[], None]]:
    (base / "store").mkdir(parents=True)
    node = Node(base / "node", base / "store", UID, SHARDS, chunk_size_bytes=3000)
    node.freeze()

    def upload() -> None:
        workspace = node.workspace()
        with workspace.journal:
            take_place(workspace)
            _upload(workspace, (COLLECTION,), Meter())

    return node, upload


def refuse_less_than_whole(node: Node) -> None:
    workspace = node.workspace()
    with workspace.journal:
        verified = _verify(workspace, node.name, Meter())
        listed = [each.key for each in workspace.open_store().list("")]
    assert verified.bytes_stored > EVERYTHING
    assert len(listed) == verified.objects + 1, "the claim, and nothing that nobody wrote down"
    assert keys.claim("nightly") in listed


@contextmanager
def telling(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every record that was said to be synced."""
    told: list[str] = []
    append = Journal.append

    def then_tell(self: Journal, kind: str, *, sync: bool = True, **fields: object) -> None:
        append(self, kind, sync=sync, **fields)
        if sync:
            told.append(json.dumps({"kind": kind, **fields}, sort_keys=True))

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", then_tell)
        yield told


def at_each_call(base: Path, run: Callable[[Path, int | None], int]) -> int:
    """Once without a failure, to know how many calls there are, then with one at each."""
    calls = run(base / "sound", None)
    assert 10 < calls < MANY
    for number in range(1, calls + 2):  # the last one: right behind its end
        run(base / str(number), number)
    return calls


def synced_records(journal: Path) -> list[str]:
    return [json.dumps(record, sort_keys=True) for record in read_records(place_of(journal.parent) / journal.name)]


def test_an_upload_outlasts_a_loss_of_power_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(base: Path, fails_at: int | None) -> int:
        node, upload = uploading(base)
        disk = FailingDisk(node.data, fails_at=fails_at)
        with telling(monkeypatch) as told, disk.below(monkeypatch):
            try:
                upload()
            except PowerLost:
                assert fails_at is not None
        if fails_at is not None:
            disk.after_power_loss()
            known = synced_records(node.directory / JOURNAL)
            assert set(told) <= set(known), f"lost with call {fails_at}"
            upload()
        refuse_less_than_whole(node)
        return disk.calls

    at_each_call(tmp_path, run)


@pytest.mark.parametrize("dies", [False, True], ids=["the process goes on", "another one goes on"])
def test_an_upload_outlasts_a_disk_that_fills_at_any_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    def run(base: Path, fails_at: int | None) -> int:
        node, upload = uploading(base)
        disk = FailingDisk(node.data, fails_at=fails_at, full=True)
        with telling(monkeypatch) as told, disk.below(monkeypatch):
            try:
                workspace = node.workspace()
            except OSError:
                assert fails_at is not None
                disk.heal()
                workspace = node.workspace()
            with workspace.journal:
                for _ in range(1 if dies else 2):
                    try:
                        take_place(workspace)
                        _upload(workspace, (COLLECTION,), Meter())
                    except (OSError, BackupError):
                        assert fails_at is not None
                        disk.heal()
            disk.heal()
            assert set(told) <= set(synced_records(node.directory / JOURNAL)), f"lost with call {fails_at}"
            upload()
        refuse_less_than_whole(node)
        return disk.calls

    at_each_call(tmp_path, run)


def downloading(base: Path) -> tuple[Path, Callable[[], dict[str, int]]]:
    base.mkdir()
    restore = Restore(base / "node", ours(base))
    restore.judge()
    restore.workspace.journal.close()
    command = StepCommand(
        operation_uid=restore.workspace.uid,
        step=Step.DOWNLOAD,
        collections=(COLLECTION,),
        backup_sha256=restore.backup_sha256,
    )
    data = base / "node" / "data"

    def download() -> dict[str, int]:
        """Bytes of every file that was brought."""
        directory = operation_directory(place_of(data), restore.workspace.uid)
        with Journal(directory / JOURNAL) as journal:
            workspace = Workspace(restore.workspace.settings, restore.workspace.order, journal)
            if journal.last("downloaded") is None:
                _download(workspace, command, Meter())
            return {name: status.st_size for name, status in (directory / "restore").files()}

    return data, download


@pytest.mark.parametrize(
    ("full", "lucky"), [(False, ""), (False, JOURNAL), (True, "")], ids=["power", "power, but the journal", "space"]
)
def test_a_download_outlasts_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool, lucky: str) -> None:
    expected: dict[str, int] = {}

    def run(base: Path, fails_at: int | None) -> int:
        data, download = downloading(base)
        boot = base / "boot"
        boot.write_text("one")
        monkeypatch.setattr(durability, "BOOT_ID", boot)
        disk = FailingDisk(data, fails_at=fails_at, full=full)
        with disk.below(monkeypatch):
            try:
                found = download()
            except (PowerLost, OSError, BackupError):
                assert fails_at is not None
        if fails_at is None:
            expected.update(found)
        elif not full:
            boot.write_text("another")
            disk.after_power_loss(lucky=lucky)
        found = download()
        assert found == expected
        assert all(found.values())
        return disk.calls

    at_each_call(tmp_path, run)
