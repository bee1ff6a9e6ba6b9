"""Drives one WeaviateBackup: look, decide, write the status, carry out the commands.

The status is written before the commands are carried out, and only when it differs; progress alone at most once a
second. All memory is in the status and, for the plan, in the operation's Secret.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from weaviate_backup import metrics
from weaviate_backup.api.backup import Backup, BackupPhase, BackupStatus, DeletionPolicy
from weaviate_backup.api.operation_spec import Method
from weaviate_backup.api.reading import check_shapes, read_object
from weaviate_backup.controller import events, leases
from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.controller.backup_status import Sight, remember_backup, show_backup
from weaviate_backup.controller.cluster_view import ask_weaviate, in_schema, read_cluster
from weaviate_backup.controller.leases import LeaseView
from weaviate_backup.controller.location_gate import read_location
from weaviate_backup.controller.operation_driver import SHOW_SECONDS, OperationDriver, timeout_of
from weaviate_backup.controller.operation_secrets import Plan
from weaviate_backup.controller.operations import Json, OperationRequest
from weaviate_backup.controller.server_operations import ServerTask, place_of
from weaviate_backup.core.backup_machine import (
    BackupDecision,
    BackupRequest,
    BackupState,
    BackupWorld,
    decide_backup,
)
from weaviate_backup.core.orders import STORE_WORKER, Lease, PlannedBackup, conflict, failure_of
from weaviate_backup.core.selection import select
from weaviate_backup.core.server_backup import BY_SERVER
from weaviate_backup.core.server_following import ServerSight
from weaviate_backup.core.server_gaps import gaps_of, open_gaps, refuse_level
from weaviate_backup.core.session import BackupOrder, Claimant, Failure, SessionOrder, StoreOrder
from weaviate_backup.core.signing import refuse_unsigned_backup, warn_of_unsigned
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.topology import ClusterView
from weaviate_backup.errors import BackupError, Transient
from weaviate_backup.kube import BACKUPS
from weaviate_backup.layout.json_bounds import MIB
from weaviate_backup.settings import OperatorSettings

CURE = "create a new WeaviateBackup"
log = logging.getLogger(__name__)


class BackupDriver(OperationDriver):
    """The work on one backup."""

    word, resource, plan_type, status_type = "backup", BACKUPS, PlannedBackup, BackupStatus

    async def _turn(self, body: Json) -> float | None:
        backup = read_object(Backup, body, cure=CURE)
        state = remember_backup(backup.status)
        if state.phase is BackupPhase.PENDING:
            check_shapes(backup.spec, cure=CURE)
        effects = _effects(backup, self._settings)
        look = partial(self._look_before if state.phase is BackupPhase.PENDING else self._look, backup, state, effects)
        ending = state.phase is BackupPhase.ABORTING or state.phase.is_terminal
        world = await self._observe(effects, look, BackupWorld, ending=ending)
        now = datetime.now(UTC)
        request = _request(backup, self._settings, deleting=self.deleting, seen_at=self._runtime.seen_at)
        decision = decide_backup(request, state, world, now, BY_SERVER if _by_server(backup) else None)
        written = await self._show(backup, state, decision, world, now)
        await self._runtime.perform(decision.commands, effects)
        await self._line.perform(decision.commands, self._task(backup))
        pause = decision.look_again_seconds
        return pause if written or pause is None else min(pause, SHOW_SECONDS)

    async def _look(self, backup: Backup, state: BackupState, effects: OperationRequest, agents: Agents) -> BackupWorld:
        lease = await self._runtime.lease(effects.stateful_set)
        return BackupWorld(
            agents=agents,
            lease=lease.lease,
            lease_holder=lease.holder,
            plan=self._plan,
            remains=self._runtime.remains,
            failed=self._runtime.failed,
            server=await self._look_at_server(backup, state),
        )

    @property
    def _plan(self) -> PlannedBackup | None:
        plan = self._runtime.plan
        assert plan is None or isinstance(plan, PlannedBackup)
        return plan

    async def _look_before(
        self, backup: Backup, _: BackupState, effects: OperationRequest, agents: Agents
    ) -> BackupWorld:
        """What stands before a start."""
        refusals: list[Failure] = []
        lease, native, proposal = LeaseView(Lease.UNKNOWN), None, None
        spec = backup.spec
        location = await read_location(
            self._kube,
            self._owner.namespace,
            spec.location_ref.name,
            writing=True,
            path=spec.config.path,
            volumes=self._settings.volumes,
        )
        refusals += (*location.refusals, *await self._runtime.refusals())
        if location.spec is not None:
            refusals += refuse_unsigned_backup(location.spec, by_server=_by_server(backup))
        if spec.deletion_policy is DeletionPolicy.DELETE:
            message = "deletionPolicy Delete is not available; use Retain, and delete the objects in the store yourself"
            refusals.append(conflict("DeletionPolicyUnsupported", message))
        try:
            cluster = await read_cluster(self._kube, self._owner.namespace, effects.stateful_set)
            lease = await leases.look(self._kube, self._owner, cluster.uid)
            server = await ask_weaviate(self._kube, cluster, spec.auth)
            native = server.native_backup
            for node, why in sorted(server.unready.items()):
                message = f"node {node} is not ready: {why}"
                refusals.append(Failure(reason="NodeNotReady", message=message, transient=True))
            chosen = select(server.collections, include=spec.include, exclude=spec.exclude)
            by_server = _by_server(backup)
            if by_server:
                place = location.spec and place_of(location.spec, cluster, server.modules)
                level = refuse_level(server.version, spec.config.compression_level)
                refusals += [level] if place and level else []
            else:
                cluster.check_agents()
            asked = open_gaps(server.version, by_server=by_server)
            take = partial(_gaps, server.version, frozenset(chosen), by_server)
            gaps = await in_schema(self._kube, cluster, spec.auth, take) if asked else ()
            names = tuple(node.name for node in cluster.nodes)
            if location.spec is not None and not refusals:
                proposal = PlannedBackup(
                    nodes=names,
                    leader=server.leader if server.leader in names else names[0],
                    collections=chosen,
                    server_version=server.version,
                    started_at=datetime.now(UTC),
                    stateful_set_uid=cluster.uid,
                    location=location.spec,
                    warnings=(
                        *gaps,
                        *warn_of_unsigned(location.spec, by_server=by_server),
                    ),
                )
        except BackupError as error:
            refusals.append(failure_of(error))
        return BackupWorld(
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

    def _task(self, backup: Backup) -> ServerTask | None:
        """What method Server works with; None before there is a plan, and for the other method."""
        plan, spec = self._plan, backup.spec
        location = plan.location if plan else backup.status.location
        leader = plan.leader if plan else ""
        if not _by_server(backup) or location is None:
            return None
        return ServerTask(spec, spec.effective_backup_id(backup.metadata["name"]), location, leader)

    async def _look_at_server(self, backup: Backup, state: BackupState) -> ServerSight | None:
        task = self._task(backup)
        asked = state.phase in (BackupPhase.PREPARING, BackupPhase.UPLOADING)
        if task is None or not (asked or (state.phase is BackupPhase.ABORTING and state.server)):
            return None
        return await self._line.look(task, state.server)

    async def _show(
        self, backup: Backup, before: BackupState, decision: BackupDecision, world: BackupWorld, now: datetime
    ) -> bool:
        """Whether the status is as it should be now; progress alone may wait for the next second."""
        show = partial(show_backup, backup, decision.state, now=now)
        seen = Sight(reports=world.agents.reports, server=world.server)
        if not await self._write(backup.status, show, world.agents, seen, remembered=decision.state != before):
            return False
        if decision.state.phase is not before.phase:
            await self._announce(backup, decision.state, now)
        return True

    async def _announce(self, backup: Backup, state: BackupState, now: datetime) -> None:
        phase = state.phase
        failed = phase in (BackupPhase.ABORTING, BackupPhase.FAILED)
        reason = state.reason if phase in (BackupPhase.ABORTING, BackupPhase.FAILED) and state.reason else str(phase)
        message = state.message or f"the backup is {phase}"
        log.info("%s: %s%s", self.name, phase, f" ({state.reason}: {state.message})" if state.reason else "")
        await events.record(self._kube, self._owner, reason=reason, message=message, warning=failed, now=now)
        if phase is BackupPhase.COMPLETED:
            for each in self._shown.get("warnings") or ():
                await events.record(
                    self._kube, self._owner, reason=each["reason"], message=each["message"], warning=True, now=now
                )
        if phase.is_terminal:
            _measure(backup, state, self._owner, now)


def _by_server(backup: Backup) -> bool:
    return backup.spec.method is Method.SERVER


def _measure(backup: Backup, state: BackupState, owner: Owner, now: datetime) -> None:
    kind, phase = "backup", str(state.phase)
    metrics.OPERATIONS.labels(kind=kind, phase=phase, reason=state.reason or phase).inc()
    if backup.status.start_time:
        elapsed = (now - backup.status.start_time).total_seconds()
        metrics.DURATION.labels(kind=kind, phase=phase).observe(elapsed)
    if state.phase is BackupPhase.COMPLETED:
        target = backup.spec.target.stateful_set
        metrics.LAST_SUCCESS.labels(kind=kind, namespace=owner.namespace, stateful_set=target).set(now.timestamp())
        done = state.committed or state.audited
        if done:
            metrics.LAST_SIZE.labels(namespace=owner.namespace, stateful_set=target).set(done.bytes_stored)


def _request(backup: Backup, settings: OperatorSettings, *, deleting: bool, seen_at: datetime) -> BackupRequest:
    return BackupRequest(
        uid=backup.metadata["uid"],
        created_at=datetime.fromisoformat(backup.metadata["creationTimestamp"]),
        timeout_seconds=timeout_of(backup.spec),
        seen_at=seen_at,
        lease_seconds=settings.agent_lease_seconds,
        cancel=backup.spec.cancel,
        deleting=deleting,
    )


def _effects(backup: Backup, settings: OperatorSettings) -> OperationRequest:
    spec, metadata = backup.spec, backup.metadata
    claimant = Claimant(cluster=settings.cluster, namespace=metadata["namespace"], name=metadata["name"])
    backup_id = spec.effective_backup_id(metadata["name"])

    def order(node: str, cluster: ClusterView | None, plan: Plan) -> SessionOrder:
        assert isinstance(plan, PlannedBackup)
        endpoint = cluster.endpoint(node) if cluster else None
        if node != STORE_WORKER and endpoint is None:
            raise Transient("NodeNotReady", f"the pod of Weaviate node {node} is not there")
        work = BackupOrder(
            started_at=plan.started_at,
            leader=plan.leader,
            nodes=plan.nodes,
            collections=plan.collections,
            chunk_size_bytes=spec.config.chunk_size * MIB,
            compression_level=spec.config.compression_level,
        )
        return SessionOrder(
            operation_uid=metadata["uid"],
            node=node,
            backup_id=backup_id,
            location=plan.location,
            server_version=plan.server_version,
            weaviate=endpoint,
            cpu_percentage=spec.config.cpu_percentage,
            claimant=claimant,
            lease_seconds=settings.agent_lease_seconds,
            work=StoreOrder(leader=plan.leader) if node == STORE_WORKER else work,
        )

    return OperationRequest(
        stateful_set=spec.target.stateful_set,
        options=spec.agent,
        timeout_seconds=timeout_of(spec),
        order=order,
    )


def _gaps(
    version: str, chosen: frozenset[str], by_server: bool, classes: Sequence[Mapping[str, Any]]
) -> tuple[Failure, ...]:
    return gaps_of(version, [each for each in classes if each.get("class") in chosen], by_server=by_server)
