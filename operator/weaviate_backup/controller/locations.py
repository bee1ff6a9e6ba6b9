"""Tries a location from inside the cluster and says in its status whether it can be used, and what was found.

A store worker does it, since only agents hold a location's credentials: it writes, reads back, lists, sends in parts
and deletes a small object. It is tried when it is new, when its spec changed, when it did not work, and every few
hours. A location has no finalizer: its worker's pod dies with it.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from weaviate_backup import metrics
from weaviate_backup.agent_client import AgentClient, ClientIdentity
from weaviate_backup.api import conditions
from weaviate_backup.api.bounds import status_json
from weaviate_backup.api.location import LocationProbe, LocationSpec, LocationStatus, ProbeFinding
from weaviate_backup.api.names import API_VERSION, LOCATION_KIND
from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.controller import agent_pods, certificates, events
from weaviate_backup.controller.agent_pods import AgentImage, Owner
from weaviate_backup.controller.location_gate import SUPPORTED, missing_secrets
from weaviate_backup.controller.pod_state import agent_address, agent_pod_state
from weaviate_backup.core.orders import STORE_WORKER, AgentPhase
from weaviate_backup.core.session import NodeReport, SessionOrder, Step, StepCommand, StepPhase, StoreOrder
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.kube import LOCATIONS, PODS, SECRETS, AlreadyExists, Kube
from weaviate_backup.settings import OperatorSettings

PROBE_SECONDS = 150
WORKER_LEASE_SECONDS = 60
LISTEN_SECONDS = 20.0
LISTEN_PAUSE_SECONDS = 0.25
RETRY_SECONDS = (5.0, 10.0, 20.0, 60.0, 300.0)
NO_BACKUP = "wvb-probe"
"""A session names a backup; a probe touches none."""
log = logging.getLogger(__name__)


class LocationDriver:
    """The watch over one location."""

    def __init__(self, kube: Kube, settings: OperatorSettings, owner: Owner, *, wake: asyncio.Event) -> None:
        self.name = f"location {owner.namespace}/{owner.name}"
        self.wake = wake
        self._kube = kube
        self._settings = settings
        self._owner = owner
        self._failures = 0

    async def close(self) -> None:
        """A probe cleans up behind itself."""

    async def tick(self) -> float | None:
        body = await self._kube.get(LOCATIONS, self._owner.namespace, self._owner.name)
        if body is None or body["metadata"]["uid"] != self._owner.uid or body["metadata"].get("deletionTimestamp"):
            return None
        spec = LocationSpec.model_validate(body["spec"])
        status = LocationStatus.model_validate(body.get("status") or {})
        generation = int(body["metadata"]["generation"])
        pause = self._pause(spec, status, generation)
        if pause > 0:
            return pause
        probe: LocationProbe | None = None
        try:
            await self._refuse(spec)
            probe = await self._probe(spec)
            reason, message = judge(probe, spec)
        except BackupError as error:
            reason, message = error.reason, error.message
        self._failures = 0 if reason == "Ready" else self._failures + 1
        await self._show(spec, status, probe, generation=generation, reason=reason, message=message)
        return 0.0

    def _pause(self, spec: LocationSpec, status: LocationStatus, generation: int) -> float:
        """Seconds until the next try; 0 or less: now."""
        if status.observed_generation != generation or status.last_probe_time is None:
            return 0.0
        ready = conditions.find(status.conditions, conditions.READY)
        well = ready is not None and ready.status == "True"
        if spec.suspend:
            return float(self._settings.probe_interval_seconds)
        retry = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        interval = self._settings.probe_interval_seconds if well else retry
        due = status.last_probe_time + timedelta(seconds=interval)
        return (due - datetime.now(UTC)).total_seconds()

    async def _refuse(self, spec: LocationSpec) -> None:
        if spec.suspend:
            raise Permanent("LocationSuspended", "spec.suspend is set; the location is not tried")
        if spec.kind not in SUPPORTED:
            raise Permanent("StoreUnsupported", f"{spec.kind} is not supported yet; use {' or '.join(SUPPORTED)}")
        missing = await missing_secrets(self._kube, self._owner.namespace, spec)
        if missing:
            raise Transient(missing[0].reason, "; ".join(refusal.message for refusal in missing))

    async def _probe(self, spec: LocationSpec) -> LocationProbe:
        name = agent_pods.pod_name(self._owner, STORE_WORKER, ())
        made = certificates.issue(
            self._owner.uid, {STORE_WORKER: name}, now=datetime.now(UTC), valid_seconds=PROBE_SECONDS
        )
        await self._remove(name)
        secret = agent_pods.operation_secret(self._owner, made, plan_json=b"{}", cluster_auth=None)
        pod = agent_pods.store_worker_pod(
            self._owner,
            name=name,
            location=spec,
            options=AgentOptions(),
            image=AgentImage(self._settings.agent_image, self._settings.agent_image_pull_policy),
            lease_seconds=WORKER_LEASE_SECONDS,
            deadline_seconds=PROBE_SECONDS * 2,
        )
        try:
            await self._create(secret, pod)
            async with asyncio.timeout(PROBE_SECONDS):
                return await self._ask_worker(name, spec, made.client)
        except TimeoutError as error:
            state = agent_pod_state(await self._kube.get(PODS, self._owner.namespace, name))
            why = f"{state.reason}: {state.message}" if state.reason else state.phase
            message = f"the worker pod {name} did not finish within {PROBE_SECONDS} s ({why})"
            raise Transient("ProbeTimedOut", message) from error
        finally:
            await asyncio.shield(self._remove(name))

    async def _create(self, secret: dict[str, object], pod: dict[str, object]) -> None:
        try:
            await self._kube.create(SECRETS, secret)
            await self._kube.create(PODS, pod)
        except AlreadyExists as error:
            raise Transient("ProbeInTheWay", "the last probe's worker is still ending") from error

    async def _ask_worker(self, name: str, spec: LocationSpec, identity: ClientIdentity) -> LocationProbe:
        tls = await asyncio.to_thread(identity.context)
        expected = certificates.server_name(name, self._owner.uid)
        pod, address = None, None
        while address is None:
            pod = await self._kube.get(PODS, self._owner.namespace, name)
            state = agent_pod_state(pod)
            if state.phase in (AgentPhase.ENDED, AgentPhase.ABSENT):
                raise Transient("ProbeWorkerEnded", f"the worker pod {name} ended: {state.message or 'deleted'}")
            address = agent_address(pod, expected)
            await asyncio.sleep(0.5 if address is None else 0)
        order = SessionOrder(
            operation_uid=self._owner.uid,
            node=STORE_WORKER,
            backup_id=NO_BACKUP,
            location=spec,
            server_version="",
            weaviate=None,
            lease_seconds=WORKER_LEASE_SECONDS,
            work=StoreOrder(),
        )
        async with AgentClient(host=address.host, server_name=expected, tls=tls, port=address.port) as client:
            report = await _patiently(client, order)
            report = await client.take(StepCommand(operation_uid=self._owner.uid, step=Step.PROBE))
            while report.steps[Step.PROBE].phase is StepPhase.RUNNING:
                report = await client.report(after=report.revision, wait_seconds=10.0)
        failure = report.steps[Step.PROBE].failure
        if failure is not None or report.probed is None:
            reason, message = (failure.reason, failure.message) if failure else ("ProbeFailed", "no result")
            raise Transient(reason, message)
        findings = tuple(
            ProbeFinding(action=action, ok=not problem, message=problem[:256])
            for action, problem in report.probed.actions.items()
        )
        return LocationProbe(
            worker=name,
            node=(pod or {}).get("spec", {}).get("nodeName"),
            findings=findings[:16],
            clock_skew_seconds=report.probed.clock_skew_seconds,
        )

    async def _remove(self, name: str) -> None:
        namespace = self._owner.namespace
        pod = await self._kube.get(PODS, namespace, name)
        if pod is not None:
            await self._kube.delete(PODS, namespace, name, uid=pod["metadata"]["uid"])
        await self._kube.delete(SECRETS, namespace, self._owner.secret_name)
        for _ in range(60):
            if pod is None or await self._kube.get(PODS, namespace, name) is None:
                return
            await asyncio.sleep(0.5)

    async def _show(
        self,
        spec: LocationSpec,
        before: LocationStatus,
        probe: LocationProbe | None,
        *,
        generation: int,
        reason: str,
        message: str,
    ) -> None:
        now = datetime.now(UTC)
        well = reason == "Ready"
        made = conditions.ready if well else conditions.stalled
        status = before.model_copy(
            update={
                "observed_generation": generation,
                "conditions": made(before.conditions, reason=reason, message=message, generation=generation, now=now),
                "kind": spec.kind,
                "address": spec.address,
                "last_probe_time": now,
                "probes": (probe,) if probe else (),
            }
        )
        metadata = {"name": self._owner.name, "namespace": self._owner.namespace}
        body = {"apiVersion": API_VERSION, "kind": LOCATION_KIND, "metadata": metadata, "status": status_json(status)}
        await self._kube.apply(LOCATIONS, body, subresource="status")
        metrics.LOCATION_READY.labels(namespace=self._owner.namespace, name=self._owner.name).set(1 if well else 0)
        ready = conditions.find(before.conditions, conditions.READY)
        if ready is None or ready.reason != reason:
            log.info("%s: %s: %s", self.name, reason, message)
            await events.record(self._kube, self._owner, reason=reason, message=message, warning=not well, now=now)


def judge(probe: LocationProbe, spec: LocationSpec) -> tuple[str, str]:
    """`Ready`, or the reason of the first action that failed. A read-only location need not take writes."""
    needed = [finding for finding in probe.findings if not (spec.read_only and finding.action != "list")]
    failed = [finding for finding in needed if not finding.ok]
    if not failed:
        tried = ", ".join(finding.action for finding in probe.findings)
        return "Ready", f"{spec.address} works ({tried})"
    reason, separator, rest = failed[0].message.partition(": ")
    named = bool(separator) and reason.isalnum() and reason[:1].isupper()
    said = "; ".join(f"{finding.action}: {finding.message}" for finding in failed)
    return (reason if named and rest else "ProbeFailed"), said


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
