"""Translates between a node's state, as the machines remember it, and its line in a status. Pure.

A status shows what a node is doing (`Uploading`); the machine remembers the last phase reached (`Frozen`).
"""

from collections.abc import Iterable, Sequence

from weaviate_backup.api.status import NodePhase, NodeStatus, Progress
from weaviate_backup.core.orders import NodeState, Reports
from weaviate_backup.core.progress import speed, total
from weaviate_backup.core.session import NodeReport, Step, StepPhase

ACTIVITY = {
    Step.FREEZE: NodePhase.FREEZING,
    Step.UPLOAD: NodePhase.UPLOADING,
    Step.VERIFY: NodePhase.VERIFYING,
    Step.COMMIT: NodePhase.COMMITTING,
    Step.INSPECT: NodePhase.INSPECTING,
    Step.DOWNLOAD: NodePhase.DOWNLOADING,
    Step.PLACE: NodePhase.PLACING,
    Step.APPLY: NodePhase.APPLYING,
    Step.CONFIRM: NodePhase.CONFIRMING,
    Step.RELEASE: NodePhase.RELEASING,
    Step.DISCARD: NodePhase.RELEASING,
}
REACHED = {
    NodePhase.READY: NodePhase.STARTING,
    NodePhase.FREEZING: NodePhase.STARTING,
    NodePhase.UPLOADING: NodePhase.FROZEN,
    NodePhase.VERIFYING: NodePhase.UPLOADED,
    NodePhase.COMMITTING: NodePhase.VERIFIED,
    NodePhase.COMMITTED: NodePhase.VERIFIED,
    NodePhase.INSPECTING: NodePhase.STARTING,
    NodePhase.DOWNLOADING: NodePhase.INSPECTED,
    NodePhase.PLACING: NodePhase.DOWNLOADED,
    NodePhase.APPLYING: NodePhase.PLACED,
    NodePhase.APPLIED: NodePhase.PLACED,
    NodePhase.CONFIRMING: NodePhase.PLACED,
    NodePhase.RELEASING: NodePhase.STARTING,
    NodePhase.FAILED: NodePhase.STARTING,
}


def remember_nodes(lines: Iterable[NodeStatus]) -> tuple[NodeState, ...]:
    return tuple(
        NodeState(
            name=line.name,
            phase=REACHED.get(line.phase, line.phase),
            session=line.session_id,
            attempts=line.attempts,
            retry_at=line.retry_time,
            silent_since=line.silent_since,
            manifest_sha256=line.verified_sha256 or line.manifest_sha256,
            reason=line.reason or "",
            message=line.message or "",
        )
        for line in lines
    )


def show_nodes(
    nodes: Sequence[NodeState],
    *,
    before: Sequence[NodeStatus],
    reports: Reports,
    moving: Step,
    pods: dict[str, str],
    notes: dict[str, str],
) -> tuple[NodeStatus, ...]:
    """`moving`: the step whose bytes are counted. What no report tells now stays as it was."""
    known = {line.name: line for line in before}
    return tuple(
        _show(
            node,
            known.get(node.name),
            reports.get(node.name),
            moving=moving,
            pod=pods.get(node.name),
            note=notes.get(node.name),
        )
        for node in nodes
    )


def _show(
    node: NodeState,
    before: NodeStatus | None,
    found: object,
    *,
    moving: Step,
    pod: str | None,
    note: str | None,
) -> NodeStatus:
    report = found if isinstance(found, NodeReport) else None
    line = before or NodeStatus(name=node.name)
    restarted = before is not None and before.session_id not in (None, node.session)
    verified = node.phase is NodePhase.VERIFIED or line.verified_sha256 is not None
    changes: dict[str, object] = {
        "pod": pod or line.pod,
        "session_id": node.session,
        "phase": _activity(node, report),
        "attempts": node.attempts,
        "retry_time": node.retry_at,
        "silent_since": node.silent_since,
        "restarts": line.restarts + (1 if restarted else 0),
        "manifest_sha256": line.manifest_sha256 or node.manifest_sha256,
        "verified_sha256": node.manifest_sha256 if verified else None,
        "reason": node.reason[:64] or None,
        "message": (node.message or note or "")[:256] or None,
    }
    step = report.steps.get(moving) if report else None
    if step is not None:
        changes |= step.progress.model_dump()
    if report is not None and report.frozen is not None:
        changes["shards"] = report.frozen.shards
        changes["longest_halt_seconds"] = round(report.frozen.longest_halt_seconds, 3)
    return line.model_copy(update=changes)


def _activity(node: NodeState, report: NodeReport | None) -> NodePhase:
    settled = node.phase in (NodePhase.RELEASED, NodePhase.UNREACHABLE, NodePhase.CONFIRMED)
    if report is None or settled:
        return node.phase
    running = [step for step, taken in report.steps.items() if taken.phase is StepPhase.RUNNING]
    busy = [ACTIVITY[step] for step in running if step in ACTIVITY]
    fitting = [phase for phase in busy if REACHED[phase] is node.phase]
    return fitting[0] if fitting else node.phase


def show_progress(
    reports: Reports, *, moving: Step, elapsed_seconds: float | None, finished: bool, before: Progress | None
) -> Progress | None:
    """`elapsed_seconds`: since bytes began to move; None when none move now, which keeps the rate that was reached."""
    found = [report for report in reports.values() if isinstance(report, NodeReport) and moving in report.steps]
    if not found:
        return before
    totals = total(found, moving)
    if before is not None and totals.bytes_total < before.bytes_total and totals.bytes_done < before.bytes_done:
        return before  # an agent of many is silent; its bytes are not undone
    pace = speed(totals, elapsed_seconds=elapsed_seconds or 0.0)
    kept = before.bytes_per_second if before is not None and elapsed_seconds is None else None
    return Progress(
        percent=100 if finished else totals.percent,
        bytes_total=totals.bytes_total,
        bytes_done=totals.bytes_done,
        bytes_reused=totals.bytes_reused,
        bytes_stored=totals.bytes_stored,
        files_total=totals.files_total,
        files_done=totals.files_done,
        bytes_per_second=kept if elapsed_seconds is None else pace.bytes_per_second,
        eta_seconds=None if finished else pace.seconds_left,
    )
