"""DOWNLOAD and PLACE without a server: what would keep Weaviate from taking the files is found before they are there,
and what came before a restart is believed only as far as it was kept."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.agent.foreign_backup import COLLECTION, SMALL, path_of
from tests.agent.small_restore import FILES, Restore, ours, stock

from weaviate_backup.agent import brought, durability
from weaviate_backup.agent import download as downloading
from weaviate_backup.agent.chunk_receiver import ChunkReceiver
from weaviate_backup.agent.confirm import confirm
from weaviate_backup.agent.download import download, refuse_without_space
from weaviate_backup.agent.place import _place_all
from weaviate_backup.agent.wanted_files import DescribedCollection, DescribedFiles, WantedChunk
from weaviate_backup.agent.workspace import LATE, RESTORE, Workspace
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import Step, StepCommand
from weaviate_backup.errors import Permanent
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.late_writes import LATE_WRITES

CHUNKS = 1 + len(FILES)
"""Of a node."""
FILES_OF_A_NODE = len(SMALL) + len(FILES)


@pytest.fixture
def restore(tmp_path: Path) -> Restore:
    restore = Restore(tmp_path / "node", ours(tmp_path))
    restore.judge()
    return restore


def data_of(restore: Restore) -> Path:
    return Path(str(restore.workspace.data_root))


def ready_of(restore: Restore) -> Path:
    """What is to be placed."""
    return Path(str(restore.workspace.directory / RESTORE)) / COLLECTION


def place_all(restore: Restore) -> None:
    _place_all(restore.workspace, (COLLECTION,), Meter())


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the chunks that are fetched from now on."""
    keys: list[str] = []
    receive = ChunkReceiver.receive

    def counted(self: ChunkReceiver, chunk: WantedChunk) -> None:
        keys.append(chunk.key)
        receive(self, chunk)

    monkeypatch.setattr(ChunkReceiver, "receive", counted)
    return keys


@pytest.mark.parametrize("name", ["article", "ARTICLE", ".backup.tmp/Article", ".backup.tmp/article"])
@pytest.mark.parametrize("when", ["before anything is fetched", "when all of it has come"])
def test_a_directory_in_the_way_is_refused(restore: Restore, received: list[str], name: str, when: str) -> None:
    """Weaviate would delete what was placed and go on with an empty collection."""
    if when == "when all of it has come":
        restore.download()
    fetched = list(received)
    (data_of(restore) / name).mkdir(parents=True)
    act: Callable[[], None] = (lambda: place_all(restore)) if fetched else restore.download
    with pytest.raises(Permanent, match=f"DirectoryInTheWay: {name} in "):
        act()
    assert received == fetched
    assert restore.workspace.journal.last("placed") is None


def test_directories_of_others_are_in_nobodys_way(restore: Restore) -> None:
    for name in ("articles", ".backup.tmp/Book"):
        (data_of(restore) / name).mkdir(parents=True)
    restore.download()
    place_all(restore)
    assert (data_of(restore) / ".backup.tmp" / COLLECTION / "article" / "s0").is_dir()


def test_what_weaviate_would_take_holds_the_collection_alone(restore: Restore) -> None:
    restore.download()
    (ready_of(restore) / "book").mkdir()
    with pytest.raises(Permanent, match=r"HostileBackup: .*must hold 'article' alone"):
        place_all(restore)
    assert not (data_of(restore) / ".backup.tmp" / COLLECTION).exists()


def test_late_writes_are_kept_for_later_and_no_file_of_weaviates(restore: Restore) -> None:
    restore.download()
    shard = Path(str(restore.workspace.directory / RESTORE)) / COLLECTION / "article" / "s0"
    (shard / LATE_WRITES).write_bytes(b"writes")
    restore.tell_what_came()
    files = sum(each.is_file() for each in shard.rglob("*"))
    place_all(restore)
    (record,) = restore.workspace.journal.of("placed")
    assert record["files"] == files - 1
    assert (restore.workspace.directory / LATE / COLLECTION / "s0").read_bytes(limit_bytes=10) == b"writes"
    assert not list((data_of(restore) / ".backup.tmp").rglob(LATE_WRITES))


@pytest.mark.parametrize("boot", ["the same", "another", "unknown"])
def test_chunks_that_came_are_fetched_again_only_if_they_may_be_lost(
    restore: Restore, received: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str
) -> None:
    """They are synced all at once, at the end: the machine may have stopped before."""
    restore.download()
    assert len(received) == CHUNKS
    received.clear()
    if boot == "another":
        (tmp_path / "boot").write_text("another\n")
    if boot != "the same":
        monkeypatch.setattr(durability, "BOOT_ID", tmp_path / "boot")
    restore.download()
    assert len(received) == (0 if boot == "the same" else CHUNKS)


def test_where_the_kernel_tells_no_boot_nothing_is_believed(
    restore: Restore, received: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "BOOT_ID", tmp_path / "none")
    for _ in range(2):
        restore.download()
    assert len(received) == 2 * CHUNKS


def test_what_came_before_is_counted_as_done(restore: Restore) -> None:
    restore.download()
    command = StepCommand(
        operation_uid="x", step=Step.DOWNLOAD, collections=(COLLECTION,), backup_sha256=restore.backup_sha256
    )
    meter = Meter()
    downloading._download(restore.workspace, command, meter)
    done = meter.snapshot()
    assert done.bytes_done == done.bytes_reused == done.bytes_total > 0


def test_a_node_that_holds_nothing_fetches_nothing(tmp_path: Path, received: list[str]) -> None:
    restore = Restore(tmp_path / "node", stock(tmp_path))
    restore.judge()
    order = restore.workspace.order
    nothing = order.model_copy(update={"work": restore.workspace.restore.model_copy(update={"source_node": None})})
    restore.workspace = Workspace(restore.workspace.settings, nothing, restore.workspace.journal)
    restore.download()
    place_all(restore)
    assert received == []
    assert restore.workspace.journal.last("all-placed") is not None
    assert not (data_of(restore) / ".backup.tmp").exists()


def test_a_download_that_ended_is_not_repeated(restore: Restore, received: list[str]) -> None:
    restore.workspace.journal.append("downloaded", collections=[COLLECTION])
    asyncio.run(download(restore.workspace, StepCommand(operation_uid="x", step=Step.DOWNLOAD), Meter()))
    assert received == []


@pytest.mark.parametrize(("free_bytes", "refused"), [(59, True), (60, False)])
def test_more_bytes_than_are_free_are_refused_before_one_is_fetched(free_bytes: int, refused: bool) -> None:
    files = DescribedFiles(
        {"Article": DescribedCollection(source_bytes=70), "Book": DescribedCollection(source_bytes=30)}
    )
    if not refused:
        refuse_without_space(files, already=(0, 40), free_bytes=free_bytes, free_inodes=9)
        return
    with pytest.raises(Permanent, match="NotEnoughSpace: 60 bytes are needed on the data volume, 59 are free"):
        refuse_without_space(files, already=(0, 40), free_bytes=free_bytes, free_inodes=9)


def test_space_is_looked_at_before_anything_comes(
    restore: Restore, received: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "free_bytes", lambda _, **__: 10)
    with pytest.raises(Permanent, match="NotEnoughSpace"):
        restore.download()
    assert received == []


def test_weaviate_is_not_made_read_only(restore: Restore, received: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at the part of the volume that is in use."""
    asked: list[int] = []

    def free_bytes(_: Place, *, full_percentage: int) -> int:
        asked.append(full_percentage)
        return 10

    monkeypatch.setattr(Place, "free_bytes", free_bytes)
    workspace = restore.workspace
    for told, percentage in ((85, 85), (0, 100)):
        endpoint = workspace.weaviate.model_copy(update={"read_only_percentage": told})
        restore.workspace = replace(workspace, order=workspace.order.model_copy(update={"weaviate": endpoint}))
        with pytest.raises(Permanent, match="10 are free below DISK_USE_READONLY_PERCENTAGE of Weaviate; enlarge it"):
            restore.download()
        restore.judge()
        assert {*asked} == {percentage}
        asked.clear()
    assert received == []


def test_what_came_already_needs_no_space_again(restore: Restore, monkeypatch: pytest.MonkeyPatch) -> None:
    restore.download()
    monkeypatch.setattr(Place, "free_bytes", lambda _, **__: 10)
    restore.download()


def test_half_of_the_inodes_are_left_to_weaviate(restore: Restore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "free_files", lambda _: 2 * FILES_OF_A_NODE - 1)
    said = f"{FILES_OF_A_NODE} files are to come .*, half of its free inodes are {FILES_OF_A_NODE - 1}"
    with pytest.raises(Permanent, match=f"NotEnoughSpace: {said}"):
        restore.download()


def test_a_file_that_no_chunk_holds_is_missed(tmp_path: Path) -> None:
    backup = stock(tmp_path)
    small = [path_of("n0", name) for name in SMALL]
    backup.put_chunk("n0", 1, {path: backup.expected("n0")[path] for path in small[:-1]})
    restore = Restore(tmp_path / "node", backup)
    restore.judge()
    with pytest.raises(Permanent, match=f"BackupIncomplete: the chunks of {COLLECTION} hold no {small[-1]}"):
        restore.download()
    assert restore.workspace.journal.last("downloaded") is None


# What came, compared before it is placed


def removed(restore: Restore, name: str) -> None:
    shutil.rmtree(ready_of(restore) / name)


def shortened(restore: Restore, name: str) -> None:
    with next(each for each in (ready_of(restore) / name).rglob("*") if each.is_file()).open("r+b") as file:
        file.truncate(3)


def added(restore: Restore, name: str) -> None:
    (ready_of(restore) / name / "more").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        *((removed, name) for name in ("", "article", "article/s0", "article/s0/lsm")),
        (shortened, "article/s0"),
        (added, "article/s0"),
        (added, "article"),
    ],
)
def test_less_or_more_than_what_came_is_not_placed(
    restore: Restore, spoil: Callable[[Restore, str], None], name: str
) -> None:
    """Hours may lie between, and a full disk makes people delete what they find."""
    restore.download()
    spoil(restore, name)
    for _ in range(2):  # the second time as by an agent that goes on
        with pytest.raises(Permanent, match=r"DownloadLost: .* of collection Article lies below .*, but 4 files of 2"):
            place_all(restore)
    assert restore.workspace.journal.last("placed") is None
    assert not (data_of(restore) / ".backup.tmp").exists()


def test_what_nobody_brought_is_not_placed(restore: Restore) -> None:
    restore.workspace.journal.append("downloaded", collections=[COLLECTION], counted=True)
    (ready_of(restore) / "article" / "s0").mkdir(parents=True)
    with pytest.raises(Permanent, match=r"DownloadLost: 0 files of 0 bytes of .*, but nothing came"):
        place_all(restore)


def killed_before_the_rename(restore: Restore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal says `placed`."""
    rename_to = Place.rename_to

    def killed(place: Place, target: Place) -> None:
        if target.parent.name == ".backup.tmp":
            raise KeyboardInterrupt
        rename_to(place, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Place, "rename_to", killed)
        place_all(restore)
    assert restore.workspace.journal.last("placed") is not None


def test_what_was_about_to_be_placed_is_placed(restore: Restore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its late writes lie elsewhere by then, and count nevertheless."""
    restore.download()
    (ready_of(restore) / "article" / "s0" / LATE_WRITES).write_bytes(b"writes")
    restore.tell_what_came()
    killed_before_the_rename(restore, monkeypatch)
    place_all(restore)
    assert [record["files"] for record in restore.workspace.journal.of("placed")] == [FILES_OF_A_NODE] * 2
    assert (data_of(restore) / ".backup.tmp" / COLLECTION / "article" / "s0").is_dir()


def test_what_was_about_to_be_placed_and_is_lost_is_missed(restore: Restore, monkeypatch: pytest.MonkeyPatch) -> None:
    restore.download()
    killed_before_the_rename(restore, monkeypatch)
    removed(restore, "")
    with pytest.raises(Permanent, match="DownloadLost: nothing of collection Article lies below"):
        place_all(restore)


@pytest.mark.parametrize("by_now", ["placed", "taken", "taken and deleted"])
def test_what_was_placed_already_is_not_missed(restore: Restore, by_now: str) -> None:
    """Weaviate may take it before all are placed; once all are, it may be deleted, too."""
    restore.download()
    place_all(restore)
    journal, data = restore.workspace.journal, data_of(restore)
    if by_now != "placed":
        (data / ".backup.tmp" / COLLECTION / "article").rename(data / "article")
        (data / ".backup.tmp" / COLLECTION).rmdir()
    if by_now == "taken and deleted":
        shutil.rmtree(data / "article")
    else:
        journal._kinds[journal._kinds.index("all-placed")] = "forgotten"
    place_all(restore)


def test_an_older_journal_does_not_tell_what_came(restore: Restore) -> None:
    restore.download()
    restore.workspace.journal.append("downloaded", collections=[COLLECTION], unnamed={COLLECTION: ["s9"]})
    (ready_of(restore) / "article" / "s9").mkdir()
    added(restore, "article/s0")
    place_all(restore)
    assert [each.name for each in (data_of(restore) / ".backup.tmp" / COLLECTION / "article").iterdir()] == ["s0"]


def test_many_shards_that_are_not_to_be_placed_are_journaled(restore: Restore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record has a bound, and each is read back."""
    monkeypatch.setattr(brought, "SHARDS_IN_A_RECORD", 2)
    unnamed = [f"s{number}" for number in range(1, 6)]
    restore.download()
    for shard in unnamed:
        (ready_of(restore) / "article" / shard).mkdir()
        added(restore, f"article/{shard}")
    for _ in range(2):
        brought.tell_what_came(restore.workspace, (COLLECTION,), {COLLECTION: unnamed})
    assert len(list(restore.workspace.journal.of("unnamed"))) == 2 * 3
    place_all(restore)
    assert [each.name for each in (data_of(restore) / ".backup.tmp" / COLLECTION / "article").iterdir()] == ["s0"]


def test_a_restore_is_not_confirmed_while_what_came_was_not_placed(restore: Restore) -> None:
    restore.download()
    restore.workspace.journal.append("all-placed", collections=[COLLECTION])
    command = StepCommand(operation_uid="x", step=Step.CONFIRM, collections=(COLLECTION,))
    with pytest.raises(Permanent, match="DownloadLost: 4 files of 2169 bytes of collection Article came"):
        asyncio.run(confirm(restore.workspace, command, Meter()))
