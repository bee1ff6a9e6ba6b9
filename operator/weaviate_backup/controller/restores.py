"""Drives one WeaviateRestore: look, decide, write the status, carry out the commands. The twin of `backups`."""

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from weaviate_backup import metrics
from weaviate_backup.api.backup import Backup, BackupPhase
from weaviate_backup.api.config import RestoreOption
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.operation_spec import Method
from weaviate_backup.api.reading import check_shapes, read_object
from weaviate_backup.api.restore import Restore, RestorePhase, RestoreStatus
from weaviate_backup.controller import events, leases
from weaviate_backup.controller.backup_status import Sight
from weaviate_backup.controller.cluster_view import ask_weaviate, read_cluster, target_facts, users_enabled
from weaviate_backup.controller.leases import LeaseView
from weaviate_backup.controller.location_gate import read_location, read_secrets
from weaviate_backup.controller.operation_driver import SHOW_SECONDS, OperationDriver, timeout_of
from weaviate_backup.controller.operation_secrets import Plan
from weaviate_backup.controller.operations import Json, OperationRequest
from weaviate_backup.controller.restore_pins import pin_of_spec, pin_of_status, refuse_other_pin
from weaviate_backup.controller.restore_status import remember_restore, show_restore
from weaviate_backup.controller.server_operations import ServerTask, place_of
from weaviate_backup.core.orders import STORE_WORKER, UNPINNED, BackupPin, Lease, PlannedRestore, conflict, failure_of
from weaviate_backup.core.restore_machine import (
    RestoreDecision,
    RestoreRequest,
    RestoreState,
    RestoreWorld,
    decide_restore,
)
from weaviate_backup.core.restore_plan import RestoreWishes, TargetFacts
from weaviate_backup.core.server_following import Recovered, ServerSight
from weaviate_backup.core.server_restore import BY_SERVER
from weaviate_backup.core.session import Failure, RestoreOrder, SessionOrder, StoreOrder
from weaviate_backup.core.signing import refuse_unheld_restore, requires_signature
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.store_volume import refuse_volume
from weaviate_backup.core.topology import ClusterView
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.kube import BACKUPS, RESTORES
from weaviate_backup.settings import OperatorSettings

CURE = "create a new WeaviateRestore"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where the backup is, and what it must be. `location` None: not to be had now, `refusals` say why."""

    location: LocationSpec | None
    backup_id: str
    refusals: tuple[Failure, ...]
    pin: BackupPin = UNPINNED


class RestoreDriver(OperationDriver):
    """The work on one restore."""

    word, resource, plan_type, status_type = "restore", RESTORES, PlannedRestore, RestoreStatus

    async def _turn(self, body: Json) -> float | None:
        restore = read_object(Restore, body, cure=CURE)
        state = remember_restore(restore.status)
        if state.phase is RestorePhase.PENDING:
            check_shapes(restore.spec, cure=CURE)
        effects = _effects(restore, lease_seconds=self._settings.agent_lease_seconds)
        look = partial(
            self._look_before if state.phase is RestorePhase.PENDING else self._look, restore, state, effects
        )
        ending = state.phase is RestorePhase.ABORTING or state.phase.is_terminal
        world = await self._observe(effects, look, RestoreWorld, ending=ending)
        now = datetime.now(UTC)
        request = _request(restore, self._settings, deleting=self.deleting, seen_at=self._runtime.seen_at)
        decision = decide_restore(request, state, world, now, BY_SERVER if _by_server(restore) else None)
        written = await self._show(restore, state, decision, world, now)
        await self._runtime.perform(decision.commands, effects)
        await self._line.perform(decision.commands, self._task(restore))
        pause = decision.look_again_seconds
        return pause if written or pause is None else min(pause, SHOW_SECONDS)

    async def _look(
        self, restore: Restore, state: RestoreState, effects: OperationRequest, agents: Agents
    ) -> RestoreWorld:
        plan, lease = self._plan, await self._runtime.lease(effects.stateful_set)
        inspectors = () if plan is None else (STORE_WORKER,) if _by_server(restore) else plan.nodes
        inspected = bool(inspectors) and all(
            (report := agents.report(node)) is not None and report.inspected is not None for node in inspectors
        )
        asked = state.phase is RestorePhase.VALIDATING and inspected
        return RestoreWorld(
            agents=agents,
            lease=lease.lease,
            lease_holder=lease.holder,
            plan=plan,
            target=await self._ask_target(restore) if asked else None,
            remains=self._runtime.remains,
            failed=self._runtime.failed,
            server=await self._look_at_server(restore, state),
            recovered=await self._look_recovered(restore, state),
        )

    @property
    def _plan(self) -> PlannedRestore | None:
        plan = self._runtime.plan
        assert plan is None or isinstance(plan, PlannedRestore)
        return plan

    async def _look_before(
        self, restore: Restore, _: RestoreState, effects: OperationRequest, agents: Agents
    ) -> RestoreWorld:
        """What stands before a start."""
        source = await self._find_source(restore)
        refusals = [*source.refusals, *await self._runtime.refusals()]
        if source.location is not None and _by_server(restore):
            refusals += refuse_unheld_restore(source.location)
        lease, native, proposal = LeaseView(Lease.UNKNOWN), None, None
        try:
            cluster = await read_cluster(self._kube, self._owner.namespace, effects.stateful_set)
            lease = await leases.look(self._kube, self._owner, cluster.uid)
            server = await ask_weaviate(self._kube, cluster, restore.spec.auth)
            native = server.native_backup
            for node, why in sorted(server.unready.items()):
                message = f"node {node} is not ready: {why}"
                refusals.append(Failure(reason="NodeNotReady", message=message, transient=True))
            if not _by_server(restore):
                cluster.check_agents()
            elif source.location is not None:
                place_of(source.location, cluster, server.modules)
            names = tuple(node.name for node in cluster.nodes)
            if source.location is not None and not refusals:
                proposal = PlannedRestore(
                    nodes=names,
                    applier=server.leader if server.leader in names else names[0],
                    server_version=server.version,
                    started_at=datetime.now(UTC),
                    stateful_set_uid=cluster.uid,
                    backup_id=source.backup_id,
                    location=source.location,
                    pin=source.pin.model_copy(update={"signed": requires_signature(source.location)}),
                )
        except BackupError as error:
            refusals.append(failure_of(error))
        return RestoreWorld(
            agents=agents,
            lease=lease.lease,
            lease_holder=lease.holder,
            native_backup=native,
            refusals=tuple(refusals),
            proposal=proposal,
            plan=self._plan,
            remains=self._runtime.remains,
            failed=self._runtime.failed,
        )

    def _task(self, restore: Restore) -> ServerTask | None:
        """What method Server works with; None before there is a plan, and for the other method."""
        plan, status = self._plan, restore.status
        location = plan.location if plan else status.location
        backup_id = plan.backup_id if plan else status.backup_id
        if not _by_server(restore) or location is None or backup_id is None:
            return None
        return ServerTask(restore.spec, backup_id, location, plan.applier if plan else "")

    async def _look_at_server(self, restore: Restore, state: RestoreState) -> ServerSight | None:
        task = self._task(restore)
        asked = state.phase in (RestorePhase.DOWNLOADING, RestorePhase.APPLYING)
        if task is None or not (asked or (state.phase is RestorePhase.ABORTING and state.server)):
            return None
        return await self._line.look(task, state.server)

    async def _look_recovered(self, restore: Restore, state: RestoreState) -> Recovered | None:
        """Cheap until the shards themselves are to be proven."""
        task, run = self._task(restore), state.server
        asking = state.phase is RestorePhase.DOWNLOADING and run is not None and not run.accepted
        aborting = state.phase is RestorePhase.ABORTING and run is not None
        verifying = state.phase is RestorePhase.VERIFYING
        if task is None or not (asking or aborting or verifying):
            return None
        return await self._line.look_recovered(task, state.collections, with_shards=verifying)

    async def _ask_target(self, restore: Restore) -> TargetFacts | Failure:
        """The target as it is now, or why it cannot be asked."""
        try:
            cluster = await read_cluster(self._kube, self._owner.namespace, restore.spec.target.stateful_set)
            facts = target_facts(cluster, await ask_weaviate(self._kube, cluster, restore.spec.auth))
            if restore.spec.config.users_options is RestoreOption.NO_RESTORE:
                return facts
            return replace(facts, users_enabled=await users_enabled(self._kube, cluster, restore.spec.auth))
        except BackupError as error:
            log.info("%s: the target cannot be asked: %s", self.name, error)
            return failure_of(error)

    async def _find_source(self, restore: Restore) -> Source:
        """A completed WeaviateBackup says itself where it lies; else location and identifier do."""
        source, path = restore.spec.source, restore.spec.config.path
        namespace = self._owner.namespace
        if source.backup_ref is None:
            name = source.location_ref.name if source.location_ref else ""
            volumes = self._settings.volumes
            view = await read_location(self._kube, namespace, name, writing=False, path=path, volumes=volumes)
            return Source(view.spec, source.backup_id or "", view.refusals, pin_of_spec(source))
        body = await self._kube.get(BACKUPS, namespace, source.backup_ref.name)
        if body is None:
            message = f"there is no WeaviateBackup {source.backup_ref.name!r} in namespace {namespace}"
            return Source(None, "", (Failure(reason="BackupNotFound", message=message, transient=True),))
        backup = read_object(Backup, body, where=f"backup {source.backup_ref.name}", cure=CURE)
        status = backup.status
        try:
            if status.location is not None:
                refuse_volume(status.location, self._settings.volumes)
        except Permanent as error:
            message = f"WeaviateBackup {source.backup_ref.name}: {error.message}"
            return Source(None, "", (conflict(error.reason, message),))
        if status.phase is not BackupPhase.COMPLETED or status.location is None or status.backup_id is None:
            passing = not status.phase.is_terminal
            message = f"WeaviateBackup {source.backup_ref.name} is {status.phase}, not Completed"
            return Source(None, "", (Failure(reason="BackupNotCompleted", message=message, transient=passing),))
        secrets = await read_secrets(self._kube, namespace, status.location)
        pin = pin_of_status(source.backup_ref.name, status)
        location = status.location if pin.sha256 else await self._verified_as_now(backup, status.location)
        differing = refuse_other_pin(pin, source)
        return Source(location, status.backup_id, (*differing, *secrets.missing), pin)

    async def _verified_as_now(self, backup: Backup, then: LocationSpec) -> LocationSpec:
        """A backup that its status does not pin is held to the signatures that its location asks for by now."""
        name = backup.spec.location_ref.name
        view = await read_location(self._kube, self._owner.namespace, name, writing=False, path=None, volumes=None)
        return then if view.spec is None else then.model_copy(update={"verify": view.spec.verify})

    async def _show(
        self, restore: Restore, before: RestoreState, decision: RestoreDecision, world: RestoreWorld, now: datetime
    ) -> bool:
        """Whether the status is as it should be now; progress alone may wait for the next second."""
        show = partial(show_restore, restore, decision.state, now=now)
        found = world.recovered.objects if world.recovered else None
        seen = Sight(reports=world.agents.reports, server=world.server, objects=found)
        if not await self._write(restore.status, show, world.agents, seen, remembered=decision.state != before):
            return False
        if decision.state.phase is not before.phase:
            await self._announce(restore, decision.state, now)
        return True

    async def _announce(self, restore: Restore, state: RestoreState, now: datetime) -> None:
        phase = state.phase
        failed = phase in (RestorePhase.ABORTING, RestorePhase.FAILED)
        reason = state.reason if failed and state.reason else str(phase)
        message = state.message or f"the restore is {phase}"
        log.info("%s: %s%s", self.name, phase, f" ({state.reason}: {state.message})" if state.reason else "")
        await events.record(self._kube, self._owner, reason=reason, message=message, warning=failed, now=now)
        if not phase.is_terminal:
            return
        metrics.OPERATIONS.labels(kind="restore", phase=str(phase), reason=state.reason or str(phase)).inc()
        if restore.status.start_time:
            elapsed = (now - restore.status.start_time).total_seconds()
            metrics.DURATION.labels(kind="restore", phase=str(phase)).observe(elapsed)
        if phase is RestorePhase.COMPLETED and not restore.spec.dry_run:
            target = restore.spec.target.stateful_set
            last = metrics.LAST_SUCCESS.labels(kind="restore", namespace=self._owner.namespace, stateful_set=target)
            last.set(now.timestamp())


def _by_server(restore: Restore) -> bool:
    return restore.spec.method is Method.SERVER


def _request(restore: Restore, settings: OperatorSettings, *, deleting: bool, seen_at: datetime) -> RestoreRequest:
    spec = restore.spec
    return RestoreRequest(
        uid=restore.metadata["uid"],
        created_at=datetime.fromisoformat(restore.metadata["creationTimestamp"]),
        timeout_seconds=timeout_of(spec),
        seen_at=seen_at,
        wishes=RestoreWishes(
            include=spec.include,
            exclude=spec.exclude,
            node_mapping=spec.node_mapping,
            overwrite_alias=spec.overwrite_alias,
            by_server=_by_server(restore),
            roles=spec.config.roles_options is RestoreOption.ALL,
            users=spec.config.users_options is RestoreOption.ALL,
            module_addresses=spec.config.module_addresses,
        ),
        lease_seconds=settings.agent_lease_seconds,
        cancel=spec.cancel,
        deleting=deleting,
        dry_run=spec.dry_run,
    )


def _effects(restore: Restore, *, lease_seconds: int) -> OperationRequest:
    spec = restore.spec
    mapping = spec.node_mapping
    sources = {target: source for source, target in mapping.items()}

    def order(node: str, cluster: ClusterView | None, plan: Plan) -> SessionOrder:
        assert isinstance(plan, PlannedRestore)
        endpoint = cluster.endpoint(node) if cluster else None
        if endpoint is None and node != STORE_WORKER:
            raise Transient("NodeNotReady", f"the pod of Weaviate node {node} is not there")
        own = None if node in mapping else node  # its data goes elsewhere
        return SessionOrder(
            operation_uid=restore.metadata["uid"],
            node=node,
            backup_id=plan.backup_id,
            location=plan.location,
            server_version=plan.server_version,
            weaviate=endpoint,
            cpu_percentage=spec.config.cpu_percentage,
            lease_seconds=lease_seconds,
            work=StoreOrder()
            if node == STORE_WORKER
            else RestoreOrder(
                source_node=sources.get(node, own),
                node_mapping=mapping,
                roles=spec.config.roles_options is RestoreOption.ALL,
                users=spec.config.users_options is RestoreOption.ALL,
            ),
        )

    return OperationRequest(
        stateful_set=spec.target.stateful_set,
        options=spec.agent,
        timeout_seconds=timeout_of(spec),
        order=order,
    )
