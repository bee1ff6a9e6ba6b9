"""Guarded servers: API keys, roles, dynamic users, basic authentication of the data port, and people who use them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

ROOT_KEY, STATIC_KEY = "root-key-0123456789", "static-key-0123456789"
CLUSTER = {"username": "cluster-user", "password": "cluster-password-0123456789"}
GUARDED = {
    "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
    "AUTHENTICATION_APIKEY_ENABLED": "true",
    "AUTHENTICATION_APIKEY_ALLOWED_KEYS": f"{ROOT_KEY},{STATIC_KEY}",
    "AUTHENTICATION_APIKEY_USERS": "root,static",
    "AUTHENTICATION_DB_USERS_ENABLED": "true",
    "AUTHORIZATION_RBAC_ENABLED": "true",
    "AUTHORIZATION_RBAC_ROOT_USERS": "root",
    "CLUSTER_BASIC_AUTH_USERNAME": CLUSTER["username"],
    "CLUSTER_BASIC_AUTH_PASSWORD": CLUSTER["password"],
}
NOTE = {"class": "Note", "properties": [{"name": "text", "dataType": ["text"]}]}
READ_NOTES = [
    {"action": "read_data", "data": {"collection": "Note", "object": "*", "tenant": "*"}},
    {"action": "read_collections", "collections": {"collection": "No*"}},
]


@asynccontextmanager
async def guarded_cluster(
    directory: Path, *, version: str, nodes: int = 1, environment: dict[str, str] | None = None
) -> AsyncIterator[WeaviateCluster]:
    """A guarded cluster of one version, spoken to with the root user's key."""
    headers = {"Authorization": f"Bearer {ROOT_KEY}"}
    settings = GUARDED | (environment or {})
    async with weaviate_cluster(
        directory, nodes=nodes, environment=settings, headers=headers, version=version
    ) as cluster:
        yield cluster


def hand_out_cluster_credentials(directory: Path) -> None:
    """Where an agent that is started in the directory finds them."""
    (directory / "cluster").mkdir(parents=True, exist_ok=True)
    for name, value in CLUSTER.items():
        (directory / "cluster" / name).write_text(value)


@dataclass(frozen=True)
class People:
    """Users of every kind, by their plain keys: what they may do is in `expected`."""

    keys: dict[str, str]

    @property
    def secrets(self) -> list[str]:
        return [*self.keys.values(), ROOT_KEY, STATIC_KEY, CLUSTER["password"]]


async def populate(cluster: WeaviateCluster) -> People:
    """A role with permissions and one without; users that are active, viewing, inactive, revoked, and imported."""
    await cluster.call("POST", "/v1/authz/roles", {"name": "reader", "permissions": READ_NOTES})
    await cluster.call("POST", "/v1/authz/roles", {"name": "hollow", "permissions": []})
    keys = {name: await new_user(cluster, name) for name in ("alice", "victor", "ina", "rex", "revi")}
    await cluster.call("POST", "/v1/users/db/static", {"import": True})
    await assign(cluster, "alice", "reader")
    await assign(cluster, "victor", "viewer")
    await assign(cluster, "static", "reader")
    await cluster.call("POST", "/v1/users/db/ina/deactivate", {"revoke_key": False})
    for name in ("rex", "revi"):
        await cluster.call("POST", f"/v1/users/db/{name}/deactivate", {"revoke_key": True})
    await cluster.call("POST", "/v1/users/db/revi/activate", {})
    return People(keys | {"static": STATIC_KEY})


async def new_user(cluster: WeaviateCluster, name: str) -> str:
    """Its key."""
    return str((await cluster.call("POST", f"/v1/users/db/{name}", {}))["apikey"])


async def assign(cluster: WeaviateCluster, user: str, role: str) -> None:
    await cluster.call("POST", f"/v1/authz/users/{user}/assign", {"roles": [role], "userType": "db"})


async def who_is(cluster: WeaviateCluster, key: str, node: int = 0) -> tuple[int, Any]:
    """What a server says to a key: the user and the names of its roles, or why not."""
    headers = {"Authorization": f"Bearer {key}"}
    url = cluster.nodes[node].rest_url + "/v1/users/own-info"
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as answer:
        said = await answer.json()
    if answer.status != 200:
        return answer.status, str(said["message"]).rpartition(": ")[2]
    return answer.status, (said["username"], sorted(role["name"] for role in said["roles"] or ()))


async def everyone(cluster: WeaviateCluster, people: People) -> dict[str, tuple[int, Any]]:
    """By user, on every node alike."""
    seen = {name: await who_is(cluster, key) for name, key in people.keys.items()}
    for number in range(1, len(cluster.nodes)):
        assert {name: await who_is(cluster, key, number) for name, key in people.keys.items()} == seen
    return seen


EXPECTED = {
    "alice": (200, ("alice", ["reader"])),
    "victor": (200, ("victor", ["viewer"])),
    "ina": (401, "user deactivated"),
    "rex": (401, "user deactivated"),
    "revi": (401, "key is revoked"),
    "static": (200, ("static", ["reader"])),
}
