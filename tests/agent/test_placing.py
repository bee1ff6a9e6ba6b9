"""DOWNLOAD and PLACE without a server: what would keep Weaviate from taking the files is found before they are there,
and what came before a restart is believed only as far as it was kept."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent.foreign_backup import COLLECTION, SMALL, path_of
from tests.agent.small_restore import FILES, Restore, ours, stock
from tests.places import place_of

from weaviate_backup.agent import download as downloading
from weaviate_backup.agent import durability
from weaviate_backup.agent.chunk_receiver import ChunkReceiver
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


@pytest.mark.parametrize("spoil", ["a stranger", "nothing of it"])
def test_what_weaviate_would_take_holds_the_collection_alone(restore: Restore, spoil: str) -> None:
    restore.download()
    ready = Path(str(restore.workspace.directory / RESTORE)) / COLLECTION
    if spoil == "a stranger":
        (ready / "book").mkdir()
    else:
        (ready / "article").rename(ready.parent / "elsewhere")
    with pytest.raises(Permanent, match=r"HostileBackup: .*must hold 'article' alone"):
        place_all(restore)
    assert not (data_of(restore) / ".backup.tmp" / COLLECTION).exists()


def test_late_writes_are_kept_for_later_and_no_file_of_weaviates(restore: Restore) -> None:
    restore.download()
    shard = Path(str(restore.workspace.directory / RESTORE)) / COLLECTION / "article" / "s0"
    (shard / LATE_WRITES).write_bytes(b"writes")
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
def test_more_bytes_than_are_free_are_refused_before_one_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, refused: bool
) -> None:
    files = DescribedFiles(
        {"Article": DescribedCollection(source_bytes=70), "Book": DescribedCollection(source_bytes=30)}
    )
    monkeypatch.setattr(Place, "free_bytes", lambda _: free_bytes)
    if not refused:
        refuse_without_space(place_of(tmp_path), files, already=(0, 40), free_inodes=9)
        return
    with pytest.raises(Permanent, match="NotEnoughSpace: 60 bytes are needed on the data volume, 59 are free"):
        refuse_without_space(place_of(tmp_path), files, already=(0, 40), free_inodes=9)


def test_space_is_looked_at_before_anything_comes(
    restore: Restore, received: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "free_bytes", lambda _: 10)
    with pytest.raises(Permanent, match="NotEnoughSpace"):
        restore.download()
    assert received == []


def test_what_came_already_needs_no_space_again(restore: Restore, monkeypatch: pytest.MonkeyPatch) -> None:
    restore.download()
    monkeypatch.setattr(Place, "free_bytes", lambda _: 10)
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
