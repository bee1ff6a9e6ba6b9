"""What is known of the one agent that tells raft what to restore, and of what raft may still come to. Pure.

A command without an answer may be in raft's log, and be taken long after. Neither a later refusal nor the end of the
agent says that it will not.
"""

from dataclasses import replace

from weaviate_backup.core.orders import NodeState
from weaviate_backup.core.session import NodeReport, Step, StepPhase, StepReport


def may_be_applying(report: NodeReport | None) -> bool:
    """Of one that was told, or may have been: it did not report an end."""
    step = _apply_of(report)
    return step is None or step.phase is not StepPhase.FAILED


def outcome_is_known(applier: NodeState, report: NodeReport | None) -> bool:
    """All is applied, or was refused, and there was no attempt before, which may have gone without an answer."""
    step = _apply_of(report)
    if step is None:
        return False
    refused = step.phase is StepPhase.FAILED and step.failure is not None and not step.failure.transient
    return step.phase is StepPhase.DONE or (refused and applier.attempts == 0)


def _apply_of(report: NodeReport | None) -> StepReport | None:
    return report.steps.get(Step.APPLY) if report else None


def with_restart(before: NodeState, applier: NodeState) -> NodeState:
    """One whose process ended may have told raft: that was an attempt, too."""
    restarted = before.session not in (None, applier.session)
    return replace(applier, attempts=max(applier.attempts, 1)) if restarted else applier
