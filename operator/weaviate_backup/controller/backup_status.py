"""Translates between a backup's status and what its machine remembers. Pure."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from weaviate_backup.api import conditions
from weaviate_backup.api.backup import Backup, BackupMethod, BackupPhase, BackupPlan, BackupStatus
from weaviate_backup.api.bounds import all_or_none, bounded
from weaviate_backup.api.durations import show_bytes, show_duration
from weaviate_backup.api.status import (
    MAX_COLLECTIONS,
    MAX_NAMES,
    AccessStatus,
    CollectionsStatus,
    Finding,
    OperationStatus,
    PlannedNode,
    TenantsStatus,
    WeaviateStatus,
)
from weaviate_backup.controller.node_status import remember_nodes, show_nodes, show_progress
from weaviate_backup.core.backup_machine import BackupState
from weaviate_backup.core.orders import Outcome, PlannedBackup, Reports
from weaviate_backup.core.session import AccessCounts, Frozen, NodeReport, Step

WEAVIATE_STATUS = {
    BackupPhase.PENDING: WeaviateStatus.STARTED,
    BackupPhase.PREPARING: WeaviateStatus.STARTED,
    BackupPhase.UPLOADING: WeaviateStatus.TRANSFERRING,
    BackupPhase.FINALIZING: WeaviateStatus.TRANSFERRED,
    BackupPhase.COMPLETED: WeaviateStatus.SUCCESS,
    BackupPhase.ABORTING: WeaviateStatus.FAILED,
    BackupPhase.FAILED: WeaviateStatus.FAILED,
    BackupPhase.CANCELED: WeaviateStatus.CANCELED,
}
SAYING = {
    BackupPhase.PENDING: "waiting to start",
    BackupPhase.PREPARING: "starting agents and freezing shards on {nodes} nodes",
    BackupPhase.UPLOADING: "uploading from {nodes} nodes",
    BackupPhase.FINALIZING: "verifying every stored object, then committing",
    BackupPhase.ABORTING: "letting go: {message}",
}


@dataclass(frozen=True)
class Sight:
    """What is shown beside the state: who is asked, what they said, why a command did not work."""

    reports: Reports = field(default_factory=dict)
    pods: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def remember_backup(status: BackupStatus) -> BackupState:
    ready = conditions.find(status.conditions, conditions.READY)
    pending = status.phase is BackupPhase.PENDING and ready is not None
    cause = status.failure
    message = ready.message if ready and (pending or cause) else ""
    return BackupState(
        phase=status.phase,
        phase_since=status.phase_start_time,
        nodes=remember_nodes(status.nodes),
        missing=status.dropped_collections,
        wrote=status.wrote,
        committer=status.committer,
        outcome=Outcome(status.outcome) if status.outcome else None,
        reason=cause.reason if cause else (ready.reason if ready and pending else ""),
        message=cause.message if cause and status.phase is BackupPhase.ABORTING else message,
        cleaned_up=status.cleaned_up,
    )


def show_backup(
    backup: Backup, state: BackupState, *, plan: PlannedBackup | None, sight: Sight, now: datetime
) -> BackupStatus:
    """The next status, from the last one and the next state."""
    before, phase = backup.status, state.phase
    generation = int(backup.metadata.get("generation", 1))
    started = before.start_time or (now if phase is not BackupPhase.PENDING else None)
    ended = before.completion_time or (now if phase.is_terminal else None)
    elapsed = ((ended or now) - started).total_seconds() if started else 0.0
    since = state.phase_since if phase is BackupPhase.UPLOADING else None
    progress = show_progress(
        sight.reports,
        moving=Step.UPLOAD,
        elapsed_seconds=(now - since).total_seconds() if since else None,
        finished=phase is BackupPhase.COMPLETED,
        before=before.progress,
    )
    frozen = [report.frozen for report in sight.reports.values() if isinstance(report, NodeReport) and report.frozen]
    nodes = show_nodes(
        state.nodes,
        before=before.nodes,
        reports=sight.reports,
        moving=Step.UPLOAD,
        pods=sight.pods,
        notes=sight.notes,
    )
    committed = state.committed
    changes: dict[str, object] = {
        "phase": phase,
        "observed_generation": generation,
        "conditions": _conditions(before, state, generation=generation, now=now),
        "start_time": started,
        "completion_time": ended,
        "phase_start_time": state.phase_since,
        "duration": show_duration(elapsed) if started else None,
        "backup_id": backup.spec.effective_backup_id(backup.metadata["name"]),
        "weaviate_status": _weaviate_status(state),
        "progress": progress,
        "nodes": nodes,
        "dropped_collections": state.missing[:MAX_COLLECTIONS],
        "wrote": state.wrote,
        "committer": state.committer,
        "outcome": str(state.outcome) if state.outcome else None,
        "failure": Finding(reason=state.reason, message=state.message[:256])
        if state.outcome and state.reason
        else None,
        "cleaned_up": state.cleaned_up,
        "method": BackupMethod.AGENT if state.nodes else before.method,
    }
    if plan is not None and before.plan is None:
        changes |= _planned(plan, sight)
    if frozen and (before.tenants is None or len(frozen) == len(plan.nodes if plan else frozen)):
        changes |= _covered(plan, state, frozen)
    if committed is not None:
        changes |= {"objects": committed.objects, "size": show_bytes(committed.bytes_stored)}
    changes["warnings"] = _warnings(state, changes.get("tenants", before))
    return before.model_copy(update=changes)


def _conditions(
    before: OperationStatus, state: BackupState, *, generation: int, now: datetime
) -> conditions.Conditions:
    phase = state.phase
    if phase is BackupPhase.COMPLETED:
        message = "every object was read back from the store and compared, and the backup is committed"
        return conditions.ready(before.conditions, reason="Completed", message=message, generation=generation, now=now)
    reason, message = state.reason or str(phase), state.message
    if phase.is_terminal:
        return conditions.stalled(
            before.conditions, reason=reason, message=message or str(phase), generation=generation, now=now
        )
    if phase is not BackupPhase.PENDING or not message:
        nodes = sum(1 for node in state.nodes if not node.name.startswith("store-"))
        message = SAYING[phase].format(nodes=nodes, message=state.message)
        reason = state.reason if phase is BackupPhase.ABORTING and state.reason else str(phase)
    return conditions.progressing(before.conditions, reason=reason, message=message, generation=generation, now=now)


def _weaviate_status(state: BackupState) -> WeaviateStatus:
    if state.phase is BackupPhase.ABORTING and state.outcome is Outcome.CANCELED:
        return WeaviateStatus.CANCELED
    return WEAVIATE_STATUS[state.phase]


def _planned(plan: PlannedBackup, sight: Sight) -> dict[str, object]:
    names = all_or_none(plan.collections, limit=MAX_COLLECTIONS)
    digest = hashlib.sha256("\n".join(sorted(plan.collections)).encode()).hexdigest()
    nodes = tuple(
        PlannedNode(name=name, pod=name, pod_uid="", ordinal=ordinal) for ordinal, name in enumerate(plan.nodes)
    )
    return {
        "plan": BackupPlan(
            nodes=nodes,
            leader=plan.leader,
            collections=names,
            collections_count=len(plan.collections),
            collections_sha256=digest,
        ),
        "server_version": plan.server_version,
        "location": plan.location,
        "stateful_set_uid": plan.stateful_set_uid,
        "collections": CollectionsStatus(count=len(plan.collections), names=bounded(plan.collections, limit=MAX_NAMES)),
    }


def _covered(plan: PlannedBackup | None, state: BackupState, frozen: list[Frozen]) -> dict[str, object]:
    offloaded = tuple(dict.fromkeys(name for part in frozen for name in part.tenants_offloaded_names))
    planned = plan.collections if plan else ()
    names = tuple(name for name in planned if name not in state.missing)
    return {
        "tenants": TenantsStatus(
            active=sum(part.tenants_active for part in frozen),
            inactive=sum(part.tenants_inactive for part in frozen),
            offloaded=sum(part.tenants_offloaded for part in frozen),
            offloaded_names=bounded(offloaded, limit=MAX_NAMES),
        ),
        "collections": CollectionsStatus(count=len(names), names=bounded(names, limit=MAX_NAMES)),
        "access": next((show_access(part.access) for part in frozen if part.access), None),
        "longest_halt_seconds": round(max(part.longest_halt_seconds for part in frozen), 3),
    }


def show_access(counts: AccessCounts) -> AccessStatus | None:
    return None if counts == AccessCounts() else AccessStatus(roles=counts.roles, users=counts.users)


def _warnings(state: BackupState, source: object) -> tuple[Finding, ...]:
    tenants = source if isinstance(source, TenantsStatus) else getattr(source, "tenants", None)
    found = []
    if state.missing:
        names = ", ".join(bounded(state.missing, limit=8))
        message = f"{len(state.missing)} collections were dropped before they were frozen: {names}"
        found.append(Finding(reason="CollectionsDropped", message=message[:256]))
    if tenants is not None and tenants.offloaded:
        message = f"{tenants.offloaded} offloaded tenants are not covered: their data is not on the nodes"
        found.append(Finding(reason="TenantsOffloaded", message=message))
    return tuple(found)
