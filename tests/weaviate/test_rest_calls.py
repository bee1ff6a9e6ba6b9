"""The REST API and a node's own status, on a real server."""

import pytest
from tests.weaviate.conftest import OBJECTS, TENANT_OBJECTS
from tests.weaviate_server import WeaviateNode

from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.weaviate.rest import NodeClient, RestClient, enabled_backends

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]


async def test_a_cluster_tells_who_it_is(node: WeaviateNode) -> None:
    async with RestClient(node.rest_url) as rest:
        assert await rest.ready()
        assert (await rest.meta())["version"] == "1.39.1"
        (position,) = await rest.positions()
        assert (position.node, position.leader, position.leads) == ("weaviate-0", "weaviate-0", True)
        assert position.ready and 0 < position.applied_index == position.last_index
        (status,) = await rest.nodes(tuple)
        assert status["name"] == "weaviate-0" and status["status"] == "HEALTHY"
        assert {shard["class"] for shard in status["shards"]} == {"Article", "Flat", "Dyn", "Multi"}
        assert await rest.schema(lambda classes: {each["class"] for each in classes}) == {
            "Article",
            "Flat",
            "Dyn",
            "Multi",
        }


async def test_tenants_have_statuses(node: WeaviateNode) -> None:
    async with RestClient(node.rest_url) as rest:
        assert set((await rest.tenants("Multi")).items()) == {("hot", "HOT"), ("cold", "COLD")}
        assert await rest.tenants("Article") == {}
        with pytest.raises(Permanent) as caught:
            await rest.tenants("Missing")
        assert caught.value.reason in {"NotFound", "ServerRefused"}


async def test_aliases_are_made_and_removed(node: WeaviateNode) -> None:
    async with RestClient(node.rest_url) as rest:
        await rest.create_alias("ByRest", "Flat")
        assert await rest.aliases() == await rest.aliases("Flat") == {"ByRest": "Flat"}
        await rest.delete_alias("ByRest")
        await rest.delete_alias("ByRest")
        assert await rest.aliases() == {}


async def test_a_server_says_that_it_has_no_dynamic_users(node: WeaviateNode) -> None:
    async with RestClient(node.rest_url) as rest:
        assert await rest.users_enabled() is False


async def test_a_server_without_backup_modules_runs_no_backup(node: WeaviateNode) -> None:
    async with RestClient(node.rest_url) as rest:
        assert enabled_backends(await rest.meta()) == ()
        assert await rest.native_backups_active() == ()


async def test_a_node_lists_its_active_shards(node: WeaviateNode) -> None:
    async with NodeClient(node.host, node.data_port) as one:
        assert (await one.status())["name"] == "weaviate-0"
        multi = await one.shards("Multi")
        assert [shard.shard for shard in multi] == ["hot"], "an inactive tenant is in no memory"
        (article,) = await one.shards("Article")
        assert article.loaded and article.collection == "Article" and article.vector_indexing_status == "READY"
        assert article.object_count <= OBJECTS and multi[0].object_count <= TENANT_OBJECTS
        async with RestClient(node.rest_url) as rest:
            assert (await one.position(),) == await rest.positions()


async def test_an_absent_server_is_not_ready_and_may_come_back() -> None:
    async with RestClient("http://127.0.0.1:9") as rest:
        assert not await rest.ready()
        with pytest.raises(Transient) as caught:
            await rest.meta()
    assert caught.value.reason == "ServerUnavailable"
