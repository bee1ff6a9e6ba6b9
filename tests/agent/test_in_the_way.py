"""What another operation left where a restore would put its collections, or in the space it needs: a dead one's is in
nobody's way, one that may come back is waited for, and a stranger's is refused."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.agent.foreign_backup import COLLECTION
from tests.agent.small_restore import TARGET, Restore
from tests.agent.test_release import moved
from tests.places import place_of
from tests.stored.own_backup import own_backup

from weaviate_backup.agent import download as downloading
from weaviate_backup.agent import inspect_backup
from weaviate_backup.agent.download import download
from weaviate_backup.agent.inspect_backup import inspect
from weaviate_backup.agent.journal import JOURNAL, Journal
from weaviate_backup.agent.place import _place_all
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.core.restore_plan import RestoreWishes, plan_restore
from weaviate_backup.core.session import DATA_DIRECTORY, Inspected, Step, StepCommand
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.stored.meter import Meter

OTHER = "other-operation"
LEASE_SECONDS = 600
PLACED_BYTES, BROUGHT_BYTES = 50_000, 30_000
BACKUP_BYTES = 200_000


class Raft:
    """Knows these collections."""

    def __init__(self, *collections: str) -> None:
        self._collections = collections

    async def __aenter__(self) -> "Raft":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def class_names(self) -> tuple[str, ...]:
        return self._collections


@pytest.fixture
def restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Restore:
    """Of a node beside a server without collections."""
    for module in (downloading, inspect_backup):
        monkeypatch.setattr(module, "RaftClient", lambda *_: Raft())
    backup = own_backup(tmp_path / "store", "nightly", files={"lsm/objects/segment-1.db": os.urandom(BACKUP_BYTES)})
    restore = Restore(tmp_path / "node", backup)
    order = restore.workspace.order
    plain = restore.workspace.restore.model_copy(update={"roles": False, "users": False})
    restore.workspace = Workspace(
        restore.workspace.settings, order.model_copy(update={"work": plain}), restore.workspace.journal
    )
    return restore


def data_of(restore: Restore) -> Path:
    return Path(str(restore.workspace.data_root))


def journal_of(data: Path) -> Journal:
    return Journal(place_of(data) / DATA_DIRECTORY / OTHER / JOURNAL)


def left_by_another(data: Path, *, collection: str = COLLECTION, silent_seconds: int = LEASE_SECONDS + 60) -> Path:
    """What it placed, beside what it brought and did not place."""
    directory = data / ".backup.tmp" / collection
    (directory / collection.lower() / "s0").mkdir(parents=True)
    written(directory / collection.lower() / "s0" / "file", PLACED_BYTES)
    born = {name: place_of(each).born() for name, each in (("ready", directory), ("data", next(directory.iterdir())))}
    inodes: dict[str, Any] = {"inode": directory.stat().st_ino, "data_inode": next(directory.iterdir()).stat().st_ino}
    with journal_of(data) as journal:
        journal.append("session", order={"lease_seconds": LEASE_SECONDS})
        journal.append("placed", collection=collection, **inodes, shards={}, files=1, born=born)
    own = data / DATA_DIRECTORY / OTHER
    (own / "restore").mkdir()
    written(own / "restore" / "file", BROUGHT_BYTES)
    last = (own / JOURNAL).stat().st_mtime - silent_seconds
    os.utime(own / JOURNAL, (last, last))
    return directory


def written(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.write(os.urandom(size_bytes))
        os.fsync(file.fileno())


def inspected(restore: Restore) -> Inspected:
    return asyncio.run(inspect(restore.workspace, None, Meter()))  # type: ignore[arg-type]


def refusals(restore: Restore) -> list[str]:
    found = plan_restore(RestoreWishes(), dict.fromkeys(("n0", "n1"), inspected(restore)), TARGET)
    restore.backup_sha256 = found.backup_sha256
    return [each.reason for each in found.refusals]


def downloaded(restore: Restore) -> None:
    command = StepCommand(
        operation_uid="x", step=Step.DOWNLOAD, collections=(COLLECTION,), backup_sha256=restore.backup_sha256
    )
    asyncio.run(download(restore.workspace, command, Meter()))


@pytest.mark.parametrize("early", [False, True], ids=["waits", "moved too early"])
def test_what_the_sweep_takes_away_is_in_nobodys_way(restore: Restore, early: bool) -> None:
    directory = left_by_another(data_of(restore))
    if early:
        moved(directory)
    assert refusals(restore) == []
    downloaded(restore)
    _place_all(restore.workspace, (COLLECTION,), Meter())
    assert [each.name for each in (data_of(restore) / ".backup.tmp").iterdir()] == [COLLECTION]
    assert not (data_of(restore) / DATA_DIRECTORY / OTHER).exists()


def test_another_directory_of_that_name_is_nobodys(restore: Restore) -> None:
    directory = left_by_another(data_of(restore))
    directory.rename(directory.with_name("elsewhere"))
    directory.mkdir()
    assert set(refusals(restore)) == {"DirectoryInTheWay"}
    with pytest.raises(Permanent, match=r"DirectoryInTheWay: \.backup\.tmp/Article in "):
        downloaded(restore)


@pytest.mark.parametrize("early", [False, True], ids=["waits", "moved too early"])
@pytest.mark.parametrize("how", ["within its lease", "at work"])
def test_what_an_operation_placed_that_may_come_back_is_waited_for(restore: Restore, how: str, early: bool) -> None:
    restore.judge()
    silent_seconds = 100 if how == "within its lease" else LEASE_SECONDS + 60
    directory = left_by_another(data_of(restore), silent_seconds=silent_seconds)
    if early:
        moved(directory)
    way = "article" if early else ".backup.tmp/Article"
    said = f"OperationActive: operation {OTHER} placed {way} in .* may come back within [456]00 s; wait for its end"
    with at_work(restore) if how == "at work" else nothing():
        for act in (inspected, downloaded, Restore.download):
            with pytest.raises(Transient, match=said):
                act(restore)
    assert restore.brought == {}
    assert (data_of(restore) / DATA_DIRECTORY / OTHER).exists()


@contextmanager
def at_work(restore: Restore) -> Iterator[None]:
    with journal_of(data_of(restore)):
        yield


@contextmanager
def nothing() -> Iterator[None]:
    yield


def test_what_is_in_the_way_when_it_is_placed_is_waited_for_too(restore: Restore) -> None:
    restore.judge()
    restore.download()
    left_by_another(data_of(restore), silent_seconds=1)
    with pytest.raises(Transient, match="OperationActive"):
        _place_all(restore.workspace, (COLLECTION,), Meter())


def test_an_operation_at_work_that_is_in_nobodys_way_keeps_nobody_from_a_look(restore: Restore) -> None:
    left_by_another(data_of(restore), collection="Book", silent_seconds=1)
    with at_work(restore):
        assert refusals(restore) == []


# Space


def needs(restore: Restore, monkeypatch: pytest.MonkeyPatch, *, beyond: int) -> None:
    """So many bytes more than are free."""
    restore.judge()
    required = inspected(restore).bytes_required
    monkeypatch.setattr(Place, "free_bytes", lambda _, **__: required - beyond)


@pytest.mark.parametrize(
    ("collections", "freed"),
    [((), PLACED_BYTES + BROUGHT_BYTES), (("Book",), BROUGHT_BYTES), (("BOOK",), BROUGHT_BYTES)],
    ids=["taken back", "in the schema", "in the schema, in another case"],
)
@pytest.mark.parametrize("early", [False, True], ids=["waits", "moved too early"])
def test_what_the_sweep_takes_away_is_free(
    restore: Restore, monkeypatch: pytest.MonkeyPatch, collections: tuple[str, ...], freed: int, early: bool
) -> None:
    """What a server works with is never counted, whoever placed it."""
    monkeypatch.setattr(inspect_backup, "RaftClient", lambda *_: Raft(*collections))
    directory = left_by_another(data_of(restore), collection="Book")
    if early:
        moved(directory)
    journal = (data_of(restore) / DATA_DIRECTORY / OTHER / JOURNAL).stat().st_size
    needs(restore, monkeypatch, beyond=freed)
    assert "NotEnoughSpace" not in refusals(restore)
    needs(restore, monkeypatch, beyond=freed + journal + 1)
    assert "NotEnoughSpace" in refusals(restore)


def test_what_weaviate_has_too_is_not_freed(restore: Restore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen file has two names; a sparse one takes less than it says."""
    left_by_another(data_of(restore), collection="Book")
    own = data_of(restore) / DATA_DIRECTORY / OTHER
    os.link(own / "restore" / "file", data_of(restore) / "live")
    with (own / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    needs(restore, monkeypatch, beyond=PLACED_BYTES + BROUGHT_BYTES)
    assert "NotEnoughSpace" in refusals(restore)


def test_space_of_an_operation_that_may_come_back_is_waited_for(
    restore: Restore, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by_another(data_of(restore), collection="Book", silent_seconds=100)
    needs(restore, monkeypatch, beyond=BROUGHT_BYTES)
    said = f"OperationActive: operation {OTHER} takes space that is needed on .* within 500 s"
    attempts: tuple[Any, ...] = (inspected, downloaded, Restore.download)
    for act in attempts:
        with pytest.raises(Transient, match=said):
            act(restore)
    monkeypatch.setattr(Place, "free_bytes", lambda _, **__: 0)
    assert "NotEnoughSpace" in refusals(restore), "that would not be enough"
    with pytest.raises(BackupError, match="NotEnoughSpace"):
        downloaded(restore)
