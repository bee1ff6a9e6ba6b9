"""The report at the end of the demo: figures as measured, for a person and as JSON. Values in, values out."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from e2e.cluster.operation_view import OperationView
from rich.table import Table


@dataclass(frozen=True)
class Transfer:
    """One finished operation. `seconds` is what a person waited: from `kubectl apply` to the terminal phase."""

    phase: str
    seconds: float
    seconds_by_phase: Mapping[str, float]
    bytes_total: int
    bytes_stored: int
    objects: int | None
    longest_halt_seconds: float | None
    restarts: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class DemoReport:
    """What happened."""

    store: str
    """Kind of store."""
    weaviate_version: str
    nodes: int
    objects_loaded: int
    load_seconds: float
    backup: Transfer
    stored_objects: int
    stored_bytes: int
    restore: Transfer
    questions: int
    """Answers that were compared: counts, fingerprints, searches, filters, aliases, tenants, replicas."""
    differences: tuple[str, ...]
    total_seconds: float

    @property
    def ok(self) -> bool:
        return (
            self.backup.phase == "Completed" and self.restore.phase == "Completed"
            and self.questions > 0 and not self.differences
        )  # fmt: skip

    def as_json(self) -> Mapping[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def transfer(view: OperationView, *, entered: Mapping[str, float]) -> Transfer:
    """`entered`: when each phase was first seen, in seconds since `kubectl apply`, in that order."""
    times = [*entered.values()]
    spent = {phase: round(end - begin, 2) for (phase, begin), end in zip(entered.items(), times[1:], strict=False)}
    return Transfer(
        phase=view.phase,
        seconds=round(times[-1], 2),
        seconds_by_phase=spent,
        bytes_total=view.bytes_total,
        bytes_stored=view.bytes_stored,
        objects=view.objects,
        longest_halt_seconds=view.longest_halt_seconds,
        restarts=sum(node.restarts for node in view.nodes),
        warnings=view.warnings,
    )


def table(report: DemoReport) -> Table:
    made = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in _rows(report):
        made.add_row(f"[dim]{name}[/]", value)
    return made


def _rows(report: DemoReport) -> Iterator[tuple[str, str]]:
    yield "cluster", f"Weaviate {report.weaviate_version}, {report.nodes} nodes"
    yield "data", f"{report.objects_loaded:,} objects, loaded in {report.load_seconds:.1f} s"
    yield "backup", _transfer(report.backup)
    if report.backup.longest_halt_seconds is not None:
        yield "longest halt of a shard", f"{report.backup.longest_halt_seconds * 1000:.0f} ms"
    yield "in the store", f"{report.store}: {report.stored_objects} objects, {report.stored_bytes / 1e6:,.1f} MB"
    yield "restore", _transfer(report.restore)
    verdict = "[green]no difference[/]" if not report.differences else f"[red]{len(report.differences)} differences[/]"
    yield "before and after", f"{report.questions:,} answers compared: {verdict}"
    yield "in all", f"{report.total_seconds:.0f} s"
    for warning in (*report.backup.warnings, *report.restore.warnings):
        yield "warning", warning


def _transfer(done: Transfer) -> str:
    phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in done.seconds_by_phase.items())
    return f"{done.phase} in {done.seconds:.1f} s ({phases}); {done.bytes_total / 1e6:,.1f} MB of files"
