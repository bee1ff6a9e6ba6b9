"""One operation's effects: its agents as seen now, and every command a machine can give, carried out.

Commands are idempotent, so whoever repeats one after a crash does no harm. What may pass is logged and found again by
the next look; what was refused for good comes back as a trouble of that node, for the machine to judge.
"""

import asyncio
import base64
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from weaviate_backup.agent_client import ClientIdentity
from weaviate_backup.api.location import SecretKeyReference
from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.controller import agent_pods, certificates, leases
from weaviate_backup.controller.agent_links import AgentAddress, AgentLinks
from weaviate_backup.controller.agent_pods import PLAN_KEY, AgentImage, Owner
from weaviate_backup.controller.cluster_view import read_cluster
from weaviate_backup.controller.pod_state import agent_address, agent_pod_state
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
)
from weaviate_backup.core.session import Failure, SessionOrder
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.topology import ClusterView
from weaviate_backup.core.verification import signers_of
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.kube import PODS, SECRETS, AlreadyExists, Kube
from weaviate_backup.settings import OperatorSettings

DEADLINE_SLACK_SECONDS = 1800
"""An agent's pod ends by itself this long after its operation's timeout, should the operator be gone."""
Plan = PlannedBackup | PlannedRestore
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
    plan: Plan | None = None
    remains: bool = False
    troubles: dict[str, Failure] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    links: AgentLinks = field(init=False)
    _tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.links = AgentLinks(self.wake)

    async def close(self) -> None:
        await self.links.close()

    async def look(self) -> Agents:
        """Plan, pods and reports as they are now."""
        secret = None
        if self.plan is None or self.remains:
            secret = await self.kube.get(SECRETS, self.owner.namespace, self.owner.secret_name)
        if self.plan is None and secret is not None:
            self.plan = self.plan_type.model_validate_json(base64.b64decode(secret["data"][PLAN_KEY]))
        listed = await self.kube.list(PODS, self.owner.namespace, labels={"app.kubernetes.io/instance": self.owner.uid})
        self.pods = {pod["metadata"]["name"]: pod for pod in listed if _owned(pod, self.owner.uid)}
        self.remains = self.remains or bool(self.pods) or secret is not None
        names = self._names()
        states = {node: agent_pod_state(self.pods.get(name)) for node, name in names.items()}
        addresses: dict[str, AgentAddress] = {}
        for node, name in names.items():
            found = agent_address(self.pods.get(name), certificates.server_name(name, self.owner.uid))
            if found:
                addresses[node] = found
        if addresses and self._tls is None:
            self._tls = await self._read_identity()
        if self._tls is not None:
            await self.links.follow(addresses, self._tls)
        troubles, self.troubles = self.troubles, {}
        return Agents(operation_uid=self.owner.uid, pods=states, reports=self.links.reports(), troubles=troubles)

    async def gone(self) -> bool:
        """Nothing of this operation is left in the API server; asked when a terminal phase cleans up."""
        secret = await self.kube.get(SECRETS, self.owner.namespace, self.owner.secret_name)
        return secret is None and not self.pods

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
                await leases.acquire(self.kube, self.owner, await self.stateful_set_uid(request))
            case ReleaseLease():
                await leases.release(self.kube, self.owner, await self.stateful_set_uid(request))
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

    async def stateful_set_uid(self, request: OperationRequest) -> str:
        if self.plan is not None:
            return self.plan.stateful_set_uid
        return (await read_cluster(self.kube, self.owner.namespace, request.stateful_set)).uid

    def _names(self) -> dict[str, str]:
        """Agent pods by node, as planned."""
        if self.plan is None:
            return {}
        nodes = self.plan.nodes
        return {node: agent_pods.pod_name(self.owner, node, nodes) for node in (*nodes, STORE_WORKER)}

    async def _read_identity(self) -> ssl.SSLContext:
        secret = await self.kube.get(SECRETS, self.settings.namespace, self.owner.client_secret_name)
        if secret is None:
            raise Permanent("ClientCertificateLost", f"Secret {self.owner.client_secret_name} was deleted")
        data = {key: base64.b64decode(value) for key, value in secret["data"].items()}
        identity = ClientIdentity(ca_pem=data["ca.crt"], certificate_pem=data["tls.crt"], key_pem=data["tls.key"])
        return await asyncio.to_thread(identity.context)

    async def _store_plan(self, plan: Plan, request: OperationRequest) -> None:
        """The client's Secret first: once the agents' one is there, both belong together and stay."""
        names = {node: agent_pods.pod_name(self.owner, node, plan.nodes) for node in (*plan.nodes, STORE_WORKER)}
        cluster = await read_cluster(self.kube, self.owner.namespace, request.stateful_set)
        made = certificates.issue(
            self.owner.uid,
            names,
            now=datetime.now(UTC),
            valid_seconds=request.timeout_seconds + DEADLINE_SLACK_SECONDS,
        )
        await self.kube.apply(SECRETS, agent_pods.client_secret(self.owner, made, namespace=self.settings.namespace))
        secret = agent_pods.operation_secret(
            self.owner,
            made,
            plan_json=plan.model_dump_json(by_alias=True).encode(),
            cluster_auth=cluster.cluster_auth,
        )
        try:
            await self.kube.create(SECRETS, secret)
        except AlreadyExists as error:
            raise Permanent("SecretInTheWay", error.message) from error

    async def _ensure_agents(self, nodes: tuple[str, ...], request: OperationRequest) -> None:
        assert self.plan is not None
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
        assert self.plan is not None
        told = self.settings
        image = AgentImage(told.agent_image, told.agent_image_pull_policy, told.trusted_store_hosts)
        lease = self.settings.agent_lease_seconds
        deadline = int(request.timeout_seconds + timedelta(seconds=DEADLINE_SLACK_SECONDS).total_seconds())
        signing = self._signing_key_of(node)
        if node == STORE_WORKER:
            return agent_pods.store_worker_pod(
                self.owner,
                name=name,
                location=self.plan.location,
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
            location=self.plan.location,
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
        assert self.plan is not None
        client = self.links.client(node)
        if client is None:
            raise Transient("AgentUnreachable", f"the agent on {node} has no address")
        cluster = None
        if node != STORE_WORKER:
            cluster = await read_cluster(self.kube, self.owner.namespace, request.stateful_set)
        self.links.learn(node, await client.put_session(request.order(node, cluster, self.plan)))

    async def _remove_agents(self) -> None:
        for name, pod in self.pods.items():
            await self.kube.delete(PODS, self.owner.namespace, name, uid=pod["metadata"]["uid"])
        await self.kube.delete(SECRETS, self.settings.namespace, self.owner.client_secret_name)
        await self.kube.delete(SECRETS, self.owner.namespace, self.owner.secret_name)
        self.remains = await self._anything_left()

    async def _anything_left(self) -> bool:
        labels = {"app.kubernetes.io/instance": self.owner.uid}
        return bool(await self.kube.list(PODS, self.owner.namespace, labels=labels))


def troubles_of(error: BackupError, nodes: tuple[str, ...]) -> Mapping[str, Failure]:
    failure = Failure(reason=error.reason, message=error.message, transient=isinstance(error, Transient))
    return dict.fromkeys(nodes, failure)


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
