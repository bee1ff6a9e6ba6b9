"""Servers that ask for credentials, and volumes without hard links: what is said, and that nothing stays halted."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from tests.places import place_of
from tests.weaviate.conftest import PROPERTIES, items
from tests.weaviate_server import WeaviateNode, weaviate_cluster

from weaviate_backup.errors import Permanent
from weaviate_backup.weaviate.probing import choose_driver
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.rest import NodeClient, RestClient
from weaviate_backup.weaviate.rpc import ClusterCredentials
from weaviate_backup.weaviate.snapshot_driver import SnapshotDriver

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]

RIGHT, WRONG = ClusterCredentials("cluster", "right-password"), ClusterCredentials("cluster", "wrong-password")
KEY = "right-key"
NATIVE_BACKUP_SECONDS = 60


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WeaviateNode]:
    """API key, cluster basic authentication, a backup module, and a data volume as if it had no hard links."""
    directory = tmp_path_factory.mktemp("guarded")
    environment = {
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
        "AUTHENTICATION_APIKEY_ENABLED": "true",
        "AUTHENTICATION_APIKEY_ALLOWED_KEYS": f"{KEY},reader-key",
        "AUTHENTICATION_APIKEY_USERS": "admin,reader",
        "AUTHORIZATION_ADMINLIST_ENABLED": "true",
        "AUTHORIZATION_ADMINLIST_USERS": "admin",
        "AUTHORIZATION_ADMINLIST_READONLY_USERS": "reader",
        "CLUSTER_BASIC_AUTH_USERNAME": RIGHT.username,
        "CLUSTER_BASIC_AUTH_PASSWORD": RIGHT.password,
        "ENABLE_MODULES": "backup-filesystem",
        "BACKUP_FILESYSTEM_PATH": str(directory / "backups"),
        "WEAVIATE_TEST_FORCE_NO_HARDLINK": "true",
    }
    headers = {"Authorization": f"Bearer {KEY}"}
    async with weaviate_cluster(directory, environment=environment, headers=headers) as cluster:
        await cluster.create({"class": "Flat", "properties": PROPERTIES})
        await cluster.insert(items("Flat", 50))
        yield cluster.nodes[0]


def driver_of(node: WeaviateNode, credentials: ClusterCredentials | None) -> SnapshotDriver:
    return SnapshotDriver(
        node.host, node.data_port, data_root=place_of(node.data_path), operation_uid="d" * 32, credentials=credentials
    )


async def test_a_volume_without_hard_links_is_refused_and_let_go(guarded: WeaviateNode) -> None:
    driver = driver_of(guarded, RIGHT)
    async with RaftClient(guarded.host, guarded.raft_rpc_port) as raft:
        state, version = await raft.sharding_state("Flat")
    (shard,) = state["physical"]
    for _ in range(2):
        with pytest.raises(Permanent) as caught:
            await driver.cut("Flat", shard, schema_version=version)
        assert caught.value.reason == "HardLinksUnsupported"
        assert not list(guarded.data_path.glob(".replica-staging-*"))
    url = f"http://{guarded.host}:{guarded.data_port}/indices/Flat/shards/{shard}/files:metadata/indexcount"
    async with aiohttp.ClientSession(headers={"Authorization": RIGHT.header()}) as session, session.get(url) as answer:
        assert answer.status != 200, "nothing is halted for transfer any more"
    await driver.close()


@pytest.mark.parametrize("credentials", [None, WRONG])
async def test_the_data_port_wants_the_right_credentials(
    guarded: WeaviateNode, credentials: ClusterCredentials | None
) -> None:
    driver = driver_of(guarded, credentials)
    with pytest.raises(Permanent) as caught:
        await driver.cut("Flat", "any", schema_version=0)
    assert caught.value.reason == "ClusterAuthenticationFailed"
    assert WRONG.password not in caught.value.message
    await driver.close()
    with pytest.raises(Permanent) as caught:
        await choose_driver(
            guarded.host,
            guarded.data_port,
            data_root=place_of(guarded.data_path),
            operation_uid="d" * 32,
            server_version="1.39.1",
            credentials=credentials,
        )
    assert caught.value.reason == "ClusterAuthenticationFailed"
    async with NodeClient(guarded.host, guarded.data_port, credentials) as one:
        with pytest.raises(Permanent) as caught:
            await one.status()
    assert caught.value.reason == "AuthenticationFailed"


async def test_the_right_credentials_work(guarded: WeaviateNode) -> None:
    async with NodeClient(guarded.host, guarded.data_port, RIGHT) as one:
        assert [shard.collection for shard in await one.shards()] == ["Flat"]
    async with RestClient(guarded.rest_url, KEY) as rest:
        assert (await rest.meta())["version"] == "1.39.1"


async def test_the_api_key_is_asked_for_by_name(guarded: WeaviateNode) -> None:
    for key in (None, "wrong-key"):
        async with RestClient(guarded.rest_url, key) as rest:
            assert await rest.ready(), "readiness needs no key"
            with pytest.raises(Permanent) as caught:
                await rest.meta()
        assert caught.value.reason == "AuthenticationFailed"
        assert "wrong-key" not in caught.value.message
    async with RestClient(guarded.rest_url, "reader-key") as rest:
        with pytest.raises(Permanent) as caught:
            await rest.create_alias("Some", "Flat")
    assert caught.value.reason == "PermissionDenied"


async def test_backups_of_the_server_are_seen_until_they_end(guarded: WeaviateNode) -> None:
    """The filesystem backend of a single node: one that is unfinished in the store, then one that is finished."""
    store = next(guarded.data_path.parent.glob("backups"), guarded.data_path.parent / "backups")
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers) as session, RestClient(guarded.rest_url, KEY) as rest:
        assert await rest.native_backups_active() == ()
        async with session.post(f"{guarded.rest_url}/v1/backups/filesystem", json={"id": "native"}) as answer:
            assert answer.status == 200, await answer.text()
        async with asyncio.timeout(NATIVE_BACKUP_SECONDS):
            while active := await rest.native_backups_active():
                assert {(each.backend, each.backup_id) for each in active} == {("filesystem", "native")}
                await asyncio.sleep(0.1)
        description = store / "native" / "backup_config.json"
        unfinished = description.read_text().replace('"SUCCESS"', '"TRANSFERRING"').replace('"native"', '"other"')
        (store / "other").mkdir()
        (store / "other" / "backup_config.json").write_text(unfinished)
        (other,) = await rest.native_backups_active()
        assert (other.backend, other.backup_id, other.status) == ("filesystem", "other", "TRANSFERRING")
