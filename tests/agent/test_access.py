"""Roles and users travel with a backup: in the server's own form, to both kinds of restore, and keys go on working."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from tests.agent.everywhere import restore_everywhere, restore_orders
from tests.agent.guarded import (
    EXPECTED,
    NOTE,
    ROOT_KEY,
    People,
    assign,
    everyone,
    guarded_cluster,
    hand_out_cluster_credentials,
    new_user,
    populate,
    who_is,
)
from tests.agent.surroundings import (
    Surroundings,
    backup_order,
    nothing_left,
    restore_order,
    s3_server,
    whole_backup,
    whole_restore,
)
from tests.agent.test_backup_and_restore import succeeded
from tests.agent_process import agent_process
from tests.places import place_of
from tests.weaviate_server import WeaviateCluster

from weaviate_backup.agent.access import KEPT_FILE, read_access
from weaviate_backup.core.session import DATA_DIRECTORY, AccessCounts, RestoreOrder, SessionOrder, Step
from weaviate_backup.errors import Permanent
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.rest import RestClient

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
NOTES = ("Note",)
BOTH = {"config": {"rolesOptions": "all", "usersOptions": "all"}}


@dataclass(frozen=True)
class Guarded:
    """A cluster of one version with people in it and a backup `stock` that it made of itself."""

    version: str
    cluster: WeaviateCluster
    store: Surroundings
    people: People


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.39.1", "1.37.14"])
async def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    version = str(request.param)
    directory = tmp_path_factory.mktemp("guarded")
    async with (
        s3_server(directory) as store,
        guarded_cluster(directory, version=version, environment=store.weaviate_environment) as cluster,
    ):
        await cluster.create(NOTE)
        await cluster.insert([{"class": "Note", "properties": {"text": "first"}}])
        await cluster.call("POST", "/v1/backups/s3", {"id": "empty"})
        await succeeded(cluster, "/v1/backups/s3/empty")
        compare_documents(cluster, store, "empty")
        people = await populate(cluster)
        await cluster.call("POST", "/v1/backups/s3", {"id": "stock"})
        await succeeded(cluster, "/v1/backups/s3/stock")
        yield Guarded(version, cluster, store, people)


def compare_documents(cluster: WeaviateCluster, store: Surroundings, backup_id: str) -> None:
    """The server's own words, to the byte: nobody has used a key yet, which would change a time in memory only."""
    descriptor = json.loads((store.objects / backup_id / "weaviate-0" / "backup.json").read_text())
    found = read_access(place_of(cluster.nodes[0].data_path), roles_enabled=True)
    assert found.roles == base64.b64decode(descriptor["rbacBackups"])
    assert found.users == base64.b64decode(descriptor["userBackups"])


def restored_with_access(order: SessionOrder, version: str) -> SessionOrder:
    work = order.work
    assert isinstance(work, RestoreOrder)
    wishes = work.model_copy(update={"roles": True, "users": True})
    return order.model_copy(update={"work": wishes, "server_version": version})


async def test_documents_are_those_that_the_server_writes(guarded: Guarded) -> None:
    compare_documents(guarded.cluster, guarded.store, "stock")
    assert read_access(place_of(guarded.cluster.nodes[0].data_path), roles_enabled=False).roles is None


async def test_keys_go_on_working_in_a_fresh_cluster_and_what_was_there_is_replaced(
    guarded: Guarded, tmp_path: Path
) -> None:
    assert await everyone(guarded.cluster, guarded.people) == EXPECTED
    hand_out_cluster_credentials(tmp_path)
    async with guarded_cluster(tmp_path / "target", version=guarded.version) as target:
        stranger, other_alice = await new_user(target, "stranger"), await new_user(target, "alice")
        await target.call("POST", "/v1/authz/roles", {"name": "strange", "permissions": []})
        more = [{"action": "delete_data", "data": {"collection": "*"}}]
        await target.call("POST", "/v1/authz/roles", {"name": "reader", "permissions": more})
        await assign(target, "stranger", "admin")
        await assign(target, "alice", "strange")
        assert (await who_is(target, other_alice))[0] == 200, "the server remembers this key now"
        order = restored_with_access(restore_order(target, guarded.store, backup_id="stock"), guarded.version)
        report = await whole_restore(tmp_path, target, guarded.store, order, NOTES)
        assert report.inspected is not None
        assert report.inspected.roles_enabled
        assert report.inspected.contents.access == AccessCounts(roles=2, users=6)
        assert report.applied is not None
        assert report.applied.access == AccessCounts(roles=2, users=6)
        assert await everyone(target, guarded.people) == EXPECTED
        for key in (stranger, other_alice):
            assert (await who_is(target, key))[0] == 401
        roles = {role["name"]: role for role in await target.call("GET", "/v1/authz/roles")}
        assert roles.keys() == {"admin", "viewer", "root", "read-only", "reader", "hollow"}
        assert {each["action"] for each in roles["reader"]["permissions"]} == {"read_data", "read_collections"}
        await target.stop_node(target.nodes[0])
        target.start_node(target.nodes[0])
        await target.wait_until_synchronized()
        assert await everyone(target, guarded.people) == EXPECTED, "a restart of the server changes nothing"
        assert nothing_left(target)
        assert secrets_in(tmp_path, guarded) == []


async def test_every_node_of_a_cluster_lets_the_people_in(guarded: Guarded, tmp_path: Path) -> None:
    async with guarded_cluster(tmp_path / "target", version=guarded.version, nodes=3) as target:
        for node in target.nodes:
            hand_out_cluster_credentials(tmp_path / node.name)
        wishes = {"roles": True, "users": True}
        orders = restore_orders(target, guarded.store, {"weaviate-0": "weaviate-1"}, backup_id="stock", **wishes)
        orders = [order.model_copy(update={"server_version": guarded.version}) for order in orders]
        reports = await restore_everywhere(tmp_path, target, guarded.store, orders, NOTES)
        assert [report.applied is not None for report in reports] == [False, False, True]
        assert await everyone(target, guarded.people) == EXPECTED


async def test_a_key_that_sees_little_is_no_reason_to_back_up_little(guarded: Guarded) -> None:
    """Lists are filtered by rights without a word; what is backed up is asked from raft, which filters nothing."""
    cluster, node = guarded.cluster, guarded.cluster.nodes[0]
    await cluster.create({"class": "Secret", "properties": []})
    async with RestClient(node.rest_url, guarded.people.keys["alice"]) as rest:
        assert await rest.schema(lambda classes: [each["class"] for each in classes]) == ["Note"]
        assert await rest.users_enabled() is None
        with pytest.raises(Permanent) as refused:
            await rest.positions()
        assert refused.value.reason == "PermissionDenied"
    async with RaftClient(node.host, node.raft_rpc_port) as raft:
        assert await raft.class_names() == ("Note", "Secret")
    async with RestClient(node.rest_url, ROOT_KEY) as rest:
        assert await rest.users_enabled() is True
    await cluster.call("DELETE", "/v1/schema/Secret")


async def test_an_agent_without_the_clusters_credentials_says_which_are_missing(
    guarded: Guarded, tmp_path: Path
) -> None:
    order = backup_order(guarded.cluster, guarded.store, NOTES, backup_id="nobody", server_version=guarded.version)
    async with agent_process(
        tmp_path, order=order, data_path=guarded.cluster.nodes[0].data_path, credentials=guarded.store.credentials
    ) as agent:
        known = await agent.failure(Step.FREEZE)
        assert known.failure is not None
        assert (known.failure.reason, known.failure.transient) == ("ClusterAuthenticationFailed", False)
        assert "CLUSTER_BASIC_AUTH_USERNAME" in known.failure.message
        await agent.step(Step.RELEASE)
    assert nothing_left(guarded.cluster)


async def test_without_being_asked_for_nothing_of_them_changes(guarded: Guarded, tmp_path: Path) -> None:
    hand_out_cluster_credentials(tmp_path)
    async with guarded_cluster(tmp_path / "target", version=guarded.version) as target:
        key = await new_user(target, "stranger")
        order = restore_order(target, guarded.store, backup_id="stock")
        order = order.model_copy(update={"server_version": guarded.version})
        report = await whole_restore(tmp_path, target, guarded.store, order, NOTES)
        assert report.applied is not None
        assert report.applied.access == AccessCounts()
        assert (await who_is(target, key))[0] == 200
        assert (await who_is(target, guarded.people.keys["alice"]))[0] == 401


async def test_our_backup_carries_them_to_a_restore_of_the_server(guarded: Guarded, tmp_path: Path) -> None:
    store, cluster = guarded.store, guarded.cluster
    hand_out_cluster_credentials(tmp_path)
    order = backup_order(cluster, store, NOTES, backup_id="ours", server_version=guarded.version)
    backup = await whole_backup(tmp_path, cluster, store, order, NOTES)
    assert backup.node.frozen is not None
    assert backup.node.frozen.access == AccessCounts(roles=2, users=6)
    async with guarded_cluster(
        tmp_path / "target", version=guarded.version, environment=store.weaviate_environment
    ) as target:
        await target.call("POST", "/v1/backups/s3/ours/restore", BOTH)
        await succeeded(target, "/v1/backups/s3/ours/restore")
        assert await everyone(target, guarded.people) == EXPECTED
    assert secrets_in(tmp_path, guarded) == []
    for path in (store.objects / "ours").rglob("*"):
        if path.is_file() and path.name != "backup.json":
            assert hashes_in(path.read_bytes(), guarded) == [], f"{path} holds hashes of keys"


async def test_only_we_may_read_what_is_kept_meanwhile(guarded: Guarded, tmp_path: Path) -> None:
    hand_out_cluster_credentials(tmp_path)
    order = backup_order(guarded.cluster, guarded.store, NOTES, backup_id="kept", server_version=guarded.version)
    data_path = guarded.cluster.nodes[0].data_path
    async with agent_process(
        tmp_path, order=order, data_path=data_path, credentials=guarded.store.credentials
    ) as agent:
        await agent.step(Step.FREEZE)
        directory = data_path / DATA_DIRECTORY / order.operation_uid
        assert (directory / KEPT_FILE).stat().st_mode & 0o777 == 0o600
        others = [path for path in directory.rglob("*") if path.is_file() and path.name != KEPT_FILE]
        assert [path for path in others if hashes_in(path.read_bytes(), guarded)] == []
        await agent.step(Step.RELEASE)
    assert nothing_left(guarded.cluster)


def hashes_in(content: bytes, guarded: Guarded) -> list[str]:
    stored = json.loads(read_access(place_of(guarded.cluster.nodes[0].data_path), roles_enabled=False).users or b"{}")
    hashes = list(stored["Data"]["SecureKeyStorageById"].values())
    assert hashes
    return [each for each in hashes if each.encode() in content]


def secrets_in(directory: Path, guarded: Guarded) -> list[str]:
    """Names of logs that hold a key, or what stands for one."""
    logs = list(directory.rglob("agent-*.log"))
    assert logs
    contents = {path: path.read_bytes() for path in logs}
    return [
        path.name
        for path, content in contents.items()
        if any(secret.encode() in content for secret in guarded.people.secrets) or hashes_in(content, guarded)
    ]
