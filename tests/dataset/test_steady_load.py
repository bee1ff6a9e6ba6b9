"""The judge of histories must be able to say no: lost, undone, risen and future states are all found."""

from datetime import UTC, datetime, timedelta

import pytest
from e2e.dataset.steady_load import Write, impossible

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


INSERTED = Write(1, _at(-10), _at(-9))
UPDATED = Write(2, _at(-5), _at(-4))
DELETED = Write(None, _at(-3), _at(-2))
IN_THE_CUT = Write(3, _at(0.1), _at(0.2))
AFTERWARDS = Write(4, _at(5), _at(6))


@pytest.mark.parametrize(
    ("writes", "found", "is_possible"),
    [
        ([INSERTED], 1, True),
        ([INSERTED], None, False),
        ([INSERTED, UPDATED], 2, True),
        ([INSERTED, UPDATED], 1, False),
        ([INSERTED, DELETED], None, True),
        ([INSERTED, DELETED], 1, False),
        ([INSERTED, IN_THE_CUT], 1, True),
        ([INSERTED, IN_THE_CUT], 3, True),
        ([INSERTED, AFTERWARDS], 1, True),
        ([INSERTED, AFTERWARDS], 4, False),
        ([IN_THE_CUT], None, True),
        ([AFTERWARDS], 4, False),
        ([AFTERWARDS], None, True),
    ],
)
def test_only_states_that_a_cut_can_have_had_are_possible(
    writes: list[Write], found: int | None, is_possible: bool
) -> None:
    restored = {} if found is None else {"a": found}
    wrong = impossible({"a": writes}, restored, cut_began=_at(0), cut_ended=_at(1))
    assert (wrong == []) is is_possible


def test_an_object_that_nobody_wrote_is_found() -> None:
    assert impossible({}, {"b": 1}, cut_began=_at(0), cut_ended=_at(1)) == ["b: nobody wrote it"]
