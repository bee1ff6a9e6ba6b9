"""In which order the agent writes, syncs and tells: nothing is said to be there before it would outlast a loss of
power, and nothing is done before its journal would know of it."""

from pathlib import Path

import pytest
from tests.agent.conftest import Source
from tests.agent.foreign_backup import COLLECTION as RESTORED
from tests.agent.hand_frozen import Node, shard_of
from tests.agent.racing import complete, opened
from tests.agent.recorder import Recorder, recorder
from tests.agent.small_restore import Restore, ours
from tests.agent.surroundings import backup_order
from tests.places import place_of

from weaviate_backup.agent.discard import vacate
from weaviate_backup.agent.freeze import freeze
from weaviate_backup.agent.journal import JOURNAL, Journal
from weaviate_backup.agent.place import _place_all
from weaviate_backup.agent.release import release
from weaviate_backup.agent.workspace import Workspace, operation_directory
from weaviate_backup.core.session import Step, StepCommand
from weaviate_backup.settings import AgentSettings
from weaviate_backup.stored.meter import Meter

__all__ = ["recorder"]
ID = "nightly"


def test_objects_of_a_backup_are_put_from_the_claim_to_the_marker(tmp_path: Path, recorder: Recorder) -> None:
    (tmp_path / "store").mkdir()
    node = Node(tmp_path / "node", tmp_path / "store", "0b5f2c1e", {"s1": shard_of("1")}, backup_id=ID)
    node.freeze()
    recorder.events.clear()
    with opened(node) as workspace:
        complete(workspace)
    assert [key for what, key in recorder.events if what == "put"] == [
        f"{ID}/operation.json",
        f"{ID}/weaviate-0/Article/chunk-1",
        f"{ID}/weaviate-0/manifest.json.zst",
        f"{ID}/weaviate-0/backup.json",
        f"{ID}/manifest.json",
        f"{ID}/backup_config.json",
    ]
    stored = recorder.all("put", f"{ID}/weaviate-0/Article/chunk-1")
    recorder.refuse_disorder(recorder.all("journal", "uploading"), stored, recorder.all("journal", "chunk"))
    documents = recorder.all("put", f"{ID}/weaviate-0/backup.json")
    recorder.refuse_disorder(recorder.all("journal", "chunk"), documents, recorder.all("journal", "uploaded"))


def test_what_was_downloaded_is_synced_before_it_is_said_to_be_there(tmp_path: Path, recorder: Recorder) -> None:
    restore = Restore(tmp_path / "node", ours(tmp_path))
    restore.judge()
    recorder.events.clear()
    restore.download()
    told = recorder.all("journal", "downloaded")
    recorder.refuse_disorder(recorder.all("journal", "fetched"), recorder.all("sync_file_system"), told)
    assert recorder.events[recorder.all("sync_file_system")[0] + 1 : told[0]] == [], "nothing comes in between"


def test_what_is_placed_is_journaled_before_and_synced_after(tmp_path: Path, recorder: Recorder) -> None:
    restore = Restore(tmp_path / "node", ours(tmp_path))
    restore.judge()
    restore.download()
    recorder.events.clear()
    _place_all(restore.workspace, (RESTORED,), Meter())
    placed, renamed = recorder.all("journal", "placed"), recorder.all("rename_to", RESTORED)
    there = recorder.all("sync", restore.workspace.data_root.name)
    recorder.refuse_disorder(
        there, placed, renamed, recorder.all("sync", ".backup.tmp"), recorder.all("journal", "all-placed")
    )


def test_a_record_is_synced_behind_its_bytes_unless_its_loss_costs_no_more_than_work(
    tmp_path: Path, recorder: Recorder
) -> None:
    with Journal(place_of(tmp_path) / JOURNAL) as journal:
        recorder.events.clear()
        journal.append("placed-like")
        assert [what for what, _ in recorder.events] == ["journal", "write", "fsync"]
        recorder.events.clear()
        journal.append("shard-like", sync=False)
        assert [what for what, _ in recorder.events] == ["journal", "write"]


@pytest.mark.weaviate
@pytest.mark.asyncio(loop_scope="session")
async def test_what_is_frozen_is_synced_before_it_is_said_to_be(
    source: Source, tmp_path: Path, recorder: Recorder
) -> None:
    for key, value in source.store.credentials.items():
        (tmp_path / key).write_text(value)
    order = backup_order(source.cluster, source.store, source.collections, backup_id="durable")
    settings = AgentSettings(
        operation_uid=order.operation_uid,
        node=order.node,
        data_path=source.cluster.nodes[0].data_path,
        credentials_directory=tmp_path,
        ca_directory=tmp_path / "none",
    )
    directory = operation_directory(place_of(source.cluster.nodes[0].data_path), order.operation_uid)
    with Journal(directory / JOURNAL) as journal:
        workspace = Workspace(settings, order, journal)
        frozen = await freeze(workspace, StepCommand(operation_uid=order.operation_uid, step=Step.FREEZE), Meter())
        assert frozen.shards
        events = list(recorder.events)
        release_order = StepCommand(operation_uid=order.operation_uid, step=Step.RELEASE)
        await release(workspace, release_order, Meter())
        await vacate(workspace, release_order, Meter())
    recorder.events = events
    (told,) = recorder.all("journal", "frozen")
    (synced,) = recorder.all("sync_file_system")
    written = [at for what in ("rename_to", "copy_to", "write", "create") for at in recorder.all(what) if at < told]
    shards, cuts = recorder.all("journal", "shard"), recorder.all("journal", "cutting")
    assert len(shards) == frozen.shards
    assert cuts[0] < shards[0], "a cut is known before it is made"
    assert max(*written, *shards) < synced < told
    assert events[synced + 1 : told] == []
    assert [what for what, _ in events[told : told + 3]] == ["journal", "write", "fsync"]
