"""Translates between a backup's status and what its machine remembers. Pure."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from weaviate_backup.api import conditions
from weaviate_backup.api.backup import Backup, BackupPhase, BackupPlan, BackupStatus
from weaviate_backup.api.bounds import all_or_none, bounded
from weaviate_backup.api.durations import show_bytes, show_duration
from weaviate_backup.api.operation_spec import Method
from weaviate_backup.api.status import (
    MAX_COLLECTIONS,
    MAX_NAMES,
    AccessStatus,
    CollectionsStatus,
    Finding,
    OperationStatus,
    PlannedNode,
    Progress,
    ServerRequest,
    TenantsStatus,
    WeaviateStatus,
)
from weaviate_backup.controller.node_status import remember_nodes, show_nodes, show_progress
from weaviate_backup.core.backup_machine import BackupState
from weaviate_backup.core.orders import STORE_WORKER, Outcome, PlannedBackup, Reports, ServerRun
from weaviate_backup.core.server_following import ServerSight
from weaviate_backup.core.session import AccessCounts, Audited, Frozen, NodeReport, Step

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


SERVER_SAYING = {
    **SAYING,
    BackupPhase.PREPARING: "looking whether Weaviate's own backup can begin, then asking for it",
    BackupPhase.UPLOADING: "Weaviate's own backup is under way",
    BackupPhase.FINALIZING: "reading what Weaviate stored back from the store",
}


@dataclass(frozen=True)
class Sight:
    """What is shown beside the state: who is asked, what they said, why a command did not work, the server's word."""

    reports: Reports = field(default_factory=dict)
    pods: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    server: ServerSight | None = None
    objects: int | None = None
    """What the server counts in what it restored."""


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
        server=remember_server(status),
    )


def remember_server(status: OperationStatus) -> ServerRun | None:
    known = status.server_request
    return ServerRun(known.node, known.process, known.accepted) if known else None


def show_server(run: ServerRun | None) -> ServerRequest | None:
    return ServerRequest(node=run.node, process=run.process, accepted=run.accepted) if run else None


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
        "conditions": _conditions(backup, state, sight, generation=generation, now=now),
        "start_time": started,
        "completion_time": ended,
        "phase_start_time": state.phase_since,
        "duration": show_duration(elapsed) if started else None,
        "backup_id": backup.spec.effective_backup_id(backup.metadata["name"]),
        "weaviate_status": _weaviate_status(state, sight),
        "server_request": show_server(state.server),
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
        "method": _method(backup, state),
    }
    if plan is not None and before.plan is None:
        changes |= _planned(plan, sight)
    if frozen and (before.tenants is None or len(frozen) == len(plan.nodes if plan else frozen)):
        changes |= _covered(plan, state, frozen)
    if committed is not None:
        changes |= {
            "objects": committed.objects,
            "size": show_bytes(committed.bytes_stored),
            "locked_until": committed.locked_until,
            "backup_sha256": committed.backup_sha256[:64] or None,
            "signed_by": committed.signed_by[:64] or None,
        }
    if state.audited is not None:
        changes |= _audited(state.audited)
    if not before.phase.is_terminal:
        changes["warnings"] = _warnings(state, changes.get("tenants", before), plan)
    return before.model_copy(update=changes)


def _method(backup: Backup, state: BackupState) -> Method | None:
    if not state.nodes:
        return backup.status.method
    return Method.SERVER if backup.spec.method is Method.SERVER else Method.AGENT


def _audited(audited: Audited) -> dict[str, object]:
    return {
        "objects": audited.objects,
        "locked_until": audited.locked_until,
        "size": show_bytes(audited.bytes_stored),
        "backup_sha256": audited.backup_sha256[:64] or None,
        "progress": Progress(
            percent=100,
            bytes_total=audited.bytes_total,
            bytes_done=audited.bytes_total,
            bytes_stored=audited.bytes_stored,
            files_total=audited.files,
            files_done=audited.files,
        ),
    }


def _completed(backup: Backup, state: BackupState) -> str:
    """What was checked, and what could not be."""
    if backup.spec.method is not Method.SERVER:
        return "every object was read back from the store and compared, and the backup is committed"
    if state.audited is None:
        known = conditions.find(backup.status.conditions, conditions.READY)
        return known.message if known else ""
    streams = "their checksums compared" if state.audited.checksummed else "which carry no checksums"
    return (
        f"Weaviate's own backup was read back: {state.audited.objects} objects, every stream to its end ({streams}), "
        f"all {state.audited.files} files named are there, no node or shard is missing; not compared with the data on "
        "the nodes: the server records no checksums of files"
    )


def _conditions(
    backup: Backup, state: BackupState, sight: Sight, *, generation: int, now: datetime
) -> conditions.Conditions:
    before, phase = backup.status, state.phase
    if phase is BackupPhase.COMPLETED:
        message = _completed(backup, state)
        return conditions.ready(before.conditions, reason="Completed", message=message, generation=generation, now=now)
    reason, message = state.reason or str(phase), state.message
    if phase.is_terminal:
        return conditions.stalled(
            before.conditions, reason=reason, message=message or str(phase), generation=generation, now=now
        )
    if phase is not BackupPhase.PENDING or not message:
        nodes = sum(1 for node in state.nodes if node.name != STORE_WORKER)
        by_server = backup.spec.method is Method.SERVER
        message = (SERVER_SAYING if by_server else SAYING)[phase].format(nodes=nodes, message=state.message)
        trouble = sight.notes.get("server") or (state.message if phase is BackupPhase.PREPARING else "")
        if trouble := sight.notes.get("") or (trouble if by_server else ""):
            message = f"{message}: {trouble}"
        reason = state.reason if phase is BackupPhase.ABORTING and state.reason else str(phase)
    return conditions.progressing(before.conditions, reason=reason, message=message, generation=generation, now=now)


def _weaviate_status(state: BackupState, sight: Sight) -> WeaviateStatus:
    """Of method Server the server's own word, while it is asked."""
    if sight.server is not None and sight.server.status is not None and state.server is not None:
        return sight.server.status
    if state.server is not None and state.phase is BackupPhase.FINALIZING:
        return WeaviateStatus.SUCCESS
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


def _warnings(state: BackupState, source: object, plan: PlannedBackup | None) -> tuple[Finding, ...]:
    tenants = source if isinstance(source, TenantsStatus) else getattr(source, "tenants", None)
    found = []
    if state.missing:
        names = ", ".join(bounded(state.missing, limit=8))
        message = f"{len(state.missing)} collections were dropped before they were frozen: {names}"
        found.append(Finding(reason="CollectionsDropped", message=message[:256]))
    if tenants is not None and tenants.offloaded:
        message = f"{tenants.offloaded} offloaded tenants are not covered: their data is not on the nodes"
        found.append(Finding(reason="TenantsOffloaded", message=message))
    told = (*(plan.warnings if plan else ()), *(state.audited.warnings if state.audited else ()))
    found.extend(Finding(reason=each.reason[:64], message=each.message[:256]) for each in told)
    return tuple(found[:16])
