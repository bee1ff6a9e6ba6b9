"""What a change of an agent's report is worth: counters may wait, everything else wakes the daemon at once."""

import pytest

from weaviate_backup.controller.agent_links import only_progressed
from weaviate_backup.core.orders import Unreachable
from weaviate_backup.core.session import NodeReport, Progress, Step, StepPhase, StepReport, Uploaded


def report(phase: StepPhase, done: int, *, revision: int = 1, session: str = "s", **changes: object) -> NodeReport:
    steps = {Step.UPLOAD: StepReport(phase=phase, progress=Progress(bytes_total=100, bytes_done=done))}
    values = {"operation_uid": "u", "session_id": session, "node": "n", "revision": revision, "steps": steps}
    return NodeReport.model_validate({**values, **changes})


BEFORE = report(StepPhase.RUNNING, 10)


def test_counters_of_a_running_step_may_wait() -> None:
    assert only_progressed(BEFORE, report(StepPhase.RUNNING, 20, revision=2))


@pytest.mark.parametrize(
    "after",
    [
        report(StepPhase.DONE, 10, revision=2),
        report(StepPhase.FAILED, 10, revision=2),
        report(StepPhase.RUNNING, 10, revision=1, session="another process"),
        report(
            StepPhase.RUNNING, 10, revision=2, uploaded=Uploaded(manifest_sha256="0" * 64, objects=1, bytes_stored=1)
        ),
    ],
    ids=["done", "failed", "restarted", "result"],
)
def test_everything_else_wakes(after: NodeReport) -> None:
    assert not only_progressed(BEFORE, after)


@pytest.mark.parametrize("before", [None, Unreachable(reason="AgentUnreachable", message="no answer")])
def test_a_first_answer_wakes(before: Unreachable | None) -> None:
    assert not only_progressed(before, BEFORE)
