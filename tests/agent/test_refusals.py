"""What cannot work is refused by name, before a shard is touched or a byte is written, and strangers are not heard."""

import os
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.agent.conftest import Source, emptied
from tests.agent.surroundings import (
    backup_order,
    nothing_left,
    restore_order,
    whole_backup,
    worker_order,
)
from tests.agent_process import SERVER_NAME, Refused, agent_process
from tests.places import place_of
from tests.weaviate_server import WeaviateCluster

from weaviate_backup.agent.fates import Fate
from weaviate_backup.agent.frozen_plan import list_files
from weaviate_backup.agent.journal import SHARD
from weaviate_backup.agent.main import check_ownership
from weaviate_backup.core.session import DATA_DIRECTORY, Step
from weaviate_backup.errors import Permanent

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
SMALL = ("Draft",)


async def test_a_backup_is_never_written_over(source: Source, tmp_path: Path) -> None:
    store = source.store
    first = backup_order(source.cluster, store, SMALL, backup_id="taken")
    await whole_backup(tmp_path / "first", source.cluster, store, first, SMALL)
    before = {path: path.read_bytes() for path in (store.objects / "taken").rglob("*") if path.is_file()}
    second = backup_order(source.cluster, store, SMALL, backup_id="taken")
    data_path = source.cluster.nodes[0].data_path
    async with agent_process(
        tmp_path / "second", order=second, data_path=data_path, credentials=store.credentials
    ) as agent:
        known = await agent.failure(Step.FREEZE)
        assert known.failure is not None
        assert (known.failure.reason, known.failure.transient) == ("BackupExists", False)
        assert "taken" in known.failure.message
        assert store.location.address in known.failure.message
        discarded = await agent.failure(Step.DISCARD)
        assert discarded.failure is not None
        assert discarded.failure.reason == "BackupCommitted"
        await agent.step(Step.RELEASE)
    assert {path: path.read_bytes() for path in (store.objects / "taken").rglob("*") if path.is_file()} == before
    assert nothing_left(source.cluster)


async def test_debris_of_another_backup_is_refused_and_stays(source: Source, tmp_path: Path) -> None:
    debris = source.store.objects / "debris" / "weaviate-0" / "Draft" / "chunk-1"
    debris.parent.mkdir(parents=True)
    debris.write_text("somebody's")
    order = backup_order(source.cluster, source.store, SMALL, backup_id="debris")
    data_path = source.cluster.nodes[0].data_path
    async with agent_process(tmp_path, order=order, data_path=data_path, credentials=source.store.credentials) as agent:
        known = await agent.failure(Step.FREEZE)
        assert known.failure is not None
        assert known.failure.reason == "BackupExists"
        discarded = await agent.failure(Step.DISCARD)
        assert discarded.failure is not None
        assert discarded.failure.reason == "ClaimLost", "it never had one here"
        await agent.step(Step.RELEASE)
        await agent.step(Step.VACATE)
    assert debris.read_text() == "somebody's"


async def test_a_store_that_cannot_be_used_is_refused(source: Source, tmp_path: Path) -> None:
    spec = source.store.location.s3
    assert spec is not None
    absent = source.store.location.model_copy(update={"s3": spec.model_copy(update={"bucket": "no-such-bucket"})})
    read_only = source.store.location.model_copy(update={"read_only": True})
    data_path = source.cluster.nodes[0].data_path
    for number, (location, reason) in enumerate(((absent, "BucketNotFound"), (read_only, "LocationReadOnly"))):
        order = backup_order(source.cluster, source.store, SMALL, backup_id="unusable", location=location)
        async with agent_process(
            tmp_path / str(number), order=order, data_path=data_path, credentials=source.store.credentials
        ) as agent:
            known = await agent.failure(Step.FREEZE)
            assert known.failure is not None
            assert known.failure.reason == reason
            assert not (data_path / DATA_DIRECTORY / order.operation_uid / "frozen").exists()
            await agent.step(Step.RELEASE)


async def test_only_the_operator_is_heard_and_only_in_order(source: Source, tmp_path: Path) -> None:
    order = backup_order(source.cluster, source.store, SMALL, backup_id="strangers")
    data_path = source.cluster.nodes[0].data_path
    async with agent_process(tmp_path, order=order, data_path=data_path, credentials=source.store.credentials) as agent:
        url = f"https://127.0.0.1:{agent.port}/v1/report"
        async with agent.client("stranger") as stranger, stranger.get(url, server_hostname=SERVER_NAME) as answer:
            assert (answer.status, (await answer.json())["reason"]) == (403, "PermissionDenied")
        async with agent.client(None) as nobody:
            with pytest.raises(aiohttp.ClientError):
                await nobody.get(url, server_hostname=SERVER_NAME)
        with pytest.raises(Refused, match="409 SessionConflict"):
            await agent.put_session(order.model_copy(update={"operation_uid": "another"}))
        with pytest.raises(Refused, match="409 OutOfOrder"):
            await agent.take(Step.UPLOAD, collections=SMALL)
        with pytest.raises(Refused, match="409 OutOfOrder"):
            await agent.take(Step.DOWNLOAD, collections=SMALL)
        with pytest.raises(Refused, match=r"400 InvalidRequest: StepCommand\.step"):
            await agent.call("POST", "/v1/steps", body='{"operation_uid": "x", "step": "explode"}')
        await agent.step(Step.RELEASE)
        with pytest.raises(Refused, match="409 OutOfOrder"):
            await agent.take(Step.FREEZE)


async def test_a_damaged_backup_is_found_and_nothing_of_it_is_placed(
    source: Source, target: WeaviateCluster, tmp_path: Path
) -> None:
    store = source.store
    order = backup_order(source.cluster, store, ("Photo",), backup_id="damaged")
    await whole_backup(tmp_path / "backup", source.cluster, store, order, ("Photo",))
    chunk = store.objects / "damaged" / "weaviate-0" / "Photo" / "chunk-1"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 0xFF
    chunk.write_bytes(content)
    async with agent_process(
        tmp_path / "worker", order=worker_order(order), data_path=None, credentials=store.credentials
    ) as worker:
        known = await worker.failure(Step.VERIFY, verify_node="weaviate-0")
        assert known.failure is not None
        assert known.failure.reason == "VerificationFailed"
        assert "damaged/weaviate-0/Photo/chunk-1" in known.failure.message
    await emptied(target, source.dataset)
    data_path = target.nodes[0].data_path
    there = {path.name for path in data_path.iterdir()}
    async with agent_process(
        tmp_path / "restore",
        order=restore_order(target, store, backup_id="damaged"),
        data_path=data_path,
        credentials=store.credentials,
    ) as agent:
        await agent.step(Step.INSPECT)
        known = await agent.failure(Step.DOWNLOAD, collections=("Photo",))
        assert known.failure is not None
        assert known.failure.reason == "BackupDamaged"
        with pytest.raises(Refused, match="409 OutOfOrder"):
            await agent.take(Step.PLACE, collections=("Photo",))
        await agent.step(Step.RELEASE)
    assert {path.name for path in data_path.iterdir()} <= there  # Weaviate removes what it dropped a little later


@pytest.mark.asyncio(loop_scope="session")
async def test_another_user_than_weaviates_is_refused(tmp_path: Path) -> None:
    raft = tmp_path / "raft"
    raft.mkdir()
    check_ownership(place_of(tmp_path))
    if os.geteuid() == 0:
        os.chown(raft, 12345, 12345)
    else:
        raft.rmdir()
        raft.symlink_to("/")
    with pytest.raises(Permanent) as refused:
        check_ownership(place_of(tmp_path))
    assert refused.value.reason == "WrongUser"


async def test_a_data_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"DataPathMissing: .*/absent does not exist"):
        check_ownership(place_of(tmp_path / "absent"))


async def test_frozen_files_that_are_gone_are_no_empty_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the shard's directory is missing, or one below it vanishes while it is listed."""
    frozen = place_of(tmp_path)
    fate = Fate(SHARD, 0, files=1, size_bytes=4)
    with pytest.raises(Permanent, match="FrozenSetLost"):
        list_files(frozen, "Article", "s1", fate)
    (tmp_path / "article" / "s1").mkdir(parents=True)

    def vanished(_: object) -> Iterator[object]:
        raise FileNotFoundError

    monkeypatch.setattr(type(frozen), "files", vanished)
    with pytest.raises(Permanent, match="FrozenSetLost"):
        list_files(frozen, "Article", "s1", fate)
