"""One operation's effects: its agents as seen now, and every command a machine can give, carried out.

Commands are idempotent, so whoever repeats one after a crash does no harm. What may pass is logged and found again by
the next look; what was refused for good comes back as a trouble of that node, for the machine to judge.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from weaviate_backup.api.location import SecretKeyReference
from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.controller import agent_pods, certificates, leases, operation_secrets
from weaviate_backup.controller.agent_links import AgentAddress, AgentLinks
from weaviate_backup.controller.agent_pods import AgentImage, Owner
from weaviate_backup.controller.cluster_view import read_cluster
from weaviate_backup.controller.operation_secrets import Memory, Plan
from weaviate_backup.controller.pod_state import agent_address, agent_pod_state, reduced
from weaviate_backup.core.orders import (
    STORE_WORKER,
    AcquireLease,
    Command,
    EnsureAgents,
    PlannedBackup,
    PlannedRestore,
    PutSession,
    ReleaseLease,
    RemoveAgents,
    StorePlan,
    TakeStep,
    conflict,
)
from weaviate_backup.core.session import Failure, SessionOrder
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.store_volume import refuse_volume
from weaviate_backup.core.topology import MOST_REPLICAS, ClusterView
from weaviate_backup.core.verification import signers_of
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.kube import PODS, SECRETS, STATEFUL_SETS, AlreadyExists, Kube
from weaviate_backup.settings import OperatorSettings

DEADLINE_SLACK_SECONDS = 1800
"""An agent's pod ends by itself this long after its operation's timeout, should the operator be gone."""
MOST_PODS = 2 * MOST_REPLICAS
"""Of an operation that are seen at a look; it makes one for each of Weaviate's, and one more."""
Json = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OperationRequest:
    """What the effects need of the spec. `order`: what an agent is told, by node."""

    stateful_set: str
    options: AgentOptions
    timeout_seconds: float
    order: Callable[[str, ClusterView | None, Plan], SessionOrder]


@dataclass
class OperationRuntime:
    """Lives as long as the daemon of one object; holds connections and what was read once, nothing that is needed."""

    kube: Kube
    settings: OperatorSettings
    owner: Owner
    wake: Callable[[], None]
    plan_type: type[PlannedBackup] | type[PlannedRestore]
    seen_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    memory: Memory | None = field(default=None, repr=False)
    remains: bool = False
    troubles: dict[str, Failure] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    links: AgentLinks = field(init=False)
    _tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.links = AgentLinks(self.wake, whose=self.owner.namespace)

    async def close(self) -> None:
        await self.links.close()

    @property
    def plan(self) -> Plan | None:
        return self.memory.plan if self.memory else None

    async def look(self, request: OperationRequest) -> Agents:
        """Plan, pods and reports as they are now."""
        secret = None
        if self.memory is None or self.remains:
            secret = await self._read_secret()
        if self.memory is None and secret is not None:
            self.memory = self._remembered(secret, request)
        self.pods = await self._own_pods()
        self.remains = self.remains or bool(self.pods) or secret is not None
        names = self._names()
        states = {node: agent_pod_state(self.pods.get(name)) for node, name in names.items()}
        addresses: dict[str, AgentAddress] = {}
        for node, name in names.items():
            found = agent_address(self.pods.get(name), certificates.server_name(name, self.owner.uid))
            if found:
                addresses[node] = found
        if addresses and self._tls is None and self.memory is not None:
            self._tls = await asyncio.to_thread(self.memory.identity.context)
        if self._tls is not None:
            await self.links.follow(addresses, self._tls)
        troubles, self.troubles = self.troubles, {}
        return Agents(operation_uid=self.owner.uid, pods=states, reports=self.links.reports(), troubles=troubles)

    async def _own_pods(self) -> dict[str, Json]:
        """The first of them: they are kept until the next look, and others may make some, too."""

        def keep(pod: Json) -> Json | None:
            return reduced(pod) if _owned(pod, self.owner.uid) else None

        labels = {"app.kubernetes.io/instance": self.owner.uid}
        listed = await self.kube.pick(PODS, self.owner.namespace, keep, labels=labels, most=MOST_PODS)
        return {pod["metadata"]["name"]: pod for pod in listed}

    async def discard(self) -> None:
        """Lets go of pods and Secrets, also when the plan cannot be read."""
        self.pods = await self._own_pods()
        await self._remove_agents()

    async def refusals(self) -> tuple[Failure, ...]:
        """What forbids to plan: without a plan of ours, a Secret of our name beside the object is not ours."""
        if self.memory is not None:
            return ()
        if await self.kube.version(SECRETS, self.owner.namespace, self.owner.secret_name) is None:
            return ()
        error = operation_secrets.in_the_way(self.owner)
        return (conflict(error.reason, error.message),)

    async def perform(self, commands: tuple[Command, ...], request: OperationRequest) -> None:
        """All at once: none depends on another."""
        self.notes = {}
        await asyncio.gather(*(self._perform(command, request) for command in commands))

    async def _perform(self, command: Command, request: OperationRequest) -> None:
        node = command.node if isinstance(command, PutSession | TakeStep) else ""
        nodes = command.nodes if isinstance(command, EnsureAgents) else ((node,) if node else ())
        try:
            await self._carry_out(command, request)
        except Transient as error:
            log.info("%s %s: %s: %s", self.owner.kind, self.owner.name, _named(command), error)
            self.notes.update(dict.fromkeys(nodes, error.message) if nodes else {"": error.message})
        except Permanent as error:
            log.warning("%s %s: %s: %s", self.owner.kind, self.owner.name, _named(command), error)
            failure = Failure(reason=error.reason, message=error.message, transient=False)
            self.troubles.update(dict.fromkeys(nodes, failure))

    async def _carry_out(self, command: Command, request: OperationRequest) -> None:
        log.info("%s %s/%s: %s", self.owner.kind, self.owner.namespace, self.owner.name, _named(command))
        match command:
            case AcquireLease():
                await leases.acquire(self.kube, self.owner, await self._target_uid(request))
            case ReleaseLease():
                planned = self.plan.stateful_set_uid if self.plan else await self._target_uid(request)
                await leases.release(self.kube, self.owner, planned)
            case StorePlan(plan=plan):
                await self._store_plan(plan, request)
            case EnsureAgents(nodes=nodes):
                await self._ensure_agents(nodes, request)
            case PutSession(node=node):
                await self._put_session(node, request)
            case TakeStep(node=node, command=step):
                client = self.links.client(node)
                if client is None:
                    raise Transient("AgentUnreachable", f"the agent on {node} has no address")
                self.links.learn(node, await client.take(step))
            case RemoveAgents():
                await self._remove_agents()
            case _:
                pass

    async def _target_uid(self, request: OperationRequest) -> str:
        """Of the StatefulSet that the spec names, in the object's own namespace: the only one whose lease we take."""
        found = await self.kube.get(STATEFUL_SETS, self.owner.namespace, request.stateful_set)
        if found is None:
            message = f"there is no StatefulSet {request.stateful_set!r} in namespace {self.owner.namespace}"
            raise Transient("TargetNotFound", message)
        uid = str(found["metadata"]["uid"])
        if self.plan is not None and self.plan.stateful_set_uid != uid:
            raise Permanent("TargetReplaced", f"StatefulSet {request.stateful_set} was made anew since the plan")
        return uid

    def _names(self) -> dict[str, str]:
        """Agent pods by node, as planned."""
        if self.plan is None:
            return {}
        nodes = self.plan.nodes
        return {node: agent_pods.pod_name(self.owner, node, nodes) for node in (*nodes, STORE_WORKER)}

    async def _read_secret(self) -> Json | None:
        return await self.kube.get(SECRETS, self.settings.namespace, self.owner.client_secret_name)

    def _remembered(self, secret: Json, request: OperationRequest) -> Memory | None:
        return operation_secrets.remembered(
            secret, self.owner, stateful_set=request.stateful_set, plan_type=self.plan_type
        )

    def _known(self) -> Memory:
        if self.memory is None:
            raise Permanent("PlanLost", f"there is no plan of this operation in namespace {self.settings.namespace}")
        return self.memory

    async def _store_plan(self, plan: Plan, request: OperationRequest) -> None:
        """All that is remembered, in one Secret: once it is there it stays."""
        names = {node: agent_pods.pod_name(self.owner, node, plan.nodes) for node in (*plan.nodes, STORE_WORKER)}
        cluster = await read_cluster(self.kube, self.owner.namespace, request.stateful_set)
        made = certificates.issue(
            self.owner.uid,
            names,
            now=datetime.now(UTC),
            valid_seconds=request.timeout_seconds + DEADLINE_SLACK_SECONDS,
        )
        secret = operation_secrets.memory_secret(
            self.owner,
            made,
            plan,
            stateful_set=request.stateful_set,
            mounted=operation_secrets.mounted_by_agents(made, cluster.cluster_auth),
            namespace=self.settings.namespace,
        )
        try:
            await self.kube.create(SECRETS, secret)
        except AlreadyExists as error:
            found = await self._read_secret()
            if found is not None and self._remembered(found, request) is None:
                uid = found["metadata"]["uid"]
                await self.kube.delete(SECRETS, self.settings.namespace, self.owner.client_secret_name, uid=uid)
                raise Transient("PlanInTheWay", "a plan that is not this operation's was removed") from error

    async def _ensure_agents(self, nodes: tuple[str, ...], request: OperationRequest) -> None:
        await operation_secrets.provide(self.kube, self.owner, self._known().mounted)
        beside = [node for node in nodes if node != STORE_WORKER]
        cluster = await read_cluster(self.kube, self.owner.namespace, request.stateful_set) if beside else None
        for node in nodes:
            name = self._names()[node]
            existing = self.pods.get(name)
            if existing is not None:  # it ended: make room, the next look finds it absent
                await self.kube.delete(PODS, self.owner.namespace, name, uid=existing["metadata"]["uid"])
                continue
            manifest = self._manifest(node, name, cluster, request)
            try:
                await self.kube.create(PODS, manifest)
            except AlreadyExists:
                log.debug("agent pod %s is there", name)
        self.wake()

    def _manifest(self, node: str, name: str, cluster: ClusterView | None, request: OperationRequest) -> Json:
        plan = self._known().plan
        refuse_volume(plan.location, allow_host_path=self.settings.allow_host_path_volumes)
        told = self.settings
        image = AgentImage(told.agent_image, told.agent_image_pull_policy, told.trusted_store_hosts)
        lease = self.settings.agent_lease_seconds
        deadline = int(request.timeout_seconds + timedelta(seconds=DEADLINE_SLACK_SECONDS).total_seconds())
        signing = self._signing_key_of(node)
        if node == STORE_WORKER:
            return agent_pods.store_worker_pod(
                self.owner,
                name=name,
                location=plan.location,
                options=request.options,
                image=image,
                lease_seconds=lease,
                deadline_seconds=deadline,
                signing=signing,
            )
        view = cluster.node(node) if cluster else None
        if cluster is None or view is None:
            raise Transient("NodeNotReady", f"the pod of Weaviate node {node} is not there")
        if view.obstacle is not None:
            raise view.obstacle
        return agent_pods.agent_pod(
            self.owner,
            node=view,
            name=name,
            data_path=cluster.data_path,
            cluster_auth=cluster.cluster_auth,
            location=plan.location,
            options=request.options,
            image=image,
            lease_seconds=lease,
            deadline_seconds=deadline,
            signing=signing,
        )

    def _signing_key_of(self, node: str) -> SecretKeyReference | None:
        """Where the key lies that the pod is to have; None for all that complete no backup."""
        plan = self.plan
        if not isinstance(plan, PlannedBackup) or plan.location.signing is None or node not in signers_of(plan):
            return None
        return plan.location.signing.key_secret_ref

    async def _put_session(self, node: str, request: OperationRequest) -> None:
        plan = self._known().plan
        client = self.links.client(node)
        if client is None:
            raise Transient("AgentUnreachable", f"the agent on {node} has no address")
        cluster = None
        if node != STORE_WORKER:
            cluster = await read_cluster(self.kube, self.owner.namespace, request.stateful_set)
        self.links.learn(node, await client.put_session(request.order(node, cluster, plan)))

    async def _remove_agents(self) -> None:
        for name, pod in self.pods.items():
            await self.kube.delete(PODS, self.owner.namespace, name, uid=pod["metadata"]["uid"])
        await operation_secrets.withdraw(self.kube, self.owner)
        # Last: as long as it is there, whoever looks knows that something of this operation may be.
        await self.kube.delete(SECRETS, self.settings.namespace, self.owner.client_secret_name)
        labels = {"app.kubernetes.io/instance": self.owner.uid}
        self.remains = bool(await self.kube.pick(PODS, self.owner.namespace, lambda _: True, labels=labels, most=1))


def _owned(pod: Json, uid: str) -> bool:
    return any(reference.get("uid") == uid for reference in pod["metadata"].get("ownerReferences") or ())


def _named(command: Command) -> str:
    match command:
        case TakeStep(node=node, command=step):
            return f"{step.step} on {node}" + (f" of {step.verify_node}" if step.verify_node else "")
        case PutSession(node=node):
            return f"session for {node}"
        case EnsureAgents(nodes=nodes):
            return f"agents for {', '.join(nodes)}"
        case _:
            return type(command).__name__
