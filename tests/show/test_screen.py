"""What the demo reads from a status and what it prints, from statuses as the product's own models write them."""

import io
from datetime import UTC, datetime
from typing import Any

from e2e.cluster.operation_view import OperationView, operation_view
from e2e.show.screen import Screen, Trail
from rich.console import Console

from weaviate_backup.api.backup import BackupPhase, BackupStatus
from weaviate_backup.api.conditions import progressing
from weaviate_backup.api.model import dump
from weaviate_backup.api.status import Finding, NodePhase, NodeStatus, Progress

NOW = datetime(2026, 11, 25, 7, tzinfo=UTC)


def view(phase: BackupPhase, **status: Any) -> OperationView:
    made = BackupStatus(phase=phase, **status)
    metadata = {"name": "demo", "uid": "b6a2"}
    return operation_view({"kind": "WeaviateBackup", "metadata": metadata, "status": dump(made)})


def uploading(done: int) -> OperationView:
    node = NodeStatus(name="weaviate-0", phase=NodePhase.UPLOADING, bytes_total=100_000_000, bytes_done=done)
    progress = Progress(
        percent=done // 1_000_000, bytes_total=100_000_000, bytes_done=done, bytes_per_second=50_000_000
    )
    return view(BackupPhase.UPLOADING, nodes=(node,), progress=progress)


STATES = (
    view(
        BackupPhase.PENDING,
        conditions=progressing((), reason="Queued", message="waits for [b1]", generation=1, now=NOW),
    ),
    uploading(20_000_000),
    uploading(90_000_000),
    view(
        BackupPhase.COMPLETED,
        start_time=NOW,
        completion_time=NOW.replace(minute=1),
        objects=12,
        longest_halt_seconds=0.031,
        warnings=(Finding(reason="CollectionGone", message="Draft"),),
    ),
)


def test_a_view_has_what_the_status_says() -> None:
    queued, moving, _, completed = STATES
    assert (queued.reason, queued.message, queued.is_terminal) == ("Queued", "waits for [b1]", False)
    assert (moving.percent, moving.bytes_per_second, moving.nodes[0].phase) == (20, 50_000_000, "Uploading")
    assert moving.nodes[0].bytes_done == 20_000_000
    assert (completed.seconds, completed.objects, completed.longest_halt_seconds) == (60.0, 12, 0.031)
    assert completed.warnings == ("CollectionGone: Draft",)
    assert completed.is_completed


def test_a_log_has_a_line_for_each_phase_and_for_progress() -> None:
    trail = Trail()
    lines = [line for number, state in enumerate(STATES) for line in trail.lines(state, 10.0 + number, verbose=True)]
    assert ["Pending" in lines[0], "Uploading" in lines[1], "20%" in lines[2], "90%" in lines[3]] == [True] * 4
    assert "Completed" in lines[4]
    assert len(lines) == 5
    assert "50 MB/s" in lines[2]


def test_a_terminal_has_bars_and_a_log_has_none() -> None:
    for is_terminal in (True, False):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=is_terminal, width=140, highlight=False)
        last = Screen(console).follow(STATES)
        assert last.is_completed
        text = stream.getvalue()
        assert ("━" in text) == is_terminal
        assert "waits for [b1]" in text
        assert ("\x1b[" in text) == is_terminal
