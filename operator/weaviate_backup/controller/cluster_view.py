"""Looks at a target: its objects in the Kubernetes API, and what Weaviate says of itself. Reads only.

Shapes and refusals are decided by `core.topology`; here things are fetched. Every node is asked by its pod's address,
never through the load-balanced Service. Secrets are read one by one by name, and their values go nowhere but into the
request they are for. Pods and what they name are a tenant's: each object is reduced to what is looked at before the
next is read, all of one cluster has one budget, and few clusters are read at once, of one namespace one.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from weaviate_backup.answers import Line, turn, whole
from weaviate_backup.api.operation_spec import Authentication
from weaviate_backup.api.resources import Resource
from weaviate_backup.core.environment import Sources, claim_names, config_map_names, secret_names
from weaviate_backup.core.read_budget import ReadBudget
from weaviate_backup.core.restore_plan import TargetFacts
from weaviate_backup.core.secret_purpose import check_api_key
from weaviate_backup.core.topology import (
    MOST_REPLICAS,
    ClusterView,
    NodeView,
    owned_pods,
    view_cluster,
)
from weaviate_backup.errors import Permanent, Transient, excerpt
from weaviate_backup.kube import CLAIMS, CONFIG_MAPS, PODS, SECRETS, STATEFUL_SETS, Kube
from weaviate_backup.layout.json_bounds import MIB, memory_of
from weaviate_backup.layout.plain_names import checked_name
from weaviate_backup.layout.versions import version_key
from weaviate_backup.weaviate.raft import RaftClient, by_one_leader, watched
from weaviate_backup.weaviate.replayed_log import Statistics
from weaviate_backup.weaviate.rest import BACKUP_MODULES, RestClient

ASK_SECONDS = 20.0
CATCH_UP_SECONDS = 2.0
"""A log is never at rest where tenants come and go: one look's worth of it is waited for."""
AT_ONCE = 8
"""Pods, or objects, of one cluster that are asked at the same time."""
MOST_OBJECTS = 512
"""Of one kind that pods name: two claims of each of the most pods."""
CLUSTERS = Line("clusters that are read", of_one=1, of_all=4)
LOOKS = Line("Weaviates that are asked", of_one=4)
"""A view of a cluster, and what its Weaviate said, are in memory meanwhile."""
MOST_NAMES_BYTES = 4 * MIB
"""Of collections and aliases, as they lie in memory: some ten thousand; Weaviate makes a thousand if not told more."""
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
    """Raises `TargetNotFound` (it may still be created), `TooManyObjects`, and whatever makes the target unusable."""
    async with turn(CLUSTERS, namespace):
        return await _Reading(kube, namespace).cluster(stateful_set)


@dataclass(frozen=True)
class _Reading:
    """Of one cluster."""

    kube: Kube
    namespace: str
    budget: ReadBudget = field(default_factory=lambda: ReadBudget(objects=2_000))

    async def cluster(self, stateful_set: str) -> ClusterView:
        found = await self.kube.pick_one(STATEFUL_SETS, self.namespace, stateful_set, whole, budget=self.budget)
        if found is None:
            message = f"there is no StatefulSet {stateful_set!r} in namespace {self.namespace}"
            raise Transient("TargetNotFound", message)
        selector = (found["spec"].get("selector") or {}).get("matchLabels") or {}
        own = partial(_if_owned, found)
        pods = await self.kube.pick(PODS, self.namespace, own, labels=selector, budget=self.budget)
        specs = [found["spec"]["template"]["spec"], *(pod["spec"] for pod in pods)]
        return view_cluster(
            namespace=self.namespace,
            stateful_set=found,
            pods=pods,
            claims=await self._named(CLAIMS, claim_names(pods), whole),
            sources=Sources(
                config_maps=await self._named(
                    CONFIG_MAPS, frozenset().union(*map(config_map_names, specs)), lambda body: body.get("data") or {}
                ),
                secret_keys=await self._named(
                    SECRETS, frozenset().union(*map(secret_names, specs)), lambda body: tuple(body.get("data") or ())
                ),
            ),
        )

    async def _named(self, resource: Resource, names: frozenset[str], keep: Callable[[Json], T]) -> dict[str, T]:
        """What is kept of those that exist."""
        if len(names) > MOST_OBJECTS:
            message = (
                f"the pods name {len(names)} {resource.plural} in {self.namespace}; at most {MOST_OBJECTS} are read"
            )
            raise Permanent("TooManyObjects", message)

        async def one(name: str) -> tuple[str, T | None]:
            return name, await self.kube.pick_one(resource, self.namespace, name, keep, budget=self.budget)

        found = await _a_few_at_once(partial(one, name) for name in sorted(names))
        return {name: each for name, each in found if each is not None}


def _if_owned(stateful_set: Json, pod: Json) -> Json | None:
    return pod if owned_pods(stateful_set, [pod]) else None


async def _a_few_at_once(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """What they give. The first that fails ends all."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with turns:
            return await call()

    tasks = [asyncio.create_task(one(call)) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_secret_value(
    kube: Kube, namespace: str, name: str, key: str, *, check: Callable[[Mapping[str, str]], None] = lambda _: None
) -> str:
    """One value. Its absence is said by name; the value itself is never part of a message. `check` raises when the
    Secret's labels forbid it."""

    def take(secret: Json) -> tuple[str | None]:
        check(secret["metadata"].get("labels") or {})
        return ((secret.get("data") or {}).get(key),)

    found = await kube.pick_one(SECRETS, namespace, name, take)
    if found is None:
        raise Transient("SecretNotFound", f"there is no Secret {name!r} in namespace {namespace}")
    (value,) = found
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
        async with turn(LOOKS, cluster.namespace):
            return await _ask_all(cluster, key)
    except Permanent as error:
        cure = CURES.get(error.reason)
        if cure is None:
            raise
        raise Permanent(error.reason, f"{cure}; used was {_origin(cluster, auth)}: {error.message}") from error


async def _ask_all(cluster: ClusterView, key: str | None) -> ServerView:
    unready = dict.fromkeys(cluster.absent, "its pod is not there")
    answers = await _a_few_at_once(partial(_ask_node, cluster, node, key) for node in cluster.nodes)
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
    async with _rest(cluster, first, key) as rest:
        listed = await rest.nodes(_statuses, verbose=False)
        native = await rest.native_backups_active()
        modules = (await rest.meta()).get("modules")
        leader, collections, aliases = await _ask_raft(cluster, first, rest)
    if memory_of((collections, aliases)) > MOST_NAMES_BYTES:
        message = f"Weaviate at {first.address} names {len(collections)} collections and {len(aliases)} aliases"
        raise Permanent("AnswerTooLarge", f"{message}: more than are backed up; delete those that are not needed")
    for name in (*collections, *aliases, *aliases.values()):
        checked_name(name, what=f"a collection or an alias at {first.address}")
    for node in cluster.nodes:
        if node.name not in unready and listed.get(node.name) != HEALTHY:
            unready[node.name] = f"Weaviate says {listed.get(node.name, 'nothing')} of it"
    return ServerView(
        version=min(versions, key=version_key),
        leader=leader,
        collections=tuple(sorted(collections)),
        aliases=aliases,
        unready=unready,
        native_backup=native[0].backup_id if native else None,
        modules={name: modules[name] for name in BACKUP_MODULES if name in modules}
        if isinstance(modules, dict)
        else {},
    )


async def _ask_raft(
    cluster: ClusterView, node: NodeView, rest: RestClient
) -> tuple[str, tuple[str, ...], dict[str, str]]:
    """Who leads, collections and aliases, as one leader says them."""
    async with watched_raft(cluster, node, rest) as raft:

        async def ask() -> tuple[tuple[str, ...], dict[str, str]]:
            return await raft.class_names(), await raft.aliases()

        collections, aliases = await by_one_leader(raft, ask)
        return raft.leader, collections, aliases


def watched_raft(cluster: ClusterView, node: NodeView, rest: RestClient) -> RaftClient:
    """The node's, of which `rest` tells who leads. A backup of all that is known to a leader which still reads its log
    would lack the rest, and say nothing of it. `SchemaCatchingUp` is for the next look."""
    port, whose, looker = cluster.ports.raft, cluster.namespace, Statistics(node.name, rest)
    return watched(RaftClient(node.address, port, whose=whose), looker, patience_seconds=CATCH_UP_SECONDS)


def _statuses(nodes: Sequence[Json]) -> dict[str, str]:
    return {excerpt(str(node.get("name"))): excerpt(str(node.get("status")), 40) for node in nodes[:MOST_REPLICAS]}


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
    async with _rest(cluster, cluster.nodes[0], key) as rest:
        return await rest.users_enabled()


async def in_schema(
    kube: Kube, cluster: ClusterView, auth: Authentication | None, take: Callable[[tuple[Json, ...]], T]
) -> T:
    """What is taken of every class as REST gives it; only of those that the key may read."""
    key = await api_key(kube, cluster, auth)
    async with _rest(cluster, cluster.nodes[0], key) as rest:
        return await rest.schema(take)


def target_facts(cluster: ClusterView, server: ServerView) -> TargetFacts:
    nodes = {node.name: node.name not in server.unready for node in cluster.nodes}
    return TargetFacts(
        nodes={**dict.fromkeys(cluster.absent, False), **nodes},
        version=server.version,
        collections=server.collections,
        aliases=server.aliases,
    )


async def _ask_node(cluster: ClusterView, node: NodeView, key: str | None) -> str | Transient | Permanent:
    """Its version, or why it does not tell. It is sent the key when it has said that it is ready, not before."""
    async with _rest(cluster, node, None) as stranger:
        if not await stranger.ready():
            return Transient("NodeNotReady", "it does not answer that it is ready")
    async with _rest(cluster, node, key) as rest:
        try:
            return excerpt(str((await rest.meta()).get("version", "")), VERSION_LENGTH)
        except (Transient, Permanent) as failure:
            return failure


def _rest(cluster: ClusterView, node: NodeView, key: str | None) -> RestClient:
    return RestClient(rest_url(cluster, node), key, timeout_seconds=ASK_SECONDS, whose=cluster.namespace)


def rest_url(cluster: ClusterView, node: NodeView) -> str:
    """Of that node alone."""
    host = f"[{node.address}]" if ":" in node.address else node.address
    return f"{cluster.scheme}://{host}:{cluster.ports.rest}"
