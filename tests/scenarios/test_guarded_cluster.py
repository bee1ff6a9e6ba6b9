"""A cluster that lets nobody in without credentials comes back with its people: the keys of then open it again."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from e2e.cluster import manifests
from tests.scenarios.guarded_weaviate import (
    CLUSTER_PASSWORD,
    NAME,
    ROOT_KEY,
    SECRET,
    WEAK_KEY,
    GuardedWeaviate,
    Refused,
)
from tests.scenarios.world import World

pytestmark = pytest.mark.lab

NOTES = [{"class": "Note", "properties": {"text": f"note {number}"}} for number in range(50)]
READ_NOTES = [
    {"action": "read_data", "data": {"collection": "Note", "object": "*", "tenant": "*"}},
    {"action": "read_collections", "collections": {"collection": "Note"}},
]
ALL = {"rolesOptions": "all", "usersOptions": "all"}


@pytest.fixture
def guarded(world: World) -> Iterator[GuardedWeaviate]:
    weaviate = GuardedWeaviate(world.kubectl, world.lab.directory / "volumes" / NAME)
    weaviate.start()
    yield weaviate
    weaviate.remove()


def with_key(key: str) -> dict[str, Any]:
    return {"target": {"statefulSet": NAME}, "auth": {"apiKeySecretRef": {"name": SECRET, "key": key}}}


def objects_seen_by(weaviate: GuardedWeaviate, key: str) -> int:
    return len(weaviate.call("GET", "/v1/objects?class=Note&limit=1000", key=key)["objects"])


def with_people(guarded: GuardedWeaviate) -> str:
    """Notes, and Alice who may read them: her key."""
    guarded.call("POST", "/v1/schema", {"class": "Note", "properties": [{"name": "text", "dataType": ["text"]}]})
    guarded.call("POST", "/v1/batch/objects", {"objects": NOTES})
    guarded.call("POST", "/v1/authz/roles", {"name": "reader", "permissions": READ_NOTES})
    alice = str(guarded.call("POST", "/v1/users/db/alice", {})["apikey"])
    guarded.call("POST", "/v1/authz/users/alice/assign", {"roles": ["reader"], "userType": "db"})
    assert objects_seen_by(guarded, alice) == len(NOTES)
    return alice


def assert_alice_reads(guarded: GuardedWeaviate, alice: str) -> None:
    """With the key she always had, and nothing more than that."""
    assert objects_seen_by(guarded, alice) == len(NOTES)
    with pytest.raises(Refused, match="403"):
        guarded.call("DELETE", "/v1/schema/Note", key=alice)
    assert guarded.call("GET", "/v1/users/own-info", key=alice)["username"] == "alice"


def test_people_and_data_come_back(world: World, guarded: GuardedWeaviate) -> None:
    alice = with_people(guarded)
    for key, reason, status in (("wrong-key", "AuthenticationFailed", "401"), ("weak-key", "PermissionDenied", "403")):
        refused = world.run(manifests.backup(world.name(), **with_key(key)))
        assert (refused.phase, refused.reason) == ("Failed", reason)
        assert f"spec.auth.apiKeySecretRef (key {key} of Secret {SECRET})" in refused.message
        assert status in refused.message

    name = world.name()
    world.complete(manifests.backup(name, **with_key("root-key")))
    access = {"roles": 1, "users": 1}
    assert world.resource("weaviatebackup", name)["status"]["access"] == access

    guarded.destroy()
    guarded.start()
    with pytest.raises(Refused, match="401"):
        objects_seen_by(guarded, alice)
    restore = manifests.restore(
        world.name(), source={"backupRef": {"name": name}}, config=ALL, target={"statefulSet": NAME}
    )
    view = world.complete(restore)  # without auth: the first key that the pods' own Secret allows
    status = world.resource("weaviaterestore", view.name)["status"]
    assert status["access"] == access
    assert_alice_reads(guarded, alice)
    assert list(guarded.directory.glob("vectors/.weaviate-backup/*")) == []

    written = world.everything_written()
    stored = json.loads((guarded.directory / "vectors/raft/db_users/users.json").read_text())
    hashes = list(stored["Data"]["SecureKeyStorageById"].values())
    assert len(hashes) == 1
    for secret in (alice, ROOT_KEY, WEAK_KEY, CLUSTER_PASSWORD, "vectors-wrong-0123456789", *hashes):
        assert secret not in written


def test_the_server_brings_people_and_data_back(world: World, guarded: GuardedWeaviate) -> None:
    """Method Server, which asks everything through the API that wants a key."""
    alice = with_people(guarded)
    refused = world.run(manifests.backup(world.name(), method="Server", **with_key("weak-key")))
    assert (refused.phase, refused.reason) == ("Failed", "PermissionDenied")
    name = world.name()
    world.complete(manifests.backup(name, method="Server", **with_key("root-key")))

    guarded.destroy()
    guarded.start()
    spec = {"config": ALL, "method": "Server", **with_key("root-key")}
    world.complete(manifests.restore(world.name(), source={"backupRef": {"name": name}}, **spec))
    assert_alice_reads(guarded, alice)
