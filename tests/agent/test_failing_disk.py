"""The data volume loses power, or fills up, at every single call that an upload, a download or a placing makes: whoever
goes on knows all that was synced, believes nothing that was not, and what it completes is whole."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.agent.failing_disk import FailingDisk, PowerLost
from tests.agent.hand_frozen import COLLECTION, Node, shard_of
from tests.agent.small_restore import FILES, Restore, ours
from tests.agent.small_restore import UID as RESTORE_UID
from tests.places import place_of

from weaviate_backup.agent import durability
from weaviate_backup.agent.brought import tell_what_came
from weaviate_backup.agent.download import _download
from weaviate_backup.agent.freeze import take_place
from weaviate_backup.agent.journal import JOURNAL, Journal, read_records
from weaviate_backup.agent.place import _place_all
from weaviate_backup.agent.placed_records import placed_of
from weaviate_backup.agent.sweep import BACKUP_TEMPORARY
from weaviate_backup.agent.taking_back import remove_operation, take_back
from weaviate_backup.agent.upload import _upload
from weaviate_backup.agent.verify import _verify
from weaviate_backup.agent.workspace import LATE, RESTORE, Workspace, operation_directory
from weaviate_backup.core.session import Step, StepCommand
from weaviate_backup.errors import BackupError
from weaviate_backup.layout import keys
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.late_writes import LATE_WRITES, MAGIC

UID = "0b5f2c1e-0000-4000-8000-000000000020"
SHARDS = {f"s{number}": shard_of(str(number), size_bytes=700 * number) for number in range(1, 4)}
EVERYTHING = sum(len(content) for files in SHARDS.values() for content in files.values())
FEW, MANY = 10, 2000
STRAY = "stray"
"""A shard that came with the backup and is not named by its state."""


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
    assert FEW < calls < MANY
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


class Placing:
    """Of one node's part of a restore that was downloaded. Each `run` is of a process of its own."""

    def __init__(self, base: Path) -> None:
        base.mkdir()
        self._restore = Restore(base / "node", ours(base))
        self._restore.judge()
        self._restore.download()
        self.data = base / "node" / "data"
        ready = self._directory / RESTORE / COLLECTION
        self.wanted = self.files_of(ready)
        assert {name.split("/", 2)[2] for name in self.wanted} >= FILES.keys()
        (shard,) = (ready / COLLECTION.lower()).iterdir()
        (shard / LATE_WRITES).write_bytes(MAGIC)
        (shard.parent / STRAY).mkdir()
        for name, content in (("indexcount", b"7"), (LATE_WRITES, MAGIC)):
            (shard.parent / STRAY / name).write_bytes(content)
        with self._restore.workspace.journal as journal:
            workspace = Workspace(self._restore.workspace.settings, self._restore.workspace.order, journal)
            tell_what_came(workspace, (COLLECTION,), {COLLECTION: [STRAY]})
            journal.append("downloaded", counted=True)
        self.wanted_late = {shard.name: MAGIC, STRAY: MAGIC}

    @property
    def _directory(self) -> Path:
        return self.data / ".weaviate-backup" / RESTORE_UID

    def journal(self) -> Journal:
        return Journal(operation_directory(place_of(self.data), RESTORE_UID) / JOURNAL)

    def run(self) -> None:
        with self.journal() as journal:
            workspace = Workspace(self._restore.workspace.settings, self._restore.workspace.order, journal)
            _place_all(workspace, (COLLECTION,), Meter())

    def take_back(self, *collections: str, by_then: tuple[str, ...] | None = None) -> None:
        """`collections`: names in the schema, at first; `by_then`: when raft is asked again."""
        with self.journal() as journal:
            placed = list(placed_of(journal).values())
        root, names = place_of(self.data), collections
        if take_back(root, RESTORE_UID, placed, collections=names) and by_then is not None:
            names = by_then
        remove_operation(root, RESTORE_UID, placed, collections=names)

    def move_early(self) -> None:
        """As Weaviate does when it starts and comes to an old command."""
        (self.data / BACKUP_TEMPORARY / COLLECTION / COLLECTION.lower()).rename(self.data / COLLECTION.lower())

    @property
    def placed(self) -> dict[str, bytes]:
        return self.files_of(self.data / BACKUP_TEMPORARY / COLLECTION)

    @property
    def taken(self) -> dict[str, bytes]:
        """By Weaviate."""
        return {f"article/{name}": content for name, content in self.files_of(self.data / "article").items()}

    @property
    def late(self) -> dict[str, bytes]:
        return self.files_of(self._directory / LATE / COLLECTION)

    @property
    def everything(self) -> set[str]:
        return {str(path.relative_to(self.data)) for path in self.data.rglob("*")}

    @staticmethod
    def files_of(directory: Path) -> dict[str, bytes]:
        return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("full", [False, True], ids=["power", "space"])
@pytest.mark.parametrize("goes_on", [True, False], ids=["placed again", "taken back"])
def test_a_placing_outlasts_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool, goes_on: bool) -> None:
    """Who goes on places all of it, which outlasts the next loss, and who takes it back leaves nothing in Weaviate's
    way."""

    def run(base: Path, fails_at: int | None) -> int:
        placing = Placing(base)
        disk = FailingDisk(placing.data, fails_at=fails_at, full=full)
        with disk.below(monkeypatch):
            try:
                placing.run()
            except (PowerLost, OSError, BackupError):
                assert fails_at is not None
            disk.heal()
            if fails_at is not None and not full:
                disk.after_power_loss()
            if goes_on:
                placing.run()
        if goes_on or fails_at is None:
            disk.after_power_loss()
            assert placing.placed == placing.wanted
            assert placing.late == placing.wanted_late
        placing.take_back()
        assert placing.everything <= {BACKUP_TEMPORARY}
        return disk.calls

    at_each_call(tmp_path, run)


def test_what_is_said_to_be_placed_outlasts_a_process_that_was_killed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill, another process that goes on, then a loss of power."""

    def run(base: Path, fails_at: int | None) -> int:
        placing = Placing(base)
        disk = FailingDisk(placing.data, fails_at=fails_at)
        with disk.below(monkeypatch):
            try:
                placing.run()
            except PowerLost:
                assert fails_at is not None
            disk.heal()
            placing.run()
        disk.after_power_loss()
        with placing.journal() as journal:
            assert journal.last("all-placed") is not None
        assert placing.placed == placing.wanted
        return disk.calls

    at_each_call(tmp_path, run)


@pytest.mark.parametrize("early", [False, True], ids=["waits", "moved too early"])
@pytest.mark.parametrize("power", ["stays", "lost, but removals last"])
@pytest.mark.parametrize(
    "schema",
    [((), ()), ((), (COLLECTION,)), ((COLLECTION,), (COLLECTION,))],
    ids=["never in the schema", "in the schema later", "in the schema when asked again"],
)
def test_half_a_collection_is_never_where_weaviate_finds_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    early: bool,
    power: str,
    schema: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    """Taking back ends at any call. Whoever goes on takes the rest back, or puts back the whole of it, or finds that it
    was deleted before."""
    (by_then, later), there = schema, []

    def run(base: Path, fails_at: int | None) -> int:
        placing = Placing(base)
        placing.run()
        if early:
            placing.move_early()
        disk = FailingDisk(placing.data, fails_at=fails_at)

        def refuse_half() -> None:
            if power != "stays":
                disk.after_power_loss(removals_last="removals" in power)
            assert (placing.taken if early else placing.placed) in ({}, placing.wanted), fails_at
            assert (placing.placed if early else placing.taken) == {}

        with disk.below(monkeypatch):
            try:
                placing.take_back(by_then=by_then)
            except PowerLost:
                assert fails_at is not None
            disk.heal()
            refuse_half()
            placing.take_back(*later)
            refuse_half()
        there.append(bool(placing.placed or placing.taken))
        return disk.calls

    at_each_call(tmp_path, run)
    assert (any(there), all(there)) == (bool(later), bool(by_then)), "whoever may, puts it back"
