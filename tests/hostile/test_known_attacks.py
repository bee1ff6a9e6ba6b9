"""What whoever owns Weaviate could do without any race: each ends with the entry's name, and nothing happened."""

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.agent.sweeping import removed, swept
from tests.hostile.scenes import NAMES, UID
from tests.hostile.volume import Outside, Volume, write_all

from weaviate_backup.agent.expansion import local_shards
from weaviate_backup.agent.journal import JOURNAL, Journal, is_held, read_records
from weaviate_backup.agent.linking import take_cut
from weaviate_backup.agent.runner import check_names, disk_failure, failure_of
from weaviate_backup.agent.taking_back import remove_operation
from weaviate_backup.beneath import Place, UnexpectedEntry
from weaviate_backup.core.session import DATA_DIRECTORY, NodeReport, Step, StepCommand, StepPhase, StepReport
from weaviate_backup.errors import Permanent
from weaviate_backup.weaviate import pause_staging, snapshot_staging
from weaviate_backup.weaviate.inactive_tenants import cut_inactive
from weaviate_backup.weaviate.shard_source import ShardCut, ShardFile

KEY = "secrets/AWS_SECRET_ACCESS_KEY"
NOW = datetime.now(UTC)
NOTHING: frozenset[str] = frozenset()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    outside = Outside(tmp_path / "outside")
    made = Volume(tmp_path / "volume", outside.directory).fill()
    yield made
    assert not [*outside.changes(), *made.revealed()]


def live_and_staging(volume: Volume) -> tuple[Place, Place]:
    staging = volume.root / ".replica-staging-x"
    write_all(Path(str(staging)), {"lsm/objects/segment-1.db": b"objects"})
    return volume.root / "article" / "s1", staging


def become_link(path: Path, target: Path) -> None:
    path.rename(path.with_name(path.name + "-before"))
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["indexcount", "meta_title.db", "lsm/.migrations/done"])
def test_a_state_file_that_is_a_link_to_a_credential_is_not_sealed(volume: Volume, name: str) -> None:
    live, staging = live_and_staging(volume)
    become_link(volume.data / "article/s1" / name, volume.outside / KEY)
    with pytest.raises(UnexpectedEntry, match=f"{re.escape(name)} is a symbolic link"):
        snapshot_staging.complete(staging, live, NAMES)


def test_a_sealed_file_that_is_a_link_gives_no_file_a_second_name(volume: Volume) -> None:
    """Neither the one that is led to, nor the link itself."""
    name = "lsm/objects/segment-1.db"
    become_link(volume.data / "article/s1" / name, volume.outside / KEY)
    source = volume.root / "article/s1" / name
    cut = ShardCut("Article", "s1", driver="x", files=(ShardFile(name, source, mutable=False),), halt_seconds=0.0)
    frozen = volume.root / "frozen" / "s1"
    with pytest.raises(UnexpectedEntry, match=r"segment-1\.db is a symbolic link"):
        take_cut(cut, frozen, check=lambda: None)
    assert not frozen.exists()


@pytest.mark.parametrize("logs", [(), ("lsm/AWS_SECRET_ACCESS_KEY",)], ids=["a file", "an active log"])
def test_a_directory_that_is_a_link_to_a_secret_is_not_staged(volume: Volume, logs: tuple[str, ...]) -> None:
    live, _ = live_and_staging(volume)
    staging = volume.root / ".replica-staging-y"
    pause_staging.prepare(staging, live)
    become_link(volume.data / "article/s1/lsm", volume.outside / "secrets")
    with pytest.raises(UnexpectedEntry, match="lsm is or lies below a symbolic link"):
        pause_staging.stage(staging, live, () if logs else ("lsm/tls.key",), logs)


def test_a_directory_that_is_exchanged_after_it_was_listed_is_not_followed(volume: Volume) -> None:
    cut, _ = cut_inactive(volume.root, "Article", "s1")
    become_link(volume.data / "article/s1/lsm", volume.outside / "secrets/lsm")
    frozen = volume.root / DATA_DIRECTORY / UID / "frozen/article/s1"
    with pytest.raises(UnexpectedEntry):
        take_cut(cut, frozen, check=lambda: None)
    assert not frozen.exists()


@pytest.mark.parametrize("where", ["", "/nightly-1"], ids=["the directory of all", "one operation's"])
def test_a_store_in_place_of_our_directory_is_not_swept(volume: Volume, where: str) -> None:
    link = Path(f"{volume.data}/{DATA_DIRECTORY}{where}")
    link.parent.mkdir(parents=True, exist_ok=True)
    if where:
        write_all(link.parent, {"00-dead/frozen/article/s1/file": b"x"})
        os.utime(link.parent / "00-dead", (1, 1))
    link.symlink_to(Path(f"{volume.outside}/prod{where}"))
    with pytest.raises(UnexpectedEntry, match="symbolic link"):
        swept(volume.root, UID, NOW)
    assert not where or (link.parent / "00-dead/frozen/article/s1/file").exists(), "nothing at all is removed then"


@pytest.mark.parametrize("entry", ["journal", "staging", "placed"])
def test_a_sweep_looks_at_all_before_it_removes_one(volume: Volume, entry: str) -> None:
    for uid in ("00-dead", "11-dead"):
        directory = volume.data / DATA_DIRECTORY / uid
        lines = [{"kind": "placed", "collection": "Gone", "inode": 1, "data_inode": 1, "shards": {}, "files": 1}]
        write_all(directory, {"kept": b"x", JOURNAL: b"".join(json.dumps(each).encode() + b"\n" for each in lines)})
        os.utime(directory / JOURNAL, (1, 1))
    operation = snapshot_staging.operation_id("11-dead", "Article", "s1", 0)
    places = {
        "journal": volume.root / DATA_DIRECTORY / "11-dead" / JOURNAL,
        "staging": snapshot_staging.staging_directory(volume.root, operation, "Article"),
        "placed": volume.root / ".backup.tmp" / "Gone",
    }
    link = Path(str(places[entry]))
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(volume.outside / "prod")
    with pytest.raises(UnexpectedEntry):
        swept(volume.root, UID, NOW)
    assert (volume.data / DATA_DIRECTORY / "00-dead/kept").exists()


def test_a_staging_that_leads_into_a_store_is_not_written_to(volume: Volume) -> None:
    live, staging = live_and_staging(volume)
    Path(f"{staging}/lsm/.migrations").symlink_to(volume.outside / "prod/nightly-1/weaviate-0")
    write_all(volume.data, {"article/s1/lsm/.migrations/backup.json": b"by the attacker"})
    with pytest.raises(UnexpectedEntry):
        snapshot_staging.complete(staging, live, ("lsm/.migrations/backup.json",))


@pytest.mark.parametrize("name", ["../../../../../store/prod/nightly-3", "..", "a/b", "a\\b", "", "a\0", "x" * 256])
def test_names_of_raft_that_lead_elsewhere_are_refused(volume: Volume, name: str) -> None:
    state = {"physical": {name: {"belongsToNodes": ["weaviate-0"], "status": "COLD"}}}
    with pytest.raises(Permanent, match="a shard of Article has a name") as refused:
        local_shards(state, "weaviate-0", collection="Article")
    assert refused.value.reason == "UnsafeName"
    with pytest.raises(Permanent, match="a collection has a name"):
        check_names(StepCommand(operation_uid=UID, step=Step.UPLOAD, collections=("Article", name)))


def test_a_cut_with_a_name_that_leads_elsewhere_is_refused(volume: Volume) -> None:
    """Though nobody should have let it come so far."""
    cut = ShardCut("Article", "s1", driver="x", files=(), halt_seconds=0.0)
    with pytest.raises(Permanent) as refused:
        take_cut(cut, volume.root / "frozen" / "../../outside/prod/nightly-1", check=lambda: None)
    assert refused.value.reason == "UnsafeName"


@pytest.mark.parametrize("link", [DATA_DIRECTORY, f"{DATA_DIRECTORY}/{UID}"])
def test_a_release_ends_with_the_truth(volume: Volume, link: str) -> None:
    path = volume.data / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(volume.outside / "prod")
    with pytest.raises(UnexpectedEntry, match=f"{re.escape(str(path))} is "):
        remove_operation(volume.root, UID, [], collections=NOTHING)


def test_a_driver_lets_the_server_go_though_a_staging_is_a_link(volume: Volume) -> None:
    """Of one cut of many: the others must be let go of, too, and the release of the operation says what stays."""
    operation = snapshot_staging.operation_id(UID, "Article", "s1", 0)
    staging = snapshot_staging.staging_directory(volume.root, operation, "Article")
    Path(str(staging)).symlink_to(volume.outside / "prod")
    assert pause_staging.may_be_halted(staging), "better once too often"
    pause_staging.no_longer_halted(staging)
    snapshot_staging.let_go_of(staging)
    with pytest.raises(UnexpectedEntry, match="is a symbolic link"):
        remove_operation(volume.root, UID, [], collections=NOTHING)


HOSTILE_LINES = [
    b"[" * 200_000,
    b'{"kind":"placed","collection":["../x"],"inode":1}',
    b'{"kind":"placed","collection":"Article"}',
    b'{"kind":"placed","collection":"../../outside/prod","inode":1,"data_inode":1,"shards":{},"files":1}',
    b'{"kind":"cutting","collection":"Article","shard":"\\ud800"}',
    b'{"kind":"session","order":"none"}',
    b'{"kind":["session"]}',
    b'{"kind":"session","order":{"lease_seconds":1' + b"0" * 500 + b"}}",
    b'{"kind":"session","order":{"lease_seconds":1e999}}',
    b"\xff\xfe",
    b'{"kind":"chunk","collection":"Article","number":1e400,"record":{}}',
]


@pytest.mark.parametrize("line", HOSTILE_LINES, ids=range(len(HOSTILE_LINES)))
def test_a_journal_of_another_hand_is_not_believed_and_breaks_nothing(volume: Volume, line: bytes) -> None:
    directory = volume.data / DATA_DIRECTORY / "22-dead"
    write_all(directory, {JOURNAL: b'{"kind":"uploading"}\n' + line + b"\n"})
    os.utime(directory / JOURNAL, (1, 1))
    place = volume.root / DATA_DIRECTORY / "22-dead" / JOURNAL
    assert next(read_records(place)) == {"kind": "uploading"}
    assert swept(volume.root, UID, NOW) == ("22-dead",)


def test_a_placed_collection_with_a_name_that_leads_elsewhere_is_refused(volume: Volume) -> None:
    records = [{"kind": "placed", "collection": "../../outside/prod", "inode": 1}]
    with pytest.raises(Permanent, match="a placed collection has a name"):
        removed(volume.root, UID, records)


@pytest.mark.parametrize("kind", ["FIFO", "directory", "link"])
def test_a_journal_that_is_no_file_is_neither_opened_nor_waited_for(volume: Volume, kind: str) -> None:
    path = volume.data / DATA_DIRECTORY / UID / JOURNAL
    path.parent.mkdir(parents=True)
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to(volume.outside / "secrets/journal.jsonl")
    place = volume.root / DATA_DIRECTORY / UID / JOURNAL
    for use in (lambda: Journal(place), lambda: is_held(place)):
        with pytest.raises((UnexpectedEntry, IsADirectoryError)) as refused:
            use()
        error: Exception = refused.value
        assert isinstance(error, UnexpectedEntry | OSError)
        failure = disk_failure(error) if isinstance(error, OSError) else failure_of(error)
        assert (failure.reason, failure.transient) == ("UnexpectedEntry", False)


def test_trees_deeper_than_any_of_ours_are_refused(volume: Volume) -> None:
    deep = "/".join("d" * 1 for _ in range(300))
    write_all(volume.data / DATA_DIRECTORY / UID, {f"{deep}/file": b"x"})
    with pytest.raises(UnexpectedEntry, match="below 64 others"):
        remove_operation(volume.root, UID, [], collections=NOTHING)
    with pytest.raises(UnexpectedEntry, match="below 64 others"):
        list((volume.root / DATA_DIRECTORY / UID).files())


def test_names_that_are_no_text_do_not_break_a_report(volume: Volume) -> None:
    path = os.fsencode(volume.data) + b"/article/\xff\xfe"
    os.symlink(b"/", path)
    with pytest.raises(UnexpectedEntry) as refused:
        (volume.root / "article").entries()
    told = [failure_of(refused.value), disk_failure(IsADirectoryError(21, "Is a directory", os.fsdecode(path)))]
    for failure in told:
        step = StepReport(phase=StepPhase.FAILED, failure=failure)
        report = NodeReport(operation_uid=UID, session_id="s", node="n0", revision=1, steps={Step.FREEZE: step})
        assert "UnexpectedEntry" in report.model_dump_json()
