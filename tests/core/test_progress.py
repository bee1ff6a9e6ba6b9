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
