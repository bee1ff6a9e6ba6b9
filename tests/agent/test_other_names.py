"""A restore onto nodes of other names, and beside aliases that stand for something else already."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.agent.everywhere import restore_everywhere, restore_orders
from tests.agent.surroundings import Surroundings, backup_order, keep_directories, nothing_left, s3_server, whole_backup
from tests.agent.test_backup_and_restore import succeeded
from tests.agent_process import agent_process
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.core.session import Step
from weaviate_backup.weaviate.raft import RaftClient

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]

NOTES = 60
TENANTS = ("one", "two", "asleep")
ROTATED = {"weaviate-0": "db-1", "weaviate-1": "db-2", "weaviate-2": "db-0"}
TEXT = [{"name": "text", "dataType": ["text"]}]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Surroundings]:
    async with s3_server(tmp_path_factory.mktemp("store")) as running:
        yield running


async def fill(cluster: WeaviateCluster, *, factor: int) -> None:
    """A collection whose vectors say which object is which, one with tenants of whom one is inactive, and an alias."""
    replication = {"replicationConfig": {"factor": factor}}
    await cluster.create({"class": "Note", "properties": TEXT, **replication})
    await cluster.create({"class": "Diary", "properties": TEXT, "multiTenancyConfig": {"enabled": True}, **replication})
    await cluster.call("POST", "/v1/schema/Diary/tenants", [{"name": name} for name in TENANTS])
    await cluster.insert([{"class": "Note", **content(number)} for number in range(NOTES)])
    entries = [{"class": "Diary", "tenant": name, **content(1)} for name in TENANTS]
    await cluster.insert(entries)
    await cluster.call("PUT", "/v1/schema/Diary/tenants", [{"name": "asleep", "activityStatus": "COLD"}])
    for alias in ("Memo", "Letter"):
        await cluster.call("POST", "/v1/aliases", {"alias": alias, "class": "Note"})


def content(number: int) -> dict[str, Any]:
    return {
        "id": str(uuid.UUID(int=number + 1)),
        "properties": {"text": f"text {number}"},
        "vector": [1.0, number / NOTES],
    }


async def assert_all_there(cluster: WeaviateCluster) -> None:
    """On every node every object is found by its vector, and the sleeping tenant wakes with its own."""
    await cluster.call("PUT", "/v1/schema/Diary/tenants", [{"name": "asleep", "activityStatus": "HOT"}])
    near = "{ Get { Note(limit: 1, nearVector: {vector: [1.0, %s]}) { text } } }"
    for node in range(len(cluster.nodes)):
        for number in range(0, NOTES, 7):
            answer = await cluster.call("POST", "/v1/graphql", {"query": near % (number / NOTES)}, node=node)
            assert answer["data"]["Get"]["Note"] == [{"text": f"text {number}"}]
        counted = await cluster.call(
            "POST", "/v1/graphql", {"query": "{ Aggregate { Note { meta { count } } } }"}, node=node
        )
        assert counted["data"]["Aggregate"]["Note"][0]["meta"]["count"] == NOTES
    for name in TENANTS:
        found = await cluster.call("GET", f"/v1/objects/Diary/{uuid.UUID(int=2)}?tenant={name}")
        assert found["properties"] == {"text": "text 1"}


async def placed_on(cluster: WeaviateCluster, collection: str) -> set[str]:
    async with RaftClient(cluster.nodes[0].host, cluster.nodes[0].raft_rpc_port) as raft:
        state, _ = await raft.sharding_state(collection)
    return {node for shard in state["physical"].values() for node in shard["belongsToNodes"]}


async def test_three_nodes_change_their_names_and_places(store: Surroundings, tmp_path: Path) -> None:
    environment = store.weaviate_environment
    async with weaviate_cluster(tmp_path / "source", nodes=3, environment=environment) as source:
        await fill(source, factor=2)
        keep_directories(store, "three", source)
        await source.call("POST", "/v1/backups/s3", {"id": "three"})
        await succeeded(source, "/v1/backups/s3/three")
    async with weaviate_cluster(tmp_path / "target", nodes=3, name="db") as target:
        orders = restore_orders(target, store, ROTATED, backup_id="three")
        await restore_everywhere(tmp_path, target, store, orders, ("Diary", "Note"))
        assert await placed_on(target, "Note") <= set(ROTATED.values())
        await assert_all_there(target)


async def test_one_node_changes_its_name_and_aliases_stay_or_move_as_wished(
    store: Surroundings, tmp_path: Path
) -> None:
    collections = ("Diary", "Note")
    async with weaviate_cluster(tmp_path / "source") as source:
        await fill(source, factor=1)
        order = backup_order(source, store, collections, backup_id="one")
        await whole_backup(tmp_path / "backup", source, store, order, collections)
    async with weaviate_cluster(tmp_path / "target", name="db") as target:
        await target.create({"class": "Other", "properties": TEXT})
        theirs, ours = {"Memo": "Other", "LETTER": "Other"}, {"Memo": "Note", "Letter": "Note"}
        for alias in theirs:
            await target.call("POST", "/v1/aliases", {"alias": alias, "class": "Other"})
        for overwrite, kept, expected in ((False, {"Memo", "Letter"}, theirs), (True, set(), ours)):
            (order,) = restore_orders(target, store, {"weaviate-0": "db-0"}, backup_id="one")
            async with agent_process(
                tmp_path / f"restore-{overwrite}",
                order=order,
                data_path=target.nodes[0].data_path,
                credentials=store.credentials,
            ) as agent:
                for step in (Step.INSPECT, Step.DOWNLOAD, Step.PLACE):
                    await agent.step(step, collections=collections)
                report = await agent.step(Step.APPLY, collections=collections, overwrite_alias=overwrite)
                assert report.applied is not None
                assert set(report.applied.aliases_kept) == kept
                await agent.step(Step.CONFIRM, collections=collections)
                await agent.step(Step.RELEASE)
            assert await placed_on(target, "Note") == {"db-0"}
            await assert_all_there(target)
            aliases = await target.call("GET", "/v1/aliases")
            assert {each["alias"]: each["class"] for each in aliases["aliases"]} == expected
            assert nothing_left(target)
            if not overwrite:
                await forget(target, collections)


async def forget(cluster: WeaviateCluster, collections: tuple[str, ...]) -> None:
    """Deleted, from the disk, too."""
    for name in collections:
        await cluster.call("DELETE", f"/v1/schema/{name}")
    data_path = cluster.nodes[0].data_path
    for _ in range(600):
        if not any((data_path / name.lower()).exists() for name in collections):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("collections were deleted, but their directories stay")
