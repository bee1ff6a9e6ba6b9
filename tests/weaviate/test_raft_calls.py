"""Raft queries and commands, on a real server."""

import copy
from collections.abc import Awaitable

import pytest
from tests.weaviate_server import WeaviateCluster, WeaviateNode

from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.weaviate.raft import RaftClient

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]


async def reason_of(call: Awaitable[object], kind: type[BackupError] = Permanent) -> str:
    with pytest.raises(kind) as caught:
        await call
    return caught.value.reason


async def test_collections_are_named(raft: RaftClient) -> None:
    assert {"Article", "Dyn", "Flat", "Multi"} <= set(await raft.class_names())


async def test_a_class_is_what_the_server_stores(raft: RaftClient, weaviate: WeaviateCluster) -> None:
    stored, version = await raft.collection("Article")
    shown = await weaviate.call("GET", "/v1/schema/Article")
    assert version > 0
    assert "Version" not in stored
    assert [each["name"] for each in stored["properties"]] == [each["name"] for each in shown["properties"]]
    assert stored["vectorIndexConfig"] == shown["vectorIndexConfig"]
    assert stored["invertedIndexConfig"] and stored["replicationConfig"]["factor"] == 1


async def test_integers_of_a_sharding_state_are_exact(raft: RaftClient) -> None:
    """Bounds of virtual shards are 64-bit; a float would lose their last digits."""
    state, version = await raft.sharding_state("Article")
    bounds = [each["upper"] for each in state["virtual"]]
    assert all(isinstance(bound, int) for bound in bounds)
    assert max(bounds) > 2**53
    assert any(int(float(bound)) != bound for bound in bounds)
    assert version > 0


async def test_tenant_statuses_are_in_the_sharding_state(raft: RaftClient) -> None:
    state, _ = await raft.sharding_state("Multi")
    assert {name: shard.get("status") for name, shard in state["physical"].items()} == {"hot": "HOT", "cold": "COLD"}
    assert state["physical"]["hot"]["belongsToNodes"] == ["weaviate-0"]


async def test_class_and_state_are_read_as_one_picture(raft: RaftClient) -> None:
    class_json, state, version = await raft.snapshot("Multi")
    assert class_json["class"] == "Multi" and set(state["physical"]) == {"hot", "cold"} and version > 0


async def test_an_alias_lives_and_dies_by_raft(raft: RaftClient, weaviate: WeaviateCluster) -> None:
    assert await raft.create_alias("Paper", "Article") > 0
    try:
        assert await raft.aliases("Article") == {"Paper": "Article"}
        assert (await raft.aliases())["Paper"] == "Article"
        assert (await weaviate.call("GET", "/v1/schema/Paper"))["class"] == "Article", "REST resolves it, too"
        assert await reason_of(raft.create_alias("Paper", "Flat")) == "AliasExists"
    finally:
        assert await raft.delete_alias("Paper") > 0
    assert await raft.delete_alias("Paper") > 0, "repeating is success"
    assert await raft.aliases("Article") == {}


async def test_what_is_not_there_is_named(raft: RaftClient) -> None:
    assert await reason_of(raft.collection("Missing")) == "CollectionNotFound"
    assert await reason_of(raft.sharding_state("Missing")) == "CollectionNotFound"
    assert await reason_of(raft.create_alias("Some", "Missing")) == "CollectionNotFound"
    assert await reason_of(raft.create_alias("Flat", "Article")) == "AliasExists", "the name of a collection"
    assert await raft.aliases("Missing") == {}


async def test_an_existing_class_is_never_restored_over(raft: RaftClient) -> None:
    class_json, state, _ = await raft.snapshot("Article")
    assert await reason_of(raft.restore_class("Article", class_json, state)) == "CollectionExists"
    renamed = copy.deepcopy(class_json) | {"class": "ARTICLE"}
    assert await reason_of(raft.restore_class("ARTICLE", renamed, state)) == "CollectionExists", "same directory"


@pytest.mark.parametrize("broken", ["invertedIndexConfig", "replicationConfig", "properties", "class"])
async def test_a_class_that_would_crash_servers_is_not_sent(raft: RaftClient, broken: str) -> None:
    class_json, state, _ = await raft.snapshot("Article")
    class_json = {key: value for key, value in class_json.items() if key != broken}
    assert await reason_of(raft.restore_class("Other" if broken != "class" else "Article", class_json, state)) == (
        "MalformedClass"
    )


async def test_an_absent_server_may_come_back(node: WeaviateNode) -> None:
    async with RaftClient(node.host, node.grpc_port + 20000 if node.grpc_port < 40000 else 9) as nobody:
        assert await reason_of(nobody.class_names(), Transient) == "ServerUnavailable"
        assert await reason_of(nobody.delete_alias("Any"), Transient) == "RaftOutcomeUnknown"
