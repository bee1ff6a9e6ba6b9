"""Percent, rate and time left of an operation, from what its agents report. Pure; the clock comes as an argument."""

from collections.abc import Iterable
from dataclasses import dataclass

from weaviate_backup.api.model import MOST
from weaviate_backup.core.session import NodeReport, Progress, Step


@dataclass(frozen=True)
class Total:
    """The sum over all nodes. `percent` is of source bytes; 100 only when all are done."""

    bytes_total: int
    bytes_done: int
    bytes_reused: int
    bytes_stored: int
    files_total: int
    files_done: int

    @property
    def percent(self) -> int:
        if self.bytes_total <= 0:
            return 0
        return min(99 if self.bytes_done < self.bytes_total else 100, self.bytes_done * 100 // self.bytes_total)


@dataclass(frozen=True)
class Speed:
    """Over the whole transfer so far; `seconds_left` None until something moved."""

    bytes_per_second: int
    seconds_left: int | None


def total(reports: Iterable[NodeReport], step: Step) -> Total:
    found = [report.steps[step].progress for report in reports if step in report.steps]
    return Total(
        bytes_total=_sum(found, "bytes_total"),
        bytes_done=_sum(found, "bytes_done"),
        bytes_reused=_sum(found, "bytes_reused"),
        bytes_stored=_sum(found, "bytes_stored"),
        files_total=_sum(found, "files_total"),
        files_done=_sum(found, "files_done"),
    )


def speed(totals: Total, *, elapsed_seconds: float) -> Speed:
    moved = totals.bytes_done - totals.bytes_reused
    if elapsed_seconds <= 0 or moved <= 0:
        return Speed(bytes_per_second=0, seconds_left=None)
    rate = moved / elapsed_seconds
    return Speed(
        bytes_per_second=min(MOST, int(rate)),
        seconds_left=max(0, int((totals.bytes_total - totals.bytes_done) / rate)),
    )


def _sum(found: list[Progress], field: str) -> int:
    return min(MOST, sum(int(getattr(progress, field)) for progress in found))
