"""When a location is tried again, by every fact that decides it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from weaviate_backup.core.location_watch import RETRY_SECONDS, Known, due_in_seconds

NOW = datetime(2026, 11, 25, 7, 0, tzinfo=UTC)
READY = Known(generation=3, secrets_version="v1", tried_at=NOW - timedelta(seconds=60), ready=True, tried=True)
FAILING = replace(READY, ready=False)
HOURS = 4 * 3600.0


def due(known: Known, *, failures: int = 0, wanted_seconds_ago: float | None = None, suspended: bool = False) -> float:
    wanted_at = None if wanted_seconds_ago is None else NOW - timedelta(seconds=wanted_seconds_ago)
    return due_in_seconds(
        known,
        generation=3,
        secrets_version="v1",
        suspended=suspended,
        wanted_at=wanted_at,
        failures=failures,
        interval_seconds=HOURS,
        now=NOW,
    )


@pytest.mark.parametrize(
    "known",
    [
        replace(READY, generation=None, tried_at=None),
        replace(READY, generation=2),
        replace(READY, secrets_version="v0"),
        replace(READY, tried=False),
        replace(READY, tried_at=NOW - timedelta(hours=5)),
        replace(FAILING, generation=2),
        replace(FAILING, secrets_version="v0"),
    ],
    ids=["new", "changed", "rotated", "interrupted or resumed", "old", "failing, changed", "failing, rotated"],
)
def test_due_now(known: Known) -> None:
    assert due(known) <= 0


def test_one_that_works_is_left_alone_for_hours_whoever_wants_it() -> None:
    assert due(READY) == HOURS - 60
    assert due(READY, wanted_seconds_ago=1) == HOURS - 60


@pytest.mark.parametrize(("failures", "pause"), [(0, 5.0), *enumerate(RETRY_SECONDS, start=1), (99, 300.0)])
def test_one_that_fails_is_tried_ever_more_rarely(failures: int, pause: float) -> None:
    assert due(FAILING, failures=failures) == pause - 60


def test_one_that_fails_is_tried_at_once_for_who_came_after_the_verdict() -> None:
    assert due(FAILING, failures=9, wanted_seconds_ago=59) <= 0
    assert due(FAILING, failures=9, wanted_seconds_ago=61) > 0


def test_a_suspended_one_is_shown_so_once_and_then_left_alone() -> None:
    assert due(replace(READY, generation=2), suspended=True) <= 0
    assert due(replace(READY, secrets_version="v0", tried=False), suspended=True) == HOURS
