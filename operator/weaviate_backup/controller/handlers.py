"""The only module that imports kopf: registry, filters, daemons. Handlers hand over at once.

Events are hints: a daemon looks at the world anew on every turn. Finalizers exist only while an operation is active, so
that finished objects and locations can be deleted while the operator is away.
"""

import asyncio
import logging
import socket
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import kopf

from weaviate_backup.api.names import (
    BACKUP_KIND,
    BACKUP_PLURAL,
    FINALIZER,
    GROUP,
    LOCATION_KIND,
    LOCATION_PLURAL,
    RESTORE_KIND,
    RESTORE_PLURAL,
    VERSION,
)
from weaviate_backup.controller.agent_pods import MANAGED_BY, Owner
from weaviate_backup.controller.backups import BackupDriver
from weaviate_backup.controller.driving import drive
from weaviate_backup.controller.locations import LocationDriver
from weaviate_backup.controller.operation_driver import OperationDriver
from weaviate_backup.controller.restores import RestoreDriver
from weaviate_backup.controller.slim_answers import SlimResponse
from weaviate_backup.errors import BackupError
from weaviate_backup.kube import SECRETS, Kube, in_cluster
from weaviate_backup.settings import OperatorSettings

DELETION_SLICE_SECONDS = 30.0
"""A deletion handler works this long, then asks to be called again."""
LIST_CHUNK = 5
"""Objects in one answer of a list: parsed, an object of the largest size that etcd keeps takes some 25 MiB."""
log = logging.getLogger(__name__)


@dataclass
class Operations:
    """What the handlers of one process share: wake-ups by object uid, one driver per object at a time."""

    kube: Kube
    settings: OperatorSettings
    wakes: dict[str, asyncio.Event] = field(default_factory=dict)
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    locations: dict[str, asyncio.Task[bool]] = field(default_factory=dict)
    seen: dict[str, datetime] = field(default_factory=dict)
    sweeps: set[asyncio.Task[None]] = field(default_factory=set)

    def wake(self, uid: str) -> asyncio.Event:
        return self.wakes.setdefault(uid, asyncio.Event())

    def lock(self, uid: str) -> asyncio.Lock:
        return self.locks.setdefault(uid, asyncio.Lock())

    def driver(self, kind: type[OperationDriver], owner: Owner) -> OperationDriver:
        """A deletion is worked on by many, one after the other: each knows since when the first has looked."""
        seen_at = self.seen.setdefault(owner.uid, datetime.now(UTC))
        return kind(self.kube, self.settings, owner, wake=self.wake(owner.uid), seen_at=seen_at)

    def forget(self, uid: str) -> None:
        for known in (self.wakes, self.locks, self.seen):
            known.pop(uid, None)

    def sweep(self, owner: Owner) -> None:
        """After an object that is gone, also past its finalizer, which whoever may write it can take away."""
        task = asyncio.create_task(self._sweep(owner))
        self.sweeps.add(task)
        task.add_done_callback(self.sweeps.discard)

    async def _sweep(self, owner: Owner) -> None:
        """What lay beside the object goes with it; what lies at home, nobody else removes."""
        try:
            async with self.lock(owner.uid):
                await self.kube.delete(SECRETS, self.settings.namespace, owner.client_secret_name)
        except BackupError as error:
            log.warning("Secret %s/%s may stay: %s", self.settings.namespace, owner.client_secret_name, error)
        self.forget(owner.uid)


class NullDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing: we have no change handlers, and no annotation is to stay on anybody's object."""

    def fetch(self, *, body: Any) -> None:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        return None


def make_registry(operations: Operations) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    kopf.on.startup(registry=registry)(_configure)
    for kind, plural, driver in (
        (BACKUP_KIND, BACKUP_PLURAL, BackupDriver),
        (RESTORE_KIND, RESTORE_PLURAL, RestoreDriver),
    ):
        _register_operation(registry, operations, kind, plural, driver)
    _register_locations(registry, operations)

    @kopf.on.event("v1", "pods", labels=MANAGED_BY, registry=registry)
    async def agent_pod_changed(body: kopf.Body, **_: Any) -> None:
        for reference in body["metadata"].get("ownerReferences") or ():
            wake = operations.wakes.get(reference.get("uid"))
            if wake:
                wake.set()

    return registry


async def run_kopf(
    registry: kopf.OperatorRegistry, settings: OperatorSettings, *, stop: threading.Event, ready: asyncio.Event
) -> None:
    await kopf.operator(
        registry=registry,
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        stop_flag=stop,
        ready_flag=ready,
        identity=kopf_identity(),
    )


def kopf_identity() -> Any:
    """The pod's name. kopf's own way asks for the user's name, which a container's uid need not have."""
    return socket.gethostname()


def _register_operation(
    registry: kopf.OperatorRegistry,
    operations: Operations,
    kind: str,
    plural: str,
    driver: type[OperationDriver],
) -> None:
    @kopf.daemon(
        GROUP,
        VERSION,
        plural,
        when=_unfinished,
        registry=registry,
        id=f"{plural}-daemon",
        cancellation_backoff=0.1,
        cancellation_timeout=5,
    )
    async def operate(body: kopf.Body, stopped: kopf.DaemonStopped, **_: Any) -> None:
        owner = _owner(kind, body)
        async with operations.lock(owner.uid):
            driven = operations.driver(driver, owner)
            stop = asyncio.Event()
            watcher = asyncio.create_task(_relay(stopped, stop))
            try:
                done = await drive(driven, stop)
            finally:
                watcher.cancel()
        if done:
            operations.forget(owner.uid)

    @kopf.on.event(GROUP, VERSION, plural, registry=registry, id=f"{plural}-changed")
    async def changed(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002 (kopf's word)
        wake = operations.wakes.get(body["metadata"]["uid"])
        if wake and _spec_asks(body):
            wake.set()
        if type == "DELETED":
            operations.sweep(_owner(kind, body))

    @kopf.on.delete(GROUP, VERSION, plural, when=_unfinished, registry=registry, id=f"{plural}-delete")
    async def deleted(body: kopf.Body, **_: Any) -> None:
        owner = _owner(kind, body)
        stop = asyncio.Event()
        async with operations.lock(owner.uid):
            driven = operations.driver(driver, owner)
            driven.deleting = True
            timer = asyncio.get_running_loop().call_later(DELETION_SLICE_SECONDS, stop.set)
            try:
                done = await drive(driven, stop)
            finally:
                timer.cancel()
        if not done:
            raise kopf.TemporaryError(f"{kind} {owner.name} is letting go", delay=1)
        operations.forget(owner.uid)


def _register_locations(registry: kopf.OperatorRegistry, operations: Operations) -> None:
    @kopf.on.event(GROUP, VERSION, LOCATION_PLURAL, registry=registry, id="locations-changed")
    async def location_changed(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002 (kopf's word)
        owner = _owner(LOCATION_KIND, body)
        task = operations.locations.get(owner.uid)
        if type == "DELETED":
            operations.locations.pop(owner.uid, None)
            if wake := operations.wakes.pop(owner.uid, None):
                wake.set()  # its driver finds that it is gone
        elif task is None or task.done():
            wake = operations.wake(owner.uid)
            driven = LocationDriver(operations.kube, operations.settings, owner, wake=wake)
            operations.locations[owner.uid] = asyncio.create_task(drive(driven, asyncio.Event()))
        elif body["metadata"].get("generation") != (body.get("status") or {}).get("observedGeneration"):
            operations.wake(owner.uid).set()


def _unfinished(body: kopf.Body, **_: Any) -> bool:
    return not (body.get("status") or {}).get("cleanedUp")


def _spec_asks(body: kopf.Body) -> bool:
    """Our own status writes must not wake us."""
    generation = (body.get("status") or {}).get("observedGeneration")
    return bool(body["metadata"].get("deletionTimestamp")) or body["metadata"].get("generation") != generation


async def _relay(stopped: kopf.DaemonStopped, stop: asyncio.Event) -> None:
    await stopped.wait()
    stop.set()


def _owner(kind: str, body: kopf.Body) -> Owner:
    metadata = body["metadata"]
    return Owner(kind=kind, name=metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])


async def _login(**kwargs: Any) -> kopf.AiohttpSession | None:
    found = kopf.login_with_service_account(**kwargs) if in_cluster() else kopf.login_with_kubeconfig(**kwargs)
    if found is None:
        return None
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=found.as_ssl_context()),
        headers=found.as_http_headers(),
        proxy=found.proxy_url,
        trust_env=found.trust_env,
        response_class=SlimResponse,
    )
    return kopf.AiohttpSession(
        aiohttp_session=session,
        server=found.server,
        default_namespace=found.default_namespace,
        priority=found.priority,
        expiration=found.expiration,
    )


def _configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.peering.standalone = True
    settings.posting.level = logging.WARNING
    settings.posting.enabled = False
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 630
    settings.watching.reconnect_backoff = 1
    settings.watching.chunk_size = LIST_CHUNK
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = [1, 2, 3, 5, 5, 5, 5, 5, 5, 5]
    settings.queueing.worker_limit = 500  # a few kilobytes each, as bodies are brief
    settings.queueing.idle_timeout = 0.5  # so nobody who touches objects all the time can hold every place
    settings.execution.default_backoff = 15
    settings.background.cancellation_polling = 10
    settings.scanning.disabled = True  # kinds and namespaces are known: watching for others would take two more rights
    settings.process.ultimate_exiting_timeout = 30
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.persistence.diffbase_storage = NullDiffBase()
    selector = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
    settings.watching.label_selectors["v1", "pods"] = selector
