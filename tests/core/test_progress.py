"""Numbers that people read: from reports of many agents, of which each may say anything."""

import pytest
from pydantic import ValidationError

from weaviate_backup.api.model import MOST
from weaviate_backup.api.status import Progress as Shown
from weaviate_backup.controller.node_status import show_progress
from weaviate_backup.core.progress import Total, speed, total
from weaviate_backup.core.session import Frozen, NodeReport, Progress, Step, StepPhase, StepReport
from weaviate_backup.layout.descriptors import ClassDescriptor
from weaviate_backup.layout.manifests import StoredDocument


def report(**progress: int) -> NodeReport:
    steps = {Step.DOWNLOAD: StepReport(phase=StepPhase.RUNNING, progress=Progress(**progress))}
    return NodeReport(operation_uid="u", session_id="s", node="n", revision=1, steps=steps)


@pytest.mark.parametrize("announced", [0, 9_950_000], ids=["nothing", "too little"])
def test_more_than_was_announced_is_no_time_below_nothing(announced: int) -> None:
    """Descriptors of a server's backups need not say how much there is."""
    totals = Total(
        bytes_total=announced, bytes_done=10_000_000, bytes_reused=0, bytes_stored=0, files_total=0, files_done=0
    )
    assert speed(totals, elapsed_seconds=5).seconds_left == 0


def of(total_bytes: int, done_bytes: int, *, reused_bytes: int = 0) -> Total:
    return Total(total_bytes, done_bytes, reused_bytes, bytes_stored=0, files_total=0, files_done=0)


@pytest.mark.parametrize(
    ("total_bytes", "done_bytes", "percent"),
    [(0, 0, 0), (0, 5, 0), (200, 0, 0), (200, 1, 0), (200, 2, 1), (200, 199, 99), (10_000, 9_999, 99), (200, 200, 100),
     (200, 300, 100)],
)  # fmt: skip
def test_a_hundred_percent_is_all_of_it(total_bytes: int, done_bytes: int, percent: int) -> None:
    assert of(total_bytes, done_bytes).percent == percent


def test_the_speed_is_of_what_moved() -> None:
    """What was there already took no time."""
    now = speed(of(1000, 600, reused_bytes=200), elapsed_seconds=4)
    assert (now.bytes_per_second, now.seconds_left) == (100, 4)
    assert speed(of(1000, 600), elapsed_seconds=0.5).bytes_per_second == 1200
    for nothing in (speed(of(1000, 600), elapsed_seconds=0), speed(of(9, 5, reused_bytes=5), elapsed_seconds=4)):
        assert (nothing.bytes_per_second, nothing.seconds_left) == (0, None)
    assert speed(of(9, 1), elapsed_seconds=0.5).seconds_left == 4


def test_sums_are_of_all_nodes_at_the_step() -> None:
    fields = {
        "bytes_total": 1,
        "bytes_done": 2,
        "bytes_reused": 3,
        "bytes_stored": 4,
        "files_total": 5,
        "files_done": 6,
    }
    idle = NodeReport(operation_uid="u", session_id="s", node="m", revision=1)
    assert total([report(**fields), report(**fields), idle], Step.DOWNLOAD) == Total(2, 4, 6, 8, 10, 12)


def test_sums_stay_numbers_that_a_status_takes() -> None:
    reports = {f"n-{each}": report(bytes_total=MOST, bytes_done=MOST) for each in range(3)}
    assert total(reports.values(), Step.DOWNLOAD).bytes_total == MOST
    shown = show_progress(reports, moving=Step.DOWNLOAD, elapsed_seconds=1.0, finished=False, before=None)
    assert shown is not None
    assert Shown.model_validate(shown.model_dump()) == shown


@pytest.mark.parametrize(
    "said",
    [
        {"shards": -1},
        {"longest_halt_seconds": -0.1},
        {"longest_halt_seconds": float("nan")},
        {"longest_halt_seconds": float("inf")},
        {"collections": ("A" * 256,)},
        {"missing_collections": ("",)},
    ],
)
def test_what_no_status_takes_is_no_answer_of_an_agent(said: dict[str, object]) -> None:
    frozen = {"collections": ("A",), "shards": 1, "bytes_total": 1, "files_total": 1, "longest_halt_seconds": 0.1}
    assert Frozen.model_validate(frozen)
    with pytest.raises(ValidationError):
        Frozen.model_validate(frozen | said)
    with pytest.raises(ValidationError):
        NodeReport(operation_uid="u", session_id="s" * 65, node="n", revision=1)
    with pytest.raises(ValidationError):
        StoredDocument(size_bytes=-1, sha256="")


@pytest.mark.parametrize("said", [-1, MOST + 1])
def test_numbers_that_are_none_are_not_taken(said: int) -> None:
    with pytest.raises(ValidationError):
        report(bytes_total=said)
    with pytest.raises(ValidationError):
        ClassDescriptor(name="Article", sharding_state=b"", class_json=b"", pre_compression_size_bytes=said)
