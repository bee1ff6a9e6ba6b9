"""Looks at a target: its objects in the Kubernetes API, and what Weaviate says of itself. Reads only.

Shapes and refusals are decided by `core.topology`; here things are fetched. Every node is asked by its pod's address,
never through the load-balanced Service. Secrets are read one by one by name, and their values go nowhere but into the
request they are for.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from weaviate_backup.api.operation_spec import Authentication
from weaviate_backup.core.restore_plan import TargetFacts
from weaviate_backup.core.secret_purpose import check_api_key
from weaviate_backup.core.topology import (
    ClusterView,
    NodeView,
    Sources,
    claim_names,
    config_map_names,
    owned_pods,
    secret_names,
    view_cluster,
)
from weaviate_backup.errors import Permanent, Transient, excerpt
from weaviate_backup.kube import CLAIMS, CONFIG_MAPS, PODS, SECRETS, STATEFUL_SETS, Kube, Resource
from weaviate_backup.layout.versions import version_key
from weaviate_backup.weaviate.raft import RaftClient
from weaviate_backup.weaviate.rest import RestClient

ASK_SECONDS = 20.0
AT_ONCE = 8
"""Pods, or objects, of one cluster that are asked at the same time."""
MOST_OBJECTS = 128
VERSION_LENGTH = 40
HEALTHY = "HEALTHY"
CURES = {
    "AuthenticationFailed": "Weaviate does not know the API key (401): let spec.auth name a Secret with a valid one",
    "PermissionDenied": (
        "the API key's user lacks a permission (403): let spec.auth name the key of one who may read nodes and the "
        "cluster, and backups where a backup module is enabled"
    ),
}

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class ServerView:
    """What Weaviate says. `version` is the lowest node's; `unready`: node → why; `modules`: enabled ones' settings."""

    version: str
    leader: str
    collections: tuple[str, ...]
    aliases: dict[str, str]
    unready: dict[str, str]
    native_backup: str | None
    modules: Json


async def read_cluster(kube: Kube, namespace: str, stateful_set: str) -> ClusterView:
    """Raises `TargetNotFound` (it may still be created) and whatever makes the target unusable."""
    found = await kube.get(STATEFUL_SETS, namespace, stateful_set)
    if found is None:
        raise Transient("TargetNotFound", f"there is no StatefulSet {stateful_set!r} in namespace {namespace}")
    selector = (found["spec"].get("selector") or {}).get("matchLabels") or {}
    pods = await kube.list(PODS, namespace, labels=selector)
    specs = [found["spec"]["template"]["spec"], *(pod["spec"] for pod in owned_pods(found, pods))]
    maps = await _get_all(kube, CONFIG_MAPS, namespace, frozenset().union(*map(config_map_names, specs)))
    secrets = await _get_all(kube, SECRETS, namespace, frozenset().union(*map(secret_names, specs)))
    claims = await _get_all(kube, CLAIMS, namespace, claim_names(pods))
    return view_cluster(
        namespace=namespace,
        stateful_set=found,
        pods=pods,
        claims={claim["metadata"]["name"]: claim for claim in claims},
        sources=Sources(
            config_maps={entry["metadata"]["name"]: entry.get("data") or {} for entry in maps},
            secret_keys={entry["metadata"]["name"]: tuple(entry.get("data") or ()) for entry in secrets},
        ),
    )


async def _get_all(kube: Kube, resource: Resource, namespace: str, names: frozenset[str]) -> list[Json]:
    """Those that exist. An object may have a MiB, and pods may name as many as they like."""
    if len(names) > MOST_OBJECTS:
        message = f"the pods name {len(names)} {resource.plural}; at most {MOST_OBJECTS} are read"
        raise Permanent("TooManyObjects", message)
    found = await _a_few_at_once(kube.get(resource, namespace, name) for name in sorted(names))
    return [each for each in found if each]


async def _a_few_at_once(asked: Iterable[Awaitable[T]]) -> list[T]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(each: Awaitable[T]) -> T:
        async with turns:
            return await each

    return await asyncio.gather(*map(one, asked))


async def read_secret_value(
    kube: Kube, namespace: str, name: str, key: str, *, check: Callable[[Mapping[str, str]], None] = lambda _: None
) -> str:
    """One value. Its absence is said by name; the value itself is never part of a message. `check` raises when the
    Secret's labels forbid it."""
    secret = await kube.get(SECRETS, namespace, name)
    if secret is None:
        raise Transient("SecretNotFound", f"there is no Secret {name!r} in namespace {namespace}")
    check(secret["metadata"].get("labels") or {})
    value = (secret.get("data") or {}).get(key)
    if value is None:
        raise Permanent("SecretKeyNotFound", f"Secret {name!r} has no key {key!r}")
    try:
        return base64.b64decode(value).decode().strip()
    except ValueError:  # without its cause, which holds the value
        raise Permanent(
            "SecretValueUnusable", f"key {key!r} of Secret {name!r} in namespace {namespace} holds no UTF-8 text"
        ) from None


async def api_key(kube: Kube, cluster: ClusterView, auth: Authentication | None) -> str | None:
    """The key to use with Weaviate's REST API: as named in the spec, else the first that the cluster allows."""
    if auth is not None:
        reference = auth.api_key_secret_ref
        meant = partial(check_api_key, reference)
        return await read_secret_value(kube, cluster.namespace, reference.name, reference.key, check=meant)
    if cluster.api_key is None or cluster.anonymous:
        return None
    listed = await read_secret_value(kube, cluster.namespace, cluster.api_key.secret, cluster.api_key.key)
    return listed.split(",")[0].strip() or None


async def ask_weaviate(kube: Kube, cluster: ClusterView, auth: Authentication | None) -> ServerView:
    """Asks every node for its version and readiness, and one for the schema, by raft so that nothing is filtered."""
    if not cluster.nodes:
        raise Transient(
            "NodeNotReady", f"no pod of {cluster.stateful_set} is placed; missing: {', '.join(cluster.absent)}"
        )
    key = await api_key(kube, cluster, auth)
    try:
        return await _ask_all(cluster, key)
    except Permanent as error:
        cure = CURES.get(error.reason)
        if cure is None:
            raise
        raise Permanent(error.reason, f"{cure}; used was {_origin(cluster, auth)}: {error.message}") from error


async def _ask_all(cluster: ClusterView, key: str | None) -> ServerView:
    unready = dict.fromkeys(cluster.absent, "its pod is not there")
    answers = await _a_few_at_once(_ask_node(rest_url(cluster, node), key) for node in cluster.nodes)
    versions: list[str] = []
    for node, answer in zip(cluster.nodes, answers, strict=True):
        if isinstance(answer, Permanent):
            raise answer
        if isinstance(answer, Transient):
            unready[node.name] = answer.message
        elif not node.ready:
            unready[node.name] = "its container is not ready"
        else:
            versions.append(answer)
    if not versions:
        raise Transient("NodeNotReady", "; ".join(f"{name}: {why}" for name, why in sorted(unready.items())))
    first = next(node for node in cluster.nodes if node.name not in unready)
    async with RestClient(rest_url(cluster, first), key, timeout_seconds=ASK_SECONDS) as rest:
        statistics = await rest.statistics()
        listed = {str(node.get("name")): str(node.get("status")) for node in await rest.nodes(verbose=False)}
        native = await rest.native_backups_active()
        modules = (await rest.meta()).get("modules")
    async with RaftClient(first.address, cluster.ports.raft, in_turn=True) as raft:
        collections, aliases = await raft.class_names(), await raft.aliases()
    for node in cluster.nodes:
        if node.name not in unready and listed.get(node.name) != HEALTHY:
            unready[node.name] = f"Weaviate says {excerpt(listed.get(node.name, 'nothing'), 40)} of it"
    if not statistics.leader:
        raise Transient("NoLeader", "Weaviate's raft has no leader")
    return ServerView(
        version=min(versions, key=version_key),
        leader=statistics.leader,
        collections=tuple(sorted(collections)),
        aliases=aliases,
        unready=unready,
        native_backup=native[0].backup_id if native else None,
        modules=modules if isinstance(modules, dict) else {},
    )


def _origin(cluster: ClusterView, auth: Authentication | None) -> str:
    """Where the key that was used is from, by name."""
    if auth is not None:
        reference = auth.api_key_secret_ref
        return f"that of spec.auth.apiKeySecretRef (key {reference.key} of Secret {reference.name})"
    if cluster.api_key is None or cluster.anonymous:
        return "none, as spec.auth is not set"
    found = f"key {cluster.api_key.key} of Secret {cluster.api_key.secret}"
    return f"the first of AUTHENTICATION_APIKEY_ALLOWED_KEYS of the pods ({found}), as spec.auth is not set"


async def users_enabled(kube: Kube, cluster: ClusterView, auth: Authentication | None) -> bool | None:
    """Whether the target has dynamic users; None when the API key's user may not know."""
    key = await api_key(kube, cluster, auth)
    async with RestClient(rest_url(cluster, cluster.nodes[0]), key, timeout_seconds=ASK_SECONDS) as rest:
        return await rest.users_enabled()


async def schema_of(kube: Kube, cluster: ClusterView, auth: Authentication | None) -> tuple[Json, ...]:
    """Every class as REST gives it; only those that the key may read."""
    key = await api_key(kube, cluster, auth)
    async with RestClient(rest_url(cluster, cluster.nodes[0]), key, timeout_seconds=ASK_SECONDS) as rest:
        return tuple((await rest.schema()).get("classes") or ())


def target_facts(cluster: ClusterView, server: ServerView) -> TargetFacts:
    nodes = {node.name: node.name not in server.unready for node in cluster.nodes}
    return TargetFacts(
        nodes={**dict.fromkeys(cluster.absent, False), **nodes},
        version=server.version,
        collections=server.collections,
        aliases=server.aliases,
    )


async def _ask_node(base_url: str, key: str | None) -> str | Transient | Permanent:
    """Its version, or why it does not tell. It is sent the key when it has said that it is ready, not before."""
    async with RestClient(base_url, None, timeout_seconds=ASK_SECONDS) as stranger:
        if not await stranger.ready():
            return Transient("NodeNotReady", "it does not answer that it is ready")
    async with RestClient(base_url, key, timeout_seconds=ASK_SECONDS) as rest:
        try:
            return excerpt(str((await rest.meta()).get("version", "")), VERSION_LENGTH)
        except (Transient, Permanent) as failure:
            return failure


def rest_url(cluster: ClusterView, node: NodeView) -> str:
    """Of that node alone."""
    host = f"[{node.address}]" if ":" in node.address else node.address
    return f"{cluster.scheme}://{host}:{cluster.ports.rest}"
