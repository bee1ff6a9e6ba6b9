"""A restore onto nodes of other names, and beside aliases that stand for something else already."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.agent.surroundings import (
    Surroundings,
    backup_order,
    endpoint_of,
    nothing_left,
    restore_order,
    s3_server,
    whole_backup,
)
from tests.agent.test_backup_and_restore import succeeded
from tests.agent_process import Agent, agent_process
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.core.session import RestoreOrder, SessionOrder, Step
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
    await cluster.call("POST", "/v1/aliases", {"alias": "Memo", "class": "Note"})


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


def orders(
    cluster: WeaviateCluster, store: Surroundings, mapping: dict[str, str], backup_id: str
) -> list[SessionOrder]:
    """As the operator makes them: every target node takes the part of the node that is mapped to it."""
    sources = {target: source for source, target in mapping.items()}
    first = restore_order(cluster, store, backup_id=backup_id)
    return [
        first.model_copy(
            update={
                "node": node.name,
                "weaviate": endpoint_of(cluster, number),
                "work": RestoreOrder(source_node=sources[node.name], node_mapping=mapping),
            }
        )
        for number, node in enumerate(cluster.nodes)
    ]


async def restore_everywhere(
    directory: Path, cluster: WeaviateCluster, store: Surroundings, mapping: dict[str, str], *, backup_id: str
) -> None:
    """One step on all nodes, then the next; one applies."""
    collections = ("Diary", "Note")
    async with contextlib.AsyncExitStack() as stack:
        agents: list[Agent] = []
        for order, node in zip(orders(cluster, store, mapping, backup_id), cluster.nodes, strict=True):
            running = agent_process(
                directory / node.name, order=order, data_path=node.data_path, credentials=store.credentials
            )
            (directory / node.name).mkdir()
            agents.append(await stack.enter_async_context(running))
        for step in (Step.INSPECT, Step.DOWNLOAD, Step.PLACE):
            await asyncio.gather(*(agent.step(step, collections=collections) for agent in agents))
        await agents[-1].step(Step.APPLY, collections=collections)
        for step in (Step.CONFIRM, Step.RELEASE):
            await asyncio.gather(*(agent.step(step, collections=collections) for agent in agents))


async def test_three_nodes_change_their_names_and_places(store: Surroundings, tmp_path: Path) -> None:
    environment = store.weaviate_environment
    async with weaviate_cluster(tmp_path / "source", nodes=3, environment=environment) as source:
        await fill(source, factor=2)
        await source.call("POST", "/v1/backups/s3", {"id": "three"})
        await succeeded(source, "/v1/backups/s3/three")
    async with weaviate_cluster(tmp_path / "target", nodes=3, name="db") as target:
        await restore_everywhere(tmp_path, target, store, ROTATED, backup_id="three")
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
        await target.call("POST", "/v1/aliases", {"alias": "Memo", "class": "Other"})
        for overwrite, kept, stands_for in ((False, ("Memo",), "Other"), (True, (), "Note")):
            (order,) = orders(target, store, {"weaviate-0": "db-0"}, "one")
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
                assert report.applied.aliases_kept == kept
                await agent.step(Step.CONFIRM, collections=collections)
                await agent.step(Step.RELEASE)
            assert await placed_on(target, "Note") == {"db-0"}
            await assert_all_there(target)
            aliases = await target.call("GET", "/v1/aliases")
            assert {each["alias"]: each["class"] for each in aliases["aliases"]} == {"Memo": stands_for}
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
