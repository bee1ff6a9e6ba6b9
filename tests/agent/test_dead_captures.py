"""What a dead operation left in the server ends with it: a capture that nobody stops writes everything twice until
Weaviate restarts."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.agent.hand_frozen import Node
from tests.open_files import open_below
from tests.places import place_of
from tests.ports import free_port
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.agent.journal import JOURNAL
from weaviate_backup.agent.release import end_of_lease, let_go, release, sweep
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import DATA_DIRECTORY, Step, StepCommand, WeaviateEndpoint
from weaviate_backup.errors import Transient
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate import snapshot_staging
from weaviate_backup.weaviate.inactive_tenants import fingerprint_of
from weaviate_backup.weaviate.protocol import file_replication_pb2_grpc
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.rpc import open_channel
from weaviate_backup.weaviate.snapshot_driver import CALLS
from weaviate_backup.weaviate.write_capture import WriteCapture, log_place

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
CLASS = "Note"
DEAD, LIVING = "deadbeef-0000-4000-8000-000000000001", "0b5f2c1e-0000-4000-8000-000000000002"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WeaviateCluster]:
    async with weaviate_cluster(tmp_path_factory.mktemp("captures")) as cluster:
        await cluster.create({"class": CLASS})
        yield cluster


def workspace_of(cluster: WeaviateCluster, tmp_path: Path, uid: str, *, data_port: int | None = None) -> Workspace:
    node = cluster.nodes[0]
    plain = Node(tmp_path / uid, tmp_path / "store", uid, {}, name=node.name).workspace()
    endpoint = WeaviateEndpoint(
        host=node.host,
        rest_port=node.rest_port,
        data_port=data_port or node.data_port,
        raft_port=node.raft_rpc_port,
        data_path=str(node.data_path),
    )
    order = plain.order.model_copy(update={"weaviate": endpoint})
    return Workspace(plain.settings.model_copy(update={"data_path": node.data_path}), order, plain.journal)


async def capture_for(cluster: WeaviateCluster, uid: str) -> Path:
    """As an agent leaves it that died in a cut, with its journal; the file of what is captured."""
    node = cluster.nodes[0]
    shard = (await cluster.call("GET", f"/v1/schema/{CLASS}/shards"))[0]["name"]
    operation = snapshot_staging.operation_id(uid, CLASS, shard, CALLS)
    channel = open_channel(node.host, node.data_port)
    capture = WriteCapture(file_replication_pb2_grpc.FileReplicationServiceStub(channel), (), address="test")
    assert await capture.start(CLASS, shard, operation)
    await channel.close()
    directory = node.data_path / DATA_DIRECTORY / uid
    directory.mkdir(parents=True)
    lines = [
        {"kind": "session", "order": {"lease_seconds": 1}},
        {"kind": "cutting", "collection": CLASS, "shard": shard},
    ]
    (directory / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(directory / JOURNAL, (1, 1))
    captured = Path(str(log_place(place_of(node.data_path), CLASS, shard, operation)))
    assert await goes_on(cluster, captured)
    return captured


async def test_what_was_captured_of_a_tenant_that_was_put_to_sleep_does_not_stay(
    cluster: WeaviateCluster, tmp_path: Path
) -> None:
    """Its server has ended the capture, and would delete the file when it loads the shard again, which may be never."""
    await cluster.create({"class": "Multi", "properties": [], "multiTenancyConfig": {"enabled": True}})
    await cluster.call("POST", "/v1/schema/Multi/tenants", [{"name": "t"}])
    node, operation = cluster.nodes[0], snapshot_staging.operation_id(LIVING, "Multi", "t", CALLS)
    channel = open_channel(node.host, node.data_port)
    capture = WriteCapture(file_replication_pb2_grpc.FileReplicationServiceStub(channel), (), address="test")
    assert await capture.start("Multi", "t", operation)
    await channel.close()
    await cluster.call("PUT", "/v1/schema/Multi/tenants", [{"name": "t", "activityStatus": "COLD"}])
    place = place_of(node.data_path)
    captured = log_place(place, "Multi", "t", operation)
    async with asyncio.timeout(30):
        while "indexcount" not in fingerprint_of(captured.parent.parent):  # noqa: ASYNC110 (a server's file)
            await asyncio.sleep(0.1)
    assert captured.exists(), "else nothing is left to remove"
    assert not any(name.startswith("changelog") for name in fingerprint_of(captured.parent.parent)), "nor is it frozen"
    workspace = workspace_of(cluster, tmp_path, LIVING)
    with workspace.journal:
        await let_go(workspace, LIVING, [("Multi", "t")])
    assert not captured.exists()
    await cluster.call("DELETE", "/v1/schema/Multi")


async def goes_on(cluster: WeaviateCluster, captured: Path) -> bool:
    """Whether a write of the application would be captured. What was captured before may have no name any more."""
    await cluster.insert([{"class": CLASS, "id": str(uuid.uuid4()), "vector": [1.0, 2.0]}])
    return bool(open_below(captured.parent))


async def test_the_next_operation_stops_it(cluster: WeaviateCluster, tmp_path: Path) -> None:
    captured = await capture_for(cluster, DEAD)
    workspace = workspace_of(cluster, tmp_path, LIVING)
    with workspace.journal:
        async with RaftClient(workspace.weaviate.host, workspace.weaviate.raft_port) as raft:
            await sweep(workspace, raft)
    assert not await goes_on(cluster, captured)
    assert not (cluster.nodes[0].data_path / DATA_DIRECTORY / DEAD).exists()


async def test_the_record_stays_until_the_server_was_told(cluster: WeaviateCluster, tmp_path: Path) -> None:
    captured = await capture_for(cluster, DEAD)
    deaf = workspace_of(cluster, tmp_path, LIVING, data_port=free_port())
    journal = cluster.nodes[0].data_path / DATA_DIRECTORY / DEAD / JOURNAL
    with deaf.journal:
        async with RaftClient(deaf.weaviate.host, deaf.weaviate.raft_port) as raft:
            with pytest.raises(Transient):
                await sweep(deaf, raft)
    assert journal.exists()
    assert await goes_on(cluster, captured)
    workspace = workspace_of(cluster, tmp_path, LIVING)
    with workspace.journal:
        async with RaftClient(workspace.weaviate.host, workspace.weaviate.raft_port) as raft:
            await sweep(workspace, raft)
    assert not await goes_on(cluster, captured)
    assert not journal.exists()


@pytest.mark.parametrize("told", [True, False], ids=["by a release", "by the end of the lease"])
async def test_its_own_agent_stops_it_and_says_when_it_cannot(
    cluster: WeaviateCluster, tmp_path: Path, told: bool
) -> None:
    captured = await capture_for(cluster, DEAD)
    command = StepCommand(operation_uid=DEAD, step=Step.RELEASE)
    directory = cluster.nodes[0].data_path / DATA_DIRECTORY / DEAD

    async def let_go(workspace: Workspace) -> None:
        with workspace.journal:
            workspace.journal.append("cutting", collection=CLASS, shard=captured.parent.parent.name)
            await (release(workspace, command, Meter()) if told else end_of_lease(workspace))

    with pytest.raises(Transient):
        await let_go(workspace_of(cluster, tmp_path, DEAD, data_port=free_port()))
    assert directory.exists()
    assert await goes_on(cluster, captured)
    await let_go(workspace_of(cluster, tmp_path, DEAD))
    assert not await goes_on(cluster, captured)
    assert directory.exists() is not told
    if not told:
        await let_go_of(workspace_of(cluster, tmp_path, DEAD), command)


async def let_go_of(workspace: Workspace, command: StepCommand) -> None:
    with workspace.journal:
        await release(workspace, command, Meter())
