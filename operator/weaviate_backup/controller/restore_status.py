"""Translates between a restore's status and what its machine remembers. Pure."""

import hashlib
from datetime import datetime

from weaviate_backup.api import conditions
from weaviate_backup.api.bounds import all_or_none, bounded
from weaviate_backup.api.config import MAX_ADDRESS
from weaviate_backup.api.durations import show_bytes, show_duration
from weaviate_backup.api.operation_spec import Method
from weaviate_backup.api.restore import (
    MAX_ACCESS_NAME,
    MAX_ACCESS_NAMES,
    MAX_ADDRESSES,
    MAX_ASSIGNMENT,
    MAX_ASSIGNMENTS,
    MAX_SETTING,
    PlannedAddress,
    Restore,
    RestorePhase,
    RestorePlan,
    RestoreStatus,
)
from weaviate_backup.api.status import (
    MAX_COLLECTIONS,
    MAX_NAMES,
    CollectionsStatus,
    Finding,
    PlannedNode,
    WeaviateStatus,
)
from weaviate_backup.controller.backup_status import Sight, remember_server, show_access, show_server
from weaviate_backup.controller.node_status import remember_nodes, show_nodes, show_progress
from weaviate_backup.core.orders import Outcome, PlannedRestore
from weaviate_backup.core.restore_machine import RestoreState
from weaviate_backup.core.restore_plan import RestoreVerdict
from weaviate_backup.core.server_restore import is_cancelable
from weaviate_backup.core.session import Confirmed, Inspected, ModuleAddress, NodeReport, Step

WEAVIATE_STATUS = {
    RestorePhase.PENDING: WeaviateStatus.STARTED,
    RestorePhase.VALIDATING: WeaviateStatus.STARTED,
    RestorePhase.DOWNLOADING: WeaviateStatus.TRANSFERRING,
    RestorePhase.APPLYING: WeaviateStatus.TRANSFERRED,
    RestorePhase.VERIFYING: WeaviateStatus.TRANSFERRED,
    RestorePhase.COMPLETED: WeaviateStatus.SUCCESS,
    RestorePhase.ABORTING: WeaviateStatus.FAILED,
    RestorePhase.FAILED: WeaviateStatus.FAILED,
    RestorePhase.CANCELED: WeaviateStatus.CANCELED,
}
SAYING = {
    RestorePhase.PENDING: "waiting to start",
    RestorePhase.VALIDATING: "looking for reasons not to restore",
    RestorePhase.DOWNLOADING: "downloading and checking",
    RestorePhase.APPLYING: "placing files and making the collections known",
    RestorePhase.VERIFYING: "proving that the data is there",
    RestorePhase.ABORTING: "letting go: {message}",
}
SERVER_SAYING = {
    **SAYING,
    RestorePhase.DOWNLOADING: "Weaviate's own restore is under way",
    RestorePhase.APPLYING: "Weaviate's own restore is making the collections known",
    RestorePhase.VERIFYING: "waiting until every shard is listed as ready on its nodes",
}
PROVEN = "the collections are there and their files were proven to be in place"
PROVEN_BY_SERVER = (
    "Weaviate restored it; the collections are there and every active shard is listed as ready on its nodes; files "
    "were not compared"
)
LATE_WRITES_LEFT = "LateWritesLeft"
MAX_WARNINGS = 16
TOO_LATE = "the schema is being changed; the restore goes on to its end"


def remember_restore(status: RestoreStatus) -> RestoreState:
    ready = conditions.find(status.conditions, conditions.READY)
    pending = status.phase is RestorePhase.PENDING and ready is not None
    cause = status.failure
    message = ready.message if ready and (pending or cause) else ""
    return RestoreState(
        phase=status.phase,
        phase_since=status.phase_start_time,
        nodes=remember_nodes(status.nodes),
        collections=status.plan.collections if status.plan else (),
        backup_sha256=status.backup_sha256 or "",
        applier=status.applier,
        outcome=Outcome(status.outcome) if status.outcome else None,
        reason=cause.reason if cause else (ready.reason if ready and pending else ""),
        message=cause.message if cause and status.phase is RestorePhase.ABORTING else message,
        cleaned_up=status.cleaned_up,
        server=remember_server(status),
    )


def show_restore(
    restore: Restore, state: RestoreState, *, plan: PlannedRestore | None, sight: Sight, now: datetime
) -> RestoreStatus:
    """The next status, from the last one and the next state."""
    before, phase = restore.status, state.phase
    started = before.start_time or (now if phase is not RestorePhase.PENDING else None)
    ended = before.completion_time or (now if phase.is_terminal else None)
    elapsed = ((ended or now) - started).total_seconds() if started else 0.0
    since = state.phase_since if phase is RestorePhase.DOWNLOADING else None
    progress = show_progress(
        sight.reports,
        moving=Step.DOWNLOAD,
        elapsed_seconds=(now - since).total_seconds() if since else None,
        finished=phase is RestorePhase.COMPLETED and not restore.spec.dry_run,
        before=before.progress,
    )
    inspected = {
        node: report.inspected
        for node, report in sight.reports.items()
        if isinstance(report, NodeReport) and report.inspected is not None
    }
    confirmed = [
        report.confirmed for report in sight.reports.values() if isinstance(report, NodeReport) and report.confirmed
    ]
    changes: dict[str, object] = {
        "phase": phase,
        "observed_generation": int(restore.metadata.get("generation", 1)),
        "conditions": _conditions(restore, state, sight, now),
        "start_time": started,
        "completion_time": ended,
        "phase_start_time": state.phase_since,
        "duration": show_duration(elapsed) if started else None,
        "weaviate_status": _weaviate_status(state, sight),
        "server_request": show_server(state.server),
        "method": _method(restore, state),
        "progress": progress,
        "nodes": show_nodes(
            state.nodes,
            before=before.nodes,
            reports=sight.reports,
            moving=Step.DOWNLOAD,
            pods=sight.pods,
            notes=sight.notes,
        ),
        "applier": state.applier,
        "outcome": str(state.outcome) if state.outcome else None,
        "failure": Finding(reason=state.reason, message=state.message[:256])
        if state.outcome and state.reason
        else None,
        "cleaned_up": state.cleaned_up,
    }
    if restore.spec.cancel and not phase.is_terminal and _is_too_late(state, plan):
        changes["cancel_refused"] = TOO_LATE
    if plan is not None:
        changes |= {
            "backup_id": plan.backup_id,
            "server_version": plan.server_version,
            "location": plan.location,
            "stateful_set_uid": plan.stateful_set_uid,
        }
    if _by_server(restore) and plan is not None and inspected:  # one worker looked for all of them
        inspected = dict.fromkeys(plan.nodes, next(iter(inspected.values())))
    if state.verdict is not None and inspected:
        changes |= _planned(restore, state.verdict, inspected, plan)
    if state.applied is not None:
        changes |= {
            "raft_index": state.applied.raft_index,
            "aliases_kept": state.applied.aliases_kept[:MAX_NAMES],
            "access": show_access(state.applied.access),
        }
    if confirmed and phase in (RestorePhase.VERIFYING, RestorePhase.COMPLETED):
        counts = [part.objects for part in confirmed if part.objects is not None]
        changes["objects"] = sum(counts) if len(counts) == len(confirmed) else before.objects
    if phase in (RestorePhase.VERIFYING, RestorePhase.COMPLETED) and confirmed and len(confirmed) == len(state.nodes):
        changes["warnings"] = _with_late_writes(before.warnings, confirmed)
    if sight.objects is not None:
        changes["objects"] = sight.objects
    if progress is not None and phase is RestorePhase.COMPLETED:
        changes["size"] = show_bytes(progress.bytes_total)
    elif _by_server(restore) and phase is RestorePhase.COMPLETED and before.plan is not None:
        changes["size"] = show_bytes(before.plan.bytes_total)
    return before.model_copy(update=changes)


def _by_server(restore: Restore) -> bool:
    return restore.spec.method is Method.SERVER


def _method(restore: Restore, state: RestoreState) -> Method | None:
    if not state.nodes:
        return restore.status.method
    return Method.SERVER if _by_server(restore) else Method.AGENT


def _weaviate_status(state: RestoreState, sight: Sight) -> WeaviateStatus:
    """Of method Server the server's own word, while it is asked about a request that it took."""
    run, seen = state.server, sight.server
    if run is not None and run.accepted and seen is not None and seen.status is not None:
        return seen.status
    if run is not None and state.phase is RestorePhase.VERIFYING:
        return WeaviateStatus.SUCCESS
    return WEAVIATE_STATUS[state.phase]


def _is_too_late(state: RestoreState, plan: PlannedRestore | None) -> bool:
    """The schema is being changed, or the server knows no way to cancel a restore."""
    if state.applier:
        return True
    if state.server is None:
        return False
    changing = state.phase in (RestorePhase.APPLYING, RestorePhase.VERIFYING)
    return changing or (plan is not None and not is_cancelable(plan.server_version))


def _conditions(restore: Restore, state: RestoreState, sight: Sight, now: datetime) -> conditions.Conditions:
    before, phase = restore.status.conditions, state.phase
    generation = int(restore.metadata.get("generation", 1))
    if phase is RestorePhase.COMPLETED:
        reason = state.reason or "Completed"
        proven = PROVEN_BY_SERVER if _by_server(restore) else PROVEN
        message = state.message or proven
        return conditions.ready(before, reason=reason, message=message, generation=generation, now=now)
    reason, message = state.reason or str(phase), state.message
    if phase.is_terminal:
        return conditions.stalled(before, reason=reason, message=message or str(phase), generation=generation, now=now)
    if phase is not RestorePhase.PENDING or not message:
        reason = state.reason if phase is RestorePhase.ABORTING and state.reason else str(phase)
        by_server = _by_server(restore)
        message = (SERVER_SAYING if by_server else SAYING)[phase].format(message=state.message)
        trouble = sight.notes.get("server") or (state.message if phase is RestorePhase.DOWNLOADING else "")
        if trouble := sight.notes.get("") or (trouble if by_server else ""):
            message = f"{message}: {trouble}"
    return conditions.progressing(before, reason=reason, message=message, generation=generation, now=now)


def _planned(
    restore: Restore, verdict: RestoreVerdict, inspected: dict[str, Inspected], plan: PlannedRestore | None
) -> dict[str, object]:
    contents = next(iter(inspected.values())).contents
    names = all_or_none(verdict.collections, limit=MAX_COLLECTIONS)
    digest = hashlib.sha256("\n".join(sorted(verdict.collections)).encode()).hexdigest()
    targets = {restore.spec.node_mapping.get(node, node): node for node in contents.nodes}
    nodes = tuple(
        PlannedNode(
            name=node,
            pod=node,
            pod_uid="",
            ordinal=position,
            source_node=targets.get(node),
            bytes_required=found.bytes_required,
            bytes_free=found.bytes_free,
        )
        for position, (node, found) in enumerate(sorted(inspected.items()))
    )
    refusals = tuple(Finding(reason=refusal.reason[:64], message=refusal.message[:256]) for refusal in verdict.refusals)
    made = RestorePlan(
        nodes=nodes,
        leader=plan.applier if plan else None,
        collections=names,
        collections_count=len(verdict.collections),
        collections_sha256=digest,
        backup_version=contents.server_version[:64] or None,
        layout_version=contents.layout_version[:64] or None,
        verifiable=contents.verifiable,
        signed_by=contents.signed_by[:64] or None,
        bytes_required=max(verdict.bytes_required.values(), default=0),
        bytes_total=contents.bytes_total,
        aliases=bounded(verdict.aliases, limit=MAX_NAMES),
        aliases_replaced=bounded(verdict.aliases_replaced, limit=MAX_NAMES),
        module_addresses=tuple(_show_address(each) for each in verdict.addresses[:MAX_ADDRESSES]),
        module_addresses_count=len(verdict.addresses),
        roles=tuple(name[:MAX_ACCESS_NAME] for name in verdict.roles[:MAX_ACCESS_NAMES]),
        roles_count=verdict.roles_count,
        users=tuple(name[:MAX_ACCESS_NAME] for name in verdict.users[:MAX_ACCESS_NAMES]),
        users_count=verdict.users_count,
        assignments=tuple(each[:MAX_ASSIGNMENT] for each in verdict.assignments[:MAX_ASSIGNMENTS]),
        assignments_count=verdict.assignments_count,
        refusals=refusals[:MAX_NAMES],
        refusals_omitted=max(0, len(refusals) - MAX_NAMES),
    )
    warnings = tuple(
        Finding(reason=each.reason[:64], message=each.message[:256]) for each in verdict.warnings[:MAX_WARNINGS]
    )
    covered = CollectionsStatus(count=len(verdict.collections), names=bounded(verdict.collections, limit=MAX_NAMES))
    judged = verdict.backup_sha256[:64] or None
    return {"plan": made, "collections": covered, "warnings": warnings, "backup_sha256": judged}


def _with_late_writes(warnings: tuple[Finding, ...], confirmed: list[Confirmed]) -> tuple[Finding, ...]:
    """What the last look of all nodes says of late writes takes the place of what an earlier one said."""
    others = tuple(each for each in warnings if each.reason != LATE_WRITES_LEFT)
    count = sum(part.late_writes_left for part in confirmed)
    if not count:
        return others
    names = ", ".join(bounded((name for part in confirmed for name in part.late_writes_left_names), limit=8))
    message = (
        f"{count} tenants were not active, so what was written to them while they were backed up is not replayed and "
        f"some of it may not be found: {names}"
    )
    return (*others[: MAX_WARNINGS - 1], Finding(reason=LATE_WRITES_LEFT, message=message[:256]))


def _show_address(found: ModuleAddress) -> PlannedAddress:
    return PlannedAddress(
        address=found.address[:MAX_ADDRESS],
        setting=found.setting[:MAX_SETTING],
        collections_count=len(found.collections),
    )
