"""One probe of a location: two worker pods side by side, on two nodes where that is possible, and what they saw.

All workers try the store, then those that wrote look for each other's marks, then all clean up. Nothing is raised: what
kept a worker from its part is its sight.
"""

import asyncio
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from weaviate_backup.agent_client import AgentClient
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.controller import agent_pods, certificates, operation_secrets, pod_events
from weaviate_backup.controller.agent_pods import AgentImage, Owner
from weaviate_backup.controller.certificates import OperationCertificates
from weaviate_backup.controller.driving import Pace
from weaviate_backup.controller.pod_state import agent_address, agent_pod_state
from weaviate_backup.core.location_verdict import Sight
from weaviate_backup.core.orders import PROBING_WORKERS, AgentPhase, failure_of
from weaviate_backup.core.session import (
    Failure,
    NodeReport,
    ProbeAction,
    SessionOrder,
    Step,
    StepCommand,
    StepPhase,
    StepReport,
    StoreOrder,
)
from weaviate_backup.core.store_volume import refuse_volume
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.kube import PODS, AlreadyExists, Kube
from weaviate_backup.settings import OperatorSettings
from weaviate_backup.tasks import to_its_end

PROBE_SECONDS = 150
SECOND_WORKER_SECONDS = 25.0
"""A worker that does not start is waited for so long once another is done."""
NEEDLESS_WORKER_SECONDS = 3.0
"""The same when the one that is done has found enough to refuse the location."""
STUCK_SECONDS = 15.0
"""A pod that does not run by then is asked why; one that only takes its time, to get its image, says nothing."""
WORKER_LEASE_SECONDS = 60
LISTEN_SECONDS = 20.0
LISTEN_PAUSE_SECONDS = 0.25
LOOK_SECONDS = 0.5
Stuck = Callable[[Failure], Awaitable[None]]
"""Told what a pod waits for, as soon as it is clear that it waits."""
log = logging.getLogger(__name__)


async def probe_location(
    kube: Kube, settings: OperatorSettings, owner: Owner, spec: LocationSpec, *, stuck: Stuck
) -> tuple[Sight, ...]:
    """What each worker saw. Raises what keeps pods from being made at all."""
    names = {worker: agent_pods.pod_name(owner, worker, ()) for worker in PROBING_WORKERS}
    made = certificates.issue(owner.uid, names, now=datetime.now(UTC), valid_seconds=PROBE_SECONDS)
    await _make_room(kube, owner, names.values())
    try:
        await _create(kube, settings, owner, spec, names=names, made=made)
        tls = await asyncio.to_thread(made.client.context)
        attempt = f"wvb-probe-{secrets.token_hex(4)}"
        workers = [
            _Worker(kube, owner, spec, node=node, pod=pod, attempt=attempt, tls=tls) for node, pod in names.items()
        ]
        return await _together(workers, spec, stuck)
    finally:
        await to_its_end(_clear(kube, owner, names.values()))


async def _together(workers: list["_Worker"], spec: LocationSpec, stuck: Stuck) -> tuple[Sight, ...]:
    try:
        await _probe_all(workers, stuck)
        writers = [worker for worker in workers if worker.has_written]
        if not spec.read_only and len(writers) == len(workers):
            await asyncio.gather(*(each.meet([peer for peer in writers if peer is not each]) for each in writers))
        await asyncio.gather(*(worker.part() for worker in workers))
    finally:
        await asyncio.gather(*(worker.close() for worker in workers))
    return tuple(worker.sight for worker in workers)


async def _probe_all(workers: list["_Worker"], stuck: Stuck) -> None:
    """Until all are done; once one is, another that has not even started is given up sooner."""
    tasks = {asyncio.create_task(worker.probe(stuck)): worker for worker in workers}
    loop = asyncio.get_running_loop()
    end = soon = loop.time() + PROBE_SECONDS
    pending = set(tasks)
    while pending and loop.time() < soon:
        done, pending = await asyncio.wait(pending, timeout=soon - loop.time(), return_when=asyncio.FIRST_COMPLETED)
        absent = [tasks[task] for task in pending if not tasks[task].started]
        if len(absent) < len(pending):
            soon = end
        elif done:
            works = all(worker.sight.probed is None or not worker.sight.failures for worker in workers)
            soon = min(end, loop.time() + (SECOND_WORKER_SECONDS if works else NEEDLESS_WORKER_SECONDS))
        elif any([await worker.may_start() for worker in absent]):
            soon = min(end, loop.time() + SECOND_WORKER_SECONDS)
    for task in pending:
        task.cancel()
    for task, outcome in zip(tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
        if task in pending:
            await tasks[task].give_up()
        elif isinstance(outcome, BaseException):
            raise outcome


class _Worker:
    """One pod and the conversation with it."""

    def __init__(
        self, kube: Kube, owner: Owner, spec: LocationSpec, *, node: str, pod: str, attempt: str, tls: ssl.SSLContext
    ) -> None:
        self.node = node
        self.sight = Sight(worker=pod)
        self.started = False
        self._kube = kube
        self._owner = owner
        self._spec = spec
        self._attempt = attempt
        self._tls = tls
        self._client: AgentClient | None = None

    @property
    def has_written(self) -> bool:
        probed = self.sight.probed
        return probed is not None and any(
            each.action is ProbeAction.WRITE and each.failure is None for each in probed.tried
        )

    async def probe(self, stuck: Stuck) -> None:
        try:
            self._client = await self._connect(stuck)
            report = await _patiently(self._client, self._order())
            report, failure = await self._take(Step.PROBE)
            if failure is None and report.probed is None:
                failure = Failure(reason="ProbeFailed", message="the worker gave no result", transient=True)
            self._see(probed=report.probed if failure is None else None, failure=failure)
        except BackupError as error:
            self._see(failure=failure_of(error))

    async def meet(self, peers: list["_Worker"]) -> None:
        try:
            _, failure = await self._take(Step.MEET, peers=tuple(peer.node for peer in peers))
            self._see(meeting=failure, met=failure is None)
        except BackupError as error:
            self._see(meeting=failure_of(error))

    async def part(self) -> None:
        """What stays is found by the next probe; it is said only when the store forbids to delete it."""
        if not self.has_written:
            return
        try:
            _, failure = await self._take(Step.RELEASE)
            if failure is not None:
                self._see(parting=failure)
        except BackupError as error:
            log.info("the worker %s was not told to clean up: %s", self.sight.worker, error)

    async def may_start(self) -> bool:
        """It is slow, as with an image that is new to its node; only for volumes its part is worth the wait."""
        waiting = await pod_events.waiting_for(self._kube, self._owner.namespace, self.sight.worker)
        return self._spec.filesystem is not None and waiting is not None and waiting.reason == pod_events.NOT_STARTED

    async def give_up(self) -> None:
        """Say what it hangs on."""
        waiting = await pod_events.waiting_for(self._kube, self._owner.namespace, self.sight.worker)
        late = Failure(
            reason="ProbeTimedOut",
            message=f"the worker {self.sight.worker} started, but was not done within {PROBE_SECONDS} s",
            transient=True,
        )
        self._see(failure=late if self.started or waiting is None else waiting)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _connect(self, stuck: Stuck) -> AgentClient:
        name, loop = self.sight.worker, asyncio.get_running_loop()
        expected = certificates.server_name(name, self._owner.uid)
        look_at = loop.time() + STUCK_SECONDS
        while True:
            pod = await self._kube.get(PODS, self._owner.namespace, name)
            state = agent_pod_state(pod)
            if state.phase in (AgentPhase.ENDED, AgentPhase.ABSENT):
                raise Transient("ProbeWorkerEnded", f"the worker pod {name} ended: {state.message or 'it was deleted'}")
            self._see(node=(pod or {}).get("spec", {}).get("nodeName"))
            address = agent_address(pod, expected)
            if address is not None:
                self.started = True
                return AgentClient(
                    host=address.host,
                    server_name=expected,
                    tls=self._tls,
                    port=address.port,
                    whose=self._owner.namespace,
                )
            if loop.time() > look_at:
                look_at += STUCK_SECONDS
                waiting = await pod_events.waiting_for(self._kube, self._owner.namespace, name)
                if waiting is not None and waiting.reason != pod_events.NOT_STARTED:
                    await stuck(waiting)
            await asyncio.sleep(LOOK_SECONDS)

    async def _take(self, step: Step, *, peers: tuple[str, ...] = ()) -> tuple[NodeReport, Failure | None]:
        """The step, once it has ended."""
        assert self._client is not None
        clock = asyncio.get_running_loop().time
        pace, until = Pace(clock()), clock() + PROBE_SECONDS
        report = await self._client.take(StepCommand(operation_uid=self._owner.uid, step=step, peers=peers))
        while (taken := _taken(report, step)).phase is StepPhase.RUNNING:
            if clock() > until:
                raise Transient("ProbeTimedOut", f"{self.node} did not end its {step} within {PROBE_SECONDS:.0f} s")
            await asyncio.sleep(pace.take(clock()))
            report = await self._client.report(after=report.revision, wait_seconds=10.0)
        return report, taken.failure

    def _order(self) -> SessionOrder:
        return SessionOrder(
            operation_uid=self._owner.uid,
            node=self.node,
            backup_id=self._attempt,
            location=self._spec,
            server_version="",
            weaviate=None,
            lease_seconds=WORKER_LEASE_SECONDS,
            work=StoreOrder(),
        )

    def _see(self, **changes: Any) -> None:
        self.sight = replace(self.sight, **changes)


def _taken(report: NodeReport, step: Step) -> StepReport:
    if step not in report.steps:
        raise Permanent("AgentIncompatible", f"{report.node} was told to {step}, and does not speak of it")
    return report.steps[step]


async def _create(
    kube: Kube,
    settings: OperatorSettings,
    owner: Owner,
    spec: LocationSpec,
    *,
    names: dict[str, str],
    made: OperationCertificates,
) -> None:
    refuse_volume(spec, settings.volumes)
    image = AgentImage(settings.agent_image, settings.agent_image_pull_policy, settings.trusted_store_hosts)
    try:
        await operation_secrets.provide(kube, owner, operation_secrets.mounted_by_agents(made, None))
        for worker, name in names.items():
            pod = agent_pods.store_worker_pod(
                owner,
                name=name,
                worker=worker,
                location=spec,
                options=AgentOptions(),
                image=image,
                lease_seconds=WORKER_LEASE_SECONDS,
                deadline_seconds=PROBE_SECONDS * 2,
            )
            await kube.create(PODS, pod)
    except AlreadyExists as error:
        for name in names.values():
            found = await kube.get(PODS, owner.namespace, name)
            if found is not None and not owner.made(found):
                raise agent_pods.in_the_way(owner, name) from error
        raise Transient("ProbeInTheWay", "the last probe's workers are still ending") from error


async def _remove(kube: Kube, owner: Owner, names: Iterable[str]) -> list[str]:
    """Those whose pods are still there, ending; what somebody else made stays."""
    left = []
    for name in names:
        pod = await kube.get(PODS, owner.namespace, name)
        if pod is not None and owner.made(pod):
            left.append(name)
            await kube.delete(PODS, owner.namespace, name, uid=pod["metadata"]["uid"])
    await operation_secrets.withdraw(kube, owner)
    return left


async def _clear(kube: Kube, owner: Owner, names: Iterable[str]) -> None:
    """What stays, because the API server or this operator goes away, the next probe finds."""
    try:
        await _remove(kube, owner, names)
    except BackupError as error:
        log.info("workers of location %s/%s stay for now: %s", owner.namespace, owner.name, error)


async def _make_room(kube: Kube, owner: Owner, names: Iterable[str]) -> None:
    """What a probe before this one left ends first; one on a node that is gone may never."""
    left = await _remove(kube, owner, names)
    for _ in range(60):
        left = [name for name in left if await kube.get(PODS, owner.namespace, name) is not None]
        if not left:
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _patiently(client: AgentClient, order: SessionOrder) -> NodeReport:
    """A running pod does not listen at once."""
    attempts_left = LISTEN_SECONDS / LISTEN_PAUSE_SECONDS
    while True:
        try:
            return await client.put_session(order)
        except Transient:
            attempts_left -= 1
            if attempts_left <= 0:
                raise
            await asyncio.sleep(LISTEN_PAUSE_SECONDS)
