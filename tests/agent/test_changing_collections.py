"""Collections that are deleted, made anew or moved between the reading of their schema and the cuts."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from e2e.lab.programs import WEAVIATE_VERSION
from tests.agent.surroundings import Surroundings, backup_order, directory_store, endpoint_of, s3_server
from tests.interop.driving import our_backup
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

from weaviate_backup.agent import shard_freezer
from weaviate_backup.agent.fates import fates
from weaviate_backup.agent.freeze import freeze
from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.shard_freezer import ShardFreezer
from weaviate_backup.agent.survey import read_schema
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import Frozen, Step, StepCommand
from weaviate_backup.errors import Permanent
from weaviate_backup.settings import AgentSettings
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.shard_source import ShardCut

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]

CLASS = "Changing"
MOVE_SECONDS = 60
PLAIN = {"class": CLASS, "shardingConfig": {"desiredCount": 3}}
WITH_TENANTS = {"class": CLASS, "multiTenancyConfig": {"enabled": True}, "vectorIndexType": "hnsw"}
TENANTS = tuple("abcdefghi")
"""Enough for every node to get some."""
Act = Callable[[], Awaitable[None]]


class Killed(Exception):
    """In place of an agent's end."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def single(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WeaviateCluster]:
    async with weaviate_cluster(tmp_path_factory.mktemp("single")) as cluster:
        yield cluster


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def without_collection(single: WeaviateCluster) -> None:
    await single.call("DELETE", f"/v1/schema/{CLASS}")


async def make(cluster: WeaviateCluster, collection: dict[str, Any]) -> None:
    """With a few objects, in tenants if it has them."""
    await cluster.create(collection)
    tenants = TENANTS if "multiTenancyConfig" in collection else (None,)
    if tenants != (None,):
        await cluster.call("POST", f"/v1/schema/{CLASS}/tenants", [{"name": name} for name in tenants])
    objects = [{"class": CLASS, "id": str(uuid.uuid4()), "vector": [1.0, 2.0]} for _ in range(12)]
    for tenant in tenants:
        await cluster.insert([each | ({"tenant": tenant} if tenant else {}) for each in objects])


def workspace_of(directory: Path, cluster: WeaviateCluster, store: Surroundings, number: int = 0) -> Workspace:
    node = cluster.nodes[number]
    order = backup_order(
        cluster, store, (CLASS,), node=node.name, leader=node.name, weaviate=endpoint_of(cluster, number)
    )
    settings = AgentSettings(
        operation_uid=order.operation_uid, node=node.name, data_path=node.data_path,
        credentials_directory=directory, ca_directory=directory, filesystem_root=store.objects,
    )  # fmt: skip
    workspace = Workspace(settings, order, Journal(None))
    workspace.directory.make_directory()
    return workspace


async def frozen(workspace: Workspace) -> Frozen:
    command = StepCommand(operation_uid=workspace.uid, step=Step.FREEZE)
    return await freeze(workspace, command, Meter())


def after_the_schema_was_read(monkeypatch: pytest.MonkeyPatch, act: Act) -> None:
    """Once, between the reading of a collection's schema and the first cut of its shards."""
    snapshot = RaftClient.snapshot

    async def then_act(self: RaftClient, name: str) -> tuple[dict[str, Any], dict[str, Any], int]:
        found = await snapshot(self, name)
        await act()
        return found

    monkeypatch.setattr(RaftClient, "snapshot", then_act)


async def test_shards_that_were_deleted_with_their_collection_are_not_left_out(
    tmp_path: Path, single: WeaviateCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three shards none is left; a backup of the old definition with no shard at all would look whole."""
    await make(single, PLAIN)

    async def make_anew() -> None:
        await single.call("DELETE", f"/v1/schema/{CLASS}")
        await make(single, PLAIN)

    after_the_schema_was_read(monkeypatch, make_anew)
    with pytest.raises(Permanent, match=f"{CLASS} was deleted and made anew during the backup: shard") as refused:
        await frozen(workspace_of(tmp_path, single, directory_store(tmp_path)))
    assert refused.value.reason == "CollectionChanged"


async def test_tenants_of_another_collection_are_not_kept_under_the_old_definition(
    tmp_path: Path, single: WeaviateCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tenants have their old names, so that every shard is found."""
    await make(single, WITH_TENANTS)

    async def make_anew() -> None:
        await single.call("DELETE", f"/v1/schema/{CLASS}")
        await make(single, WITH_TENANTS | {"vectorIndexType": "flat"})

    after_the_schema_was_read(monkeypatch, make_anew)
    with pytest.raises(Permanent, match="vectorIndexType is 'hnsw' and 'flat'; make a new backup") as refused:
        await frozen(workspace_of(tmp_path, single, directory_store(tmp_path)))
    assert refused.value.reason == "CollectionChanged"


@pytest.mark.parametrize("collection", [PLAIN, WITH_TENANTS], ids=["shards", "tenants"])
async def test_an_agent_that_goes_on_does_not_mix_two_collections(
    tmp_path: Path, single: WeaviateCluster, monkeypatch: pytest.MonkeyPatch, collection: dict[str, Any]
) -> None:
    """Killed after the first cut; made anew meanwhile."""
    await make(single, collection)
    workspace = workspace_of(tmp_path, single, directory_store(tmp_path))
    await killed_after_cuts(monkeypatch, workspace, 1)
    await single.call("DELETE", f"/v1/schema/{CLASS}")
    await make(single, collection | {"vectorIndexType": "flat"} if collection is WITH_TENANTS else collection)
    with pytest.raises(Permanent, match=f"{CLASS} was deleted and made anew during the backup"):
        await frozen(workspace)


async def test_an_agent_that_goes_on_after_its_last_cut_has_the_old_collection_whole(
    tmp_path: Path, single: WeaviateCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the schema of its one instant: what was made anew since has nothing to do with it."""
    await make(single, PLAIN)
    workspace = workspace_of(tmp_path, single, directory_store(tmp_path))
    await killed_after_cuts(monkeypatch, workspace, 3)
    before = read_schema(workspace, CLASS)
    await single.call("DELETE", f"/v1/schema/{CLASS}")
    await make(single, PLAIN)
    assert (await frozen(workspace)).shards == 3
    assert read_schema(workspace, CLASS) == before
    assert set(fates(workspace.journal)[CLASS]) == set(before["state"]["physical"])


async def killed_after_cuts(monkeypatch: pytest.MonkeyPatch, workspace: Workspace, cuts: int) -> None:
    note, noted = ShardFreezer._note, list[str]()

    def then_die(self: ShardFreezer, cut: ShardCut, *how: Any) -> None:
        note(self, cut, *how)
        noted.append(cut.shard)
        if len(noted) == cuts:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(ShardFreezer, "_note", then_die)
        patched.setattr(shard_freezer, "SHARDS_AT_ONCE", 1)
        await frozen(workspace)


async def test_a_collection_that_was_updated_meanwhile_is_backed_up(
    tmp_path: Path, single: WeaviateCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(single, WITH_TENANTS)

    async def update() -> None:
        await single.call("POST", f"/v1/schema/{CLASS}/properties", {"name": "more", "dataType": ["int"]})
        definition = await single.call("GET", f"/v1/schema/{CLASS}")
        await single.call("PUT", f"/v1/schema/{CLASS}", definition | {"description": "new"})

    after_the_schema_was_read(monkeypatch, update)
    assert (await frozen(workspace_of(tmp_path, single, directory_store(tmp_path)))).shards == len(TENANTS)


async def test_a_collection_that_is_deleted_after_its_cut_is_whole(
    tmp_path: Path, single: WeaviateCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(single, PLAIN)
    cut_all = ShardFreezer.freeze

    async def then_delete(self: ShardFreezer, *of: Any, **how: Any) -> None:
        await cut_all(self, *of, **how)
        await single.call("DELETE", f"/v1/schema/{CLASS}")

    monkeypatch.setattr(ShardFreezer, "freeze", then_delete)
    found = await frozen(workspace_of(tmp_path, single, directory_store(tmp_path)))
    assert (found.collections, found.missing_collections, found.shards) == ((CLASS,), (), 3)


async def test_a_shard_that_moves_to_another_node_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in no other node's plan either: that one read the schema before."""
    moves = {"REPLICA_MOVEMENT_ENABLED": "true"}
    async with weaviate_cluster(tmp_path / "weaviate", nodes=3, environment=moves) as cluster:
        await make(cluster, PLAIN)
        node, other = (each.name for each in cluster.nodes[:2])
        async with RaftClient(cluster.nodes[0].host, cluster.nodes[0].raft_rpc_port) as raft:
            state, _ = await raft.sharding_state(CLASS)
        shard = next(name for name, each in state["physical"].items() if each["belongsToNodes"] == [node])

        async def move() -> None:
            wanted = {"collection": CLASS, "shard": shard, "sourceNode": node, "targetNode": other, "type": "MOVE"}
            begun = await cluster.call("POST", "/v1/replication/replicate", wanted)
            async with asyncio.timeout(MOVE_SECONDS):
                while True:
                    found = await cluster.call("GET", f"/v1/replication/replicate/{begun['id']}")
                    if found["status"]["state"] == "READY":
                        return
                    await asyncio.sleep(0.5)

        after_the_schema_was_read(monkeypatch, move)
        with pytest.raises(Permanent, match=f"{CLASS}/{shard} was moved away from {node} during the backup") as refused:
            await frozen(workspace_of(tmp_path, cluster, directory_store(tmp_path)))
        assert refused.value.reason == "ShardMoved"


async def test_nodes_that_saw_two_collections_of_one_name_do_not_commit(tmp_path: Path) -> None:
    """The leader was cut before, the others after it was made anew with the same tenants."""
    async with (
        s3_server(tmp_path) as store,
        weaviate_cluster(tmp_path / "weaviate", nodes=3, environment=store.weaviate_environment) as cluster,
    ):
        await make(cluster, WITH_TENANTS)

        async def make_anew() -> None:
            await cluster.call("DELETE", f"/v1/schema/{CLASS}")
            await make(cluster, WITH_TENANTS | {"vectorIndexType": "flat"})

        with pytest.raises(AssertionError, match=r"CollectionChanged.*vectorIndexType is 'hnsw' and 'flat'"):
            await our_backup(
                tmp_path / "backup", cluster, store, "mixed",
                version=WEAVIATE_VERSION, collections=(CLASS,), after_first_cut=make_anew,
            )  # fmt: skip
        assert not (store.objects / "mixed" / "backup_config.json").exists()
