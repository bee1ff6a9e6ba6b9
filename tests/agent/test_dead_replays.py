"""A restore that died while it replayed late writes, between its deletions and its puts: the next operation puts them
back where they belong, and nowhere else, and nothing of it keeps that operation from the volume."""

import json
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.agent.test_dead_captures import DEAD, LIVING, workspace_of
from tests.places import place_of
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.agent.confirm import confirm
from weaviate_backup.agent.journal import JOURNAL, Journal
from weaviate_backup.agent.release import release, sweep
from weaviate_backup.agent.workspace import LATE, Workspace
from weaviate_backup.core.session import DATA_DIRECTORY, RestoreOrder, Step, StepCommand
from weaviate_backup.errors import Transient
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.protocol import file_replication_pb2_grpc
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.rpc import open_channel
from weaviate_backup.weaviate.shard_objects import objects_url, open_data_port
from weaviate_backup.weaviate.write_capture import WriteCapture

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
CLASS, TENANT = "Ten", "t1"
OBJECT = str(uuid.UUID(int=7))
DEFINITION = {"class": CLASS, "multiTenancyConfig": {"enabled": True}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WeaviateCluster]:
    async with weaviate_cluster(tmp_path_factory.mktemp("replays")) as cluster:
        yield cluster


async def make(cluster: WeaviateCluster) -> None:
    await cluster.create(DEFINITION)
    await cluster.call("POST", f"/v1/schema/{CLASS}/tenants", [{"name": TENANT}])


async def objects(cluster: WeaviateCluster) -> list[dict[str, Any]]:
    return list((await cluster.call("GET", f"/v1/objects?class={CLASS}&tenant={TENANT}"))["objects"])


def dead_directory(data_path: Path) -> Path:
    """With a journal that says what was placed, as it lies there now, and that a replay was begun."""
    directory = data_path / DATA_DIRECTORY / DEAD
    (directory / LATE / CLASS).mkdir(parents=True)
    placed = data_path / CLASS.lower()
    lines = [
        {"kind": "session", "order": {"lease_seconds": 1}},
        {
            "kind": "placed",
            "collection": CLASS,
            "inode": 1,
            "data_inode": placed.stat().st_ino,
            "shards": {TENANT: (placed / TENANT).stat().st_ino},
            "files": 1,
            "born": {"data": place_of(placed).born(), "late": {TENANT: place_of(placed / TENANT).born()}},
        },
        {"kind": "replaying", "collection": CLASS, "shard": TENANT},
    ]
    (directory / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(directory / JOURNAL, (1, 1))
    return directory


@pytest_asyncio.fixture(loop_scope="session")
async def dead(cluster: WeaviateCluster) -> AsyncIterator[Path]:
    """A write was captured, and its object deleted by the replay that died."""
    node = cluster.nodes[0]
    await make(cluster)
    channel = open_channel(node.host, node.data_port)
    capture = WriteCapture(file_replication_pb2_grpc.FileReplicationServiceStub(channel), (), address="test")
    await capture.start(CLASS, TENANT, "wvb-dead-replay")
    await cluster.insert([{"class": CLASS, "tenant": TENANT, "id": OBJECT, "vector": [1.0, 2.0]}])
    directory = dead_directory(node.data_path)
    late = place_of(node.data_path) / DATA_DIRECTORY / DEAD / LATE / CLASS
    await capture.fetch(CLASS, TENANT, "wvb-dead-replay", late)
    await channel.close()
    captured = late / late_writes.LATE_WRITES
    captured.rename_to(late / TENANT)
    url = objects_url(node.host, node.data_port, collection=CLASS, shard=TENANT)
    async with open_data_port(None, timeout_seconds=30) as port:
        await late_writes._delete(port, url, list(late_writes.final_writes(late / TENANT)))
    assert await objects(cluster) == []
    yield directory
    await cluster.call("DELETE", f"/v1/schema/{CLASS}")


def is_there(path: Path) -> bool:
    return path.exists()


async def swept(cluster: WeaviateCluster, tmp_path: Path) -> None:
    workspace = workspace_of(cluster, tmp_path, LIVING)
    with workspace.journal:
        async with RaftClient(workspace.weaviate.host, workspace.weaviate.raft_port) as raft:
            await sweep(workspace, raft)


async def test_the_next_operation_puts_them_back(cluster: WeaviateCluster, dead: Path, tmp_path: Path) -> None:
    await swept(cluster, tmp_path)
    assert [each["id"] for each in await objects(cluster)] == [OBJECT]
    assert not is_there(dead)


async def test_a_collection_of_that_name_that_was_made_since_is_another(
    cluster: WeaviateCluster, dead: Path, tmp_path: Path
) -> None:
    await cluster.call("DELETE", f"/v1/schema/{CLASS}")
    await make(cluster)
    await swept(cluster, tmp_path)
    assert await objects(cluster) == []
    assert not is_there(dead)


async def test_a_tenant_that_sleeps_by_now_keeps_nobody_from_the_volume(
    cluster: WeaviateCluster, dead: Path, tmp_path: Path
) -> None:
    for status in ("COLD", "HOT"):
        await cluster.call("PUT", f"/v1/schema/{CLASS}/tenants", [{"name": TENANT, "activityStatus": status}])
        await swept(cluster, tmp_path)
        assert is_there(dead) is (status == "COLD")
    assert [each["id"] for each in await objects(cluster)] == [OBJECT]


async def asleep(cluster: WeaviateCluster, status: str = "COLD") -> None:
    await cluster.call("PUT", f"/v1/schema/{CLASS}/tenants", [{"name": TENANT, "activityStatus": status}])


async def test_what_the_application_wrote_before_the_tenant_slept_stays_however_late_the_replay_comes(
    cluster: WeaviateCluster, dead: Path, tmp_path: Path
) -> None:
    await cluster.insert([{"class": CLASS, "tenant": TENANT, "id": OBJECT, "vector": [3.0, 4.0]}])
    await asleep(cluster)
    await swept(cluster, tmp_path)
    assert is_there(dead)
    await asleep(cluster, "HOT")
    await swept(cluster, tmp_path)
    assert not is_there(dead)
    found = await cluster.call("GET", f"/v1/objects?class={CLASS}&tenant={TENANT}&include=vector")
    assert [each["vector"] for each in found["objects"]] == [[3.0, 4.0]]


@pytest.mark.parametrize("begun", [False, True])
async def test_what_the_application_deleted_stays_deleted_though_the_server_lost_when(
    cluster: WeaviateCluster, dead: Path, tmp_path: Path, begun: bool
) -> None:
    """It reads deletions from a write-ahead log without their times. `begun`: the object itself was replayed before."""
    lines = (dead / JOURNAL).read_text().splitlines(keepends=True)
    last = {"kind": "replaying", "collection": CLASS, "shard": TENANT, "done": 1, "doing": 7}
    (dead / JOURNAL).write_text("".join(lines[:-1]) + (json.dumps(last) + "\n" if begun else ""))
    os.utime(dead / JOURNAL, (1, 1))
    await cluster.insert([{"class": CLASS, "tenant": TENANT, "id": OBJECT, "vector": [3.0, 4.0]}])
    await cluster.call("DELETE", f"/v1/objects/{CLASS}/{OBJECT}?tenant={TENANT}")
    for status in ("COLD", "HOT"):
        await asleep(cluster, status)
    await swept(cluster, tmp_path)
    assert not is_there(dead)
    assert await objects(cluster) == []


async def test_what_a_replay_deleted_is_put_back_though_the_server_lost_when(
    cluster: WeaviateCluster, dead: Path, tmp_path: Path
) -> None:
    for status in ("COLD", "HOT"):
        await asleep(cluster, status)
    await swept(cluster, tmp_path)
    assert [each["id"] for each in await objects(cluster)] == [OBJECT]


async def test_confirm_waits_for_a_tenant_that_sleeps_between_the_halves_of_its_replay(
    cluster: WeaviateCluster, dead: Path, tmp_path: Path
) -> None:
    plain = workspace_of(cluster, tmp_path, DEAD)
    order = plain.order.model_copy(update={"work": RestoreOrder(source_node=plain.node)})
    command = StepCommand(operation_uid=DEAD, step=Step.CONFIRM, collections=(CLASS,), backup_sha256="x")
    with Journal(place_of(dead) / JOURNAL) as journal:
        journal.append("all-placed", collections=[CLASS])
        workspace = Workspace(plain.settings, order, journal)
        await asleep(cluster)
        for step in (confirm, release):
            with pytest.raises(
                Transient, match=f"ReplayPending: late writes of {CLASS}/{TENANT} .* activate the tenant"
            ):
                await step(workspace, command, Meter())
        await asleep(cluster, "HOT")
        assert (await confirm(workspace, command, Meter())).late_writes_left == 0
    assert [each["id"] for each in await objects(cluster)] == [OBJECT]
