"""Rounds can be repeated from their numbers, and the judge of histories can say no."""

from collections.abc import Sequence

import pytest
from e2e.chaos_rounds.drawing import (
    BACKUP_PHASES,
    CHANGES,
    CHANGING,
    KINDS,
    NODES,
    RESTORE_PHASES,
    STILL,
    draw,
)
from e2e.chaos_rounds.judging import (
    Change,
    Span,
    State,
    impossible,
    of_what_lived,
    possible,
    untold,
    without_excused,
    written_again,
)

SPAN = Span(began=0, ended=10)
INSERTED = Change(1, -10, -9)
UPDATED = Change(2, -5, -4)
DELETED = Change(None, -3, -2)
UNKNOWN_BEFORE = Change(3, -2, None)
ACROSS_THE_BEGIN = Change(4, -1, 1)
DURING = Change(5, 4, 5)
UNKNOWN_DURING = Change(6, 6, None)
AFTERWARDS = Change(7, 11, 12)


def test_the_same_numbers_draw_the_same_round() -> None:
    assert [draw(3, number) for number in range(50)] == [draw(3, number) for number in range(50)]
    assert draw(3, 17) != draw(4, 17)
    assert draw(3, 17).number == 17


def test_everything_is_drawn_some_time_and_within_its_bounds() -> None:
    rounds = [draw(1, number) for number in range(1500)]
    for strikes, phases in (
        ([strike for drawn in rounds for strike in drawn.backup_strikes], BACKUP_PHASES),
        ([strike for drawn in rounds for strike in drawn.restore_strikes], RESTORE_PHASES),
    ):
        assert {strike.kind for strike in strikes} == {*KINDS}
        assert {strike.phase for strike in strikes} == {*phases}
        for strike in strikes:
            kind = KINDS[strike.kind]
            assert kind.shortest_seconds <= strike.lasts_seconds <= kind.longest_seconds
            assert len({*strike.target} & {*range(NODES)}) == {"node": 1, "nodes": 2}.get(kind.target, 0)
    assert {change for drawn in rounds for change in drawn.changes} == {*CHANGES}
    assert {name for drawn in rounds for name in drawn.include} == {*STILL, *CHANGING}
    assert {drawn.method for drawn in rounds} == {"Agent", "Server"}


@pytest.mark.parametrize(
    ("changes", "states"),
    [
        ([INSERTED], {1}),
        ([INSERTED, UPDATED], {2}),
        ([INSERTED, DELETED], {None}),
        ([INSERTED, UNKNOWN_BEFORE], {1, 3}),
        ([UNKNOWN_BEFORE], {3, None}),
        ([INSERTED, ACROSS_THE_BEGIN], {1, 4}),
        ([INSERTED, DURING, UNKNOWN_DURING], {1, 5, 6}),
        ([DURING], {5, None}),
        ([AFTERWARDS], {None}),
        ([INSERTED, AFTERWARDS], {1}),
        ([], {None}),
    ],
)
def test_only_states_of_the_span_are_possible(changes: Sequence[Change], states: set[State]) -> None:
    assert possible(changes, SPAN) == states


def test_what_is_lost_undone_or_made_up_is_named() -> None:
    history = {
        "lost": [INSERTED],
        "undone": [INSERTED, UPDATED],
        "risen": [INSERTED, DELETED],
        "right": [INSERTED, DURING],
    }
    found: dict[str, State] = {"undone": 1, "risen": 1, "right": 5, "made up": 9}
    lines = [*impossible("object", history, found, SPAN)]
    assert [line.split(":")[0] for line in lines] == ["object made up", "object lost", "object undone", "object risen"]
    assert [*impossible("object", history, {"lost": 1, "undone": 2, "right": 1}, SPAN)] == []


def test_what_the_database_lost_itself_is_not_asked_for() -> None:
    assert without_excused(["object a: is None", "object b: is None"], ["object a: is 3"]) == ["object b: is None"]


def test_an_object_that_was_written_later_says_nothing_of_what_was_cut() -> None:
    span = Span(10.0, 20.0)
    history = {
        "a": [Change(1, 9.0, 9.5)],
        "b": [Change(1, 9.0, 9.5), Change(2, 10.0, None)],
        "t/c": [Change(3, 25.0, 26.0)],
    }
    assert [*written_again("Moving", history, span)] == ["Moving b: was written again", "Moving/t c: was written again"]
    missed = ["Moving a: not found by its vector at x", "Moving b: not found by its vector at x"]
    assert without_excused(missed, [*written_again("Moving", history, span)]) == missed[:1]


def test_a_loss_that_the_living_have_too_is_the_database_s() -> None:
    lost, kept = "filter A through node 0: near 1 2: was 5 results (a), is 4 results (b)", "alias B: gone, was A"
    scored, new = "search A through node 0: nearVector 1: x scored 0.1, now 0.2", "tenant A/t: new, is HOT"
    everything = [lost, kept, scored, new]
    assert of_what_lived(everything, []) == []
    assert of_what_lived(everything, everything) == everything
    assert of_what_lived(everything, [lost.replace("is 4", "is 3"), scored]) == [lost, scored]
    assert of_what_lived([lost], [lost.replace("near 1 2", "near 3 4")]) == []


def test_debris_is_of_a_node_that_the_status_names() -> None:
    keys = ["b/operation.json", "b/w-0/A/chunk-1", "b/w-1/backup.json"]
    whole = [{"name": "w-0", "phase": "Released"}, {"name": "w-1", "phase": "Released"}]
    assert untold("b", keys, whole) == keys
    assert untold("b", keys, [whole[0], {"name": "w-1", "phase": "Unreachable"}]) == ["b/w-0/A/chunk-1"]
    assert untold("b", keys, [{"name": "w-0", "phase": "Released", "reason": "DeleteDenied"}, whole[1]]) == [keys[2]]
    assert untold("b", keys, []) == keys
    assert untold("b", [], whole) == []
