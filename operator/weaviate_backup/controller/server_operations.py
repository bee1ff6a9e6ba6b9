"""Method Server's effects: Weaviate's own engine as one node shows it now, and the requests that a machine orders.

The node that is asked coordinates, so every request and every question of an operation goes to it. Nothing is retried
here: what was answered is told to the machine at the next look, once, and the next look finds out the rest.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from weaviate_backup.api.backup import BackupSpec
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.restore import RestoreSpec
from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.controller.cluster_view import api_key, read_cluster, rest_url, watched_raft
from weaviate_backup.core.orders import CallServer, Command, ServerRun, ServerVerb, failure_of
from weaviate_backup.core.server_following import Recovered, ServerSight
from weaviate_backup.core.server_place import ServerPlace, find_place
from weaviate_backup.core.session import Failure
from weaviate_backup.core.topology import ClusterView, NodeView
from weaviate_backup.errors import BackupError, Transient
from weaviate_backup.kube import Kube
from weaviate_backup.weaviate.rest import RestClient
from weaviate_backup.weaviate.server_backups import ServerBackups, ServerStatus

LOOK_SECONDS = 20.0
REQUEST_SECONDS = 60.0
"""The server asks all its nodes before it answers."""
ACTIVE = frozenset({"", "HOT", "ACTIVE"})
MOST_UNREADY = 64
"""Shards that are told; one of them is enough to wait for."""
Shard = tuple[str, str, str]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """What nodes say of their shards: node, collection and name of those that are ready, and the objects counted."""

    ready: frozenset[Shard]
    objects: int


@dataclass(frozen=True)
class ServerTask:
    """What the requests need of spec and plan. `first`: the node to ask as long as none is remembered."""

    spec: BackupSpec | RestoreSpec
    backup_id: str
    location: LocationSpec
    first: str

    @property
    def restores(self) -> bool:
        return isinstance(self.spec, RestoreSpec)


@dataclass
class ServerLine:
    """One operation's line to the engine, as long as its daemon lives; holds nothing that is needed after a restart."""

    kube: Kube
    owner: Owner
    note: str = ""
    """Why the engine could not be asked, for people."""
    _reply: Failure | bool | None = None
    _place: ServerPlace | None = field(default=None, repr=False)

    async def look(self, task: ServerTask, run: ServerRun | None) -> ServerSight | None:
        """None: it cannot be asked now. The process is looked at first, so that a status is never older than it."""
        reply, self._reply = self._reply, None
        try:
            cluster = await self._cluster(task)
            node = _node(cluster, run.node if run else task.first)
            async with await self._engine(cluster, node, task, seconds=LOOK_SECONDS) as engine:
                known = await self._ask(engine, task)
        except BackupError as error:
            log.info("%s %s: Weaviate cannot be asked now: %s", self.owner.kind, self.owner.name, error)
            self.note, self._reply = error.message, reply
            return None
        self.note = ""
        return ServerSight(
            node=node.name,
            process=process_of(node),
            status=known.status if known else None,
            error=known.error if known else "",
            accepted=reply is True,
            refusal=reply if isinstance(reply, Failure) else None,
        )

    async def perform(self, commands: Sequence[Command], task: ServerTask | None) -> None:
        for command in commands:
            if isinstance(command, CallServer) and task is not None:
                await self._perform(command, task)

    async def _perform(self, command: CallServer, task: ServerTask) -> None:
        log.info("%s %s: %s at %s", self.owner.kind, self.owner.name, command.verb, command.run.node)
        try:
            cluster = await self._cluster(task)
            node = _node(cluster, command.run.node)
            if process_of(node) != command.run.process and command.verb in (ServerVerb.CREATE, ServerVerb.RESTORE):
                raise Transient("CoordinatorRestarted", f"Weaviate node {node.name} restarted before it was asked")
            async with await self._engine(cluster, node, task, seconds=REQUEST_SECONDS) as engine:
                await _call(engine, command, task)
            self._reply = True
        except BackupError as error:
            log.warning("%s %s: %s: %s", self.owner.kind, self.owner.name, command.verb, error)
            self._reply = failure_of(error)
        if command.verb in (ServerVerb.CANCEL, ServerVerb.CANCEL_RESTORE):
            self._reply = None  # the status tells

    async def look_recovered(
        self, task: ServerTask, collections: Sequence[str], *, with_shards: bool
    ) -> Recovered | None:
        """What is there of the collections now; None while it cannot be asked."""
        try:
            cluster = await self._cluster(task)
            node = _node(cluster, task.first)
            key = await api_key(self.kube, cluster, task.spec.auth)
            async with (
                RestClient(
                    rest_url(cluster, node), key, timeout_seconds=REQUEST_SECONDS, whose=self.owner.namespace
                ) as rest,
                watched_raft(cluster, node, rest) as raft,
            ):
                there = set(await raft.class_names()) & set(collections)
                missing = tuple(sorted(set(collections) - there))
                if not with_shards or missing:
                    return Recovered(frozenset(there), missing)
                listed = await rest.nodes(partial(listed_shards, there))
                unready: list[str] = []
                for name in sorted(there):
                    unready += await raft.in_sharding_state(name, partial(unready_shards, listed, name))
                    del unready[MOST_UNREADY:]
        except BackupError as error:
            log.info("%s %s: the target cannot be asked now: %s", self.owner.kind, self.owner.name, error)
            self.note = error.message
            return None
        return Recovered(frozenset(there), missing, tuple(unready), listed.objects)

    async def _cluster(self, task: ServerTask) -> ClusterView:
        return await read_cluster(self.kube, self.owner.namespace, task.spec.target.stateful_set)

    async def _engine(self, cluster: ClusterView, node: NodeView, task: ServerTask, *, seconds: float) -> ServerBackups:
        key = await api_key(self.kube, cluster, task.spec.auth)
        rest = RestClient(rest_url(cluster, node), key, timeout_seconds=seconds, whose=self.owner.namespace)
        if self._place is None:
            try:
                modules = (await rest.meta()).get("modules")
                self._place = place_of(task.location, cluster, modules)
            except BaseException:
                await rest.close()
                raise
        return ServerBackups(rest, self._place)

    async def _ask(self, engine: ServerBackups, task: ServerTask) -> ServerStatus | None:
        return await (engine.restore_status if task.restores else engine.status)(task.backup_id)


def place_of(location: LocationSpec, cluster: ClusterView, modules: object) -> ServerPlace:
    enabled = modules if isinstance(modules, dict) else {}
    return find_place(location, enabled, nodes=cluster.replicas, mounts=cluster.mounts)


def process_of(node: NodeView) -> str:
    return f"{node.pod_uid}/{node.restarts}"


def listed_shards(collections: Collection[str], nodes: Sequence[dict[str, Any]]) -> Listed:
    """Of those collections, what the nodes list as ready."""
    ready: set[Shard] = set()
    objects = 0
    for node in nodes:
        shards = node.get("shards")
        for shard in shards if isinstance(shards, list) else ():
            if shard.get("class") in collections:
                objects += int(shard.get("objectCount") or 0)
                if shard.get("vectorIndexingStatus") in ("READY", "LAZY_LOADING") or not shard.get("loaded", True):
                    ready.add((str(node.get("name")), str(shard.get("class")), str(shard.get("name"))))
    return Listed(frozenset(ready), objects)


def unready_shards(listed: Listed, name: str, state: dict[str, Any], _: int) -> list[str]:
    """The first active shards of a collection that a node of theirs does not list as ready: node/collection/shard."""
    physical = state.get("physical")
    shards = sorted((physical if isinstance(physical, dict) else {}).items())
    active = ((shard, of.get("belongsToNodes") or ()) for shard, of in shards if of.get("status", "") in ACTIVE)
    missing = (
        f"{node}/{name}/{shard}" for shard, nodes in active for node in nodes if (node, name, shard) not in listed.ready
    )
    return list(islice(missing, MOST_UNREADY))


def _node(cluster: ClusterView, name: str) -> NodeView:
    node = cluster.node(name)
    if node is None:
        raise Transient("NodeNotReady", f"the pod of Weaviate node {name} is not there")
    return node


async def _call(engine: ServerBackups, command: CallServer, task: ServerTask) -> None:
    spec = task.spec
    match command.verb:
        case ServerVerb.CREATE:
            assert isinstance(spec, BackupSpec)
            await engine.create(task.backup_id, command.collections, spec.config)
        case ServerVerb.CANCEL:
            await engine.cancel(task.backup_id)
        case ServerVerb.RESTORE:
            assert isinstance(spec, RestoreSpec)
            await engine.restore(
                task.backup_id,
                command.collections,
                spec.config,
                node_mapping=spec.node_mapping,
                overwrite_alias=spec.overwrite_alias,
            )
        case ServerVerb.CANCEL_RESTORE:
            await engine.cancel_restore(task.backup_id)
