"""One operation's effects: its agents as seen now, and every command a machine can give, carried out.

Commands are idempotent, so whoever repeats one after a crash does no harm. One that came to nothing is logged and comes
back as a value for the machine: a failed command or, when it was one to a node and refused for good, a trouble there.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from weaviate_backup.agent_client import AgentClient
from weaviate_backup.api.location import SecretKeyReference
from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.controller import agent_pods, certificates, leases, operation_secrets
from weaviate_backup.controller.agent_links import AgentAddress, AgentLinks
from weaviate_backup.controller.agent_pods import AgentImage, Owner
from weaviate_backup.controller.cluster_view import read_cluster
from weaviate_backup.controller.leases import LeaseView
from weaviate_backup.controller.operation_secrets import Memory, Plan
from weaviate_backup.controller.pod_state import agent_address, agent_pod_state, may_end, reduced
from weaviate_backup.core.orders import (
    LEASE_MARGIN_SECONDS,
    STORE_WORKER,
    AcquireLease,
    Command,
    EnsureAgents,
    Lease,
    PlannedBackup,
    PlannedRestore,
    PutSession,
    ReleaseLease,
    RemoveAgents,
    StorePlan,
    TakeStep,
    conflict,
    failure_of,
)
from weaviate_backup.core.session import Failure, NodeReport, SessionOrder
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.store_volume import refuse_volume
from weaviate_backup.core.topology import MOST_REPLICAS, ClusterView
from weaviate_backup.core.verification import signers_of
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.kube import PODS, SECRETS, STATEFUL_SETS, AlreadyExists, Kube
from weaviate_backup.metrics import TICK_FAILURES
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
    removed: bool = False
    """All of it, by this process."""
    troubles: dict[str, Failure] = field(default_factory=dict)
    failed: dict[type, Failure] = field(default_factory=dict)
    """Commands of the last tick that are no node's."""
    notes: dict[str, str] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    links: AgentLinks = field(init=False)
    _tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        silence_seconds = self.settings.agent_lease_seconds + LEASE_MARGIN_SECONDS
        self.links = AgentLinks(self.wake, whose=self.owner.namespace, silence_seconds=silence_seconds)

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
        await self._see_pods()
        ending = any(may_end(pod, datetime.now(UTC), told=self.removed) for pod in self.pods.values())
        self.remains = self.remains or secret is not None or ending
        names = self._names()
        states = {node: agent_pod_state(self.pods.get(name)) for node, name in names.items()}
        addresses: dict[str, AgentAddress] = {}
        for node, name in names.items():
            try:
                found = agent_address(self.pods.get(name), certificates.server_name(name, self.owner.uid))
            except Permanent as error:  # somebody else wrote its status; an agent that nobody reaches is given up
                self.notes[node] = error.message
                continue
            if found:
                addresses[node] = found
        if addresses and self._tls is None and self.memory is not None:
            self._tls = await asyncio.to_thread(self.memory.identity.context)
        if self._tls is not None:
            await self.links.follow(addresses, self._tls)
        troubles, self.troubles = self.troubles, {}
        return Agents(operation_uid=self.owner.uid, pods=states, reports=self.links.reports(), troubles=troubles)

    async def _see_pods(self) -> None:
        """The first of them: they are kept until the next look, and others may make some, too."""

        def keep(pod: Json) -> Json | None:
            return reduced(pod) if self.owner.made(pod) else None

        labels = {"app.kubernetes.io/instance": self.owner.uid}
        listed = await self.kube.pick(PODS, self.owner.namespace, keep, labels=labels, most=MOST_PODS)
        self.pods = {pod["metadata"]["name"]: pod for pod in listed}

    def blind(self, error: Exception) -> tuple[Agents, Failure]:
        """What `look` would tell, when it cannot, and why, which is shown."""
        why = self._judged(error, "look")
        self.notes[""] = why.message
        return Agents(operation_uid=self.owner.uid, pods={}, reports={}, troubles={}), why

    def _judged(self, error: Exception, what: str) -> Failure:
        """The error as a value, once it is in the log; of a bug nothing is told but its kind."""
        where = f"{self.owner.kind} {self.owner.namespace}/{self.owner.name}: {what}"
        if isinstance(error, BackupError):
            failure = failure_of(error)
            log.log(logging.INFO if failure.transient else logging.WARNING, "%s: %s", where, error)
            return failure
        log.error("%s: unexpected failure", where, exc_info=error)
        TICK_FAILURES.labels(reason="Unexpected").inc()
        message = f"{what}: unexpected failure ({type(error).__name__})"
        return Failure(reason="Unexpected", message=message, transient=True)

    async def lease(self, stateful_set: str) -> LeaseView:
        """Of the StatefulSet that was planned for, else of the one that the spec names."""
        try:
            uid = self.plan.stateful_set_uid if self.plan else await self._uid_of(stateful_set)
            return await leases.look(self.kube, self.owner, uid)
        except BackupError as error:
            log.info("%s %s: its lease is not known: %s", self.owner.kind, self.owner.name, error)
            return LeaseView(Lease.UNKNOWN)

    async def discard(self, stateful_set: str) -> None:
        """Lets go of pods, Secrets and Lease, also when the plan cannot be read. What is refused for good stays."""
        for let_go in (self._see_pods, self._remove_agents, partial(self._release, stateful_set)):
            if (refused := await _all(let_go())) is not None:
                self._judged(refused, "let go")

    async def refusals(self) -> tuple[Failure, ...]:
        """What forbids to plan: without a plan of ours, a Secret of our name beside the object is not ours."""
        name = self.owner.secret_name
        if self.memory is not None or await self.kube.version(SECRETS, self.owner.namespace, name) is None:
            return ()
        error = operation_secrets.in_the_way(self.owner)
        return (conflict(error.reason, error.message),)

    async def perform(self, commands: tuple[Command, ...], request: OperationRequest) -> None:
        """All at once: none depends on another."""
        self.notes, self.failed = {}, {}
        await asyncio.gather(*(self._perform(command, request) for command in commands))

    async def _perform(self, command: Command, request: OperationRequest) -> None:
        node = command.node if isinstance(command, PutSession | TakeStep) else ""
        nodes = command.nodes if isinstance(command, EnsureAgents) else ((node,) if node else ())
        try:
            await self._carry_out(command, request)
        except Exception as error:  # noqa: BLE001 (a bug, too, is for the machine to judge)
            failure = self._judged(error, _named(command))
            self.notes.update(dict.fromkeys(nodes or ("",), failure.message))
            if not nodes:
                self.failed[type(command)] = failure
            elif not failure.transient and not (isinstance(command, PutSession) and command.renewed):
                self.troubles.update(dict.fromkeys(nodes, failure))

    async def _carry_out(self, command: Command, request: OperationRequest) -> None:
        log.info("%s %s/%s: %s", self.owner.kind, self.owner.namespace, self.owner.name, _named(command))
        match command:
            case AcquireLease():
                await leases.acquire(self.kube, self.owner, await self._target_uid(request))
            case ReleaseLease():
                await self._release(request.stateful_set)
            case StorePlan(plan=plan):
                await self._store_plan(plan, request)
            case EnsureAgents(nodes=nodes):
                await self._ensure_agents(nodes, request)
            case PutSession(node=node):
                await self._put_session(node, request)
            case TakeStep(node=node, command=step):
                await self._tell(node, lambda client: client.take(step))
            case RemoveAgents():
                await self._remove_agents()
            case _:
                pass

    async def _target_uid(self, request: OperationRequest) -> str:
        """Of the StatefulSet that the spec names, in the object's own namespace: the only one whose lease we take."""
        uid = await self._uid_of(request.stateful_set)
        if self.plan is not None and self.plan.stateful_set_uid != uid:
            raise Permanent("TargetReplaced", f"StatefulSet {request.stateful_set} was made anew since the plan")
        return uid

    async def _uid_of(self, stateful_set: str) -> str:
        found = await self.kube.get(STATEFUL_SETS, self.owner.namespace, stateful_set)
        if found is None:
            message = f"there is no StatefulSet {stateful_set!r} in namespace {self.owner.namespace}"
            raise Transient("TargetNotFound", message)
        return str(found["metadata"]["uid"])

    async def _release(self, stateful_set: str) -> None:
        """A lease of a StatefulSet that is gone is nobody's hindrance."""
        try:
            uid = self.plan.stateful_set_uid if self.plan else await self._uid_of(stateful_set)
        except Transient as error:
            if error.reason != "TargetNotFound":
                raise
        else:
            await leases.release(self.kube, self.owner, uid)

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
        ending = []
        for node in nodes:
            name = self._names()[node]
            existing = self.pods.get(name)
            if existing is None:
                await self._make(name, self._manifest(node, name, cluster, request))
            elif existing["metadata"].get("deletionTimestamp"):  # whoever may write there can keep it, by a finalizer
                ending.append(name)
            else:  # it ended: make room, the next look finds it absent
                await self.kube.delete(PODS, self.owner.namespace, name, uid=existing["metadata"]["uid"])
        if ending:
            raise Transient("PodEnding", f"{', '.join(ending)} ended, and is not gone yet")
        self.wake()

    async def _make(self, name: str, manifest: Json) -> None:
        """Raises `PodInTheWay`."""
        try:
            await self.kube.create(PODS, manifest)
        except AlreadyExists as error:
            found = await self.kube.get(PODS, self.owner.namespace, name)
            if found is None:
                raise Transient("PodEnding", f"{name} was there, and is gone") from error
            if not self.owner.made(found):
                raise agent_pods.in_the_way(self.owner, name) from error

    def _manifest(self, node: str, name: str, cluster: ClusterView | None, request: OperationRequest) -> Json:
        plan = self._known().plan
        refuse_volume(plan.location, self.settings.volumes)
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
        plan, beside = self._known().plan, node != STORE_WORKER
        cluster = await read_cluster(self.kube, self.owner.namespace, request.stateful_set) if beside else None
        order = request.order(node, cluster, plan)
        await self._tell(node, lambda client: client.put_session(order))

    async def _tell(self, node: str, tell: Callable[[AgentClient], Awaitable[NodeReport]]) -> None:
        client = self.links.client(node)
        if client is None:
            raise Transient("AgentUnreachable", f"the agent on {node} has no address")
        report = await tell(client)
        try:
            self.links.learn(node, report)
        except Permanent as error:  # no word of the agent's about what it was told
            log.info("the report of %s is not kept: %s", node, error)

    async def _remove_agents(self) -> None:
        """One that must not be deleted keeps none of the others."""
        removing: list[Awaitable[None]] = [
            self.kube.delete(PODS, self.owner.namespace, name, uid=pod["metadata"]["uid"])
            for name, pod in self.pods.items()
            if not pod["metadata"].get("deletionTimestamp")
        ]
        refused = await _all(*removing, operation_secrets.withdraw(self.kube, self.owner))
        # Last: as long as it is there, whoever looks knows that something of this operation may be.
        await self.kube.delete(SECRETS, self.settings.namespace, self.owner.client_secret_name)
        if refused is not None:
            raise refused
        self.remains, self.removed = False, True


async def _all(*removing: Awaitable[None]) -> Permanent | None:
    """Done, but for what was refused for good: the first of that. Raises `Transient` when one may still be."""
    answers = await asyncio.gather(*removing, return_exceptions=True)
    errors = [each for each in answers if isinstance(each, BaseException)]
    for error in errors:
        if not isinstance(error, Permanent):
            raise error
    return next((each for each in errors if isinstance(each, Permanent)), None)


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
