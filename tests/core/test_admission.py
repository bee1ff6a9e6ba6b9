"""How long what forbids a start is waited for, and that nothing before it is tried again without a pause."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.core.backup_model import PLAN, UID

from weaviate_backup.core.admission import Admitted, Passing, Refused, Wait, admit
from weaviate_backup.core.orders import WATCH_SECONDS, AcquireLease, Command, Lease, StorePlan
from weaviate_backup.core.session import Failure
from weaviate_backup.core.stepping import Agents
from weaviate_backup.core.world import World

SINCE = datetime(2026, 11, 25, 7, 0, tzinfo=UTC)
NOBODY = Agents(operation_uid=UID, pods={}, reports={}, troubles={})
FINAL = Failure(reason="LocationSuspended", message="suspended", transient=False)
USUAL = Failure(reason="NodeNotReady", message="not ready", transient=True)
SHORT = Passing(reason="BucketNotFound", message="no bucket", transient=True, patience_seconds=20)
LONG = Passing(reason="LocationNotReady", message="being tried", transient=True, patience_seconds=300)


def after(seconds: float, *refusals: Failure) -> object:
    world = World(agents=NOBODY, lease=Lease.FREE, refusals=refusals)
    now = SINCE + timedelta(seconds=seconds)
    return admit(world, waiting_since=SINCE, now=now)


@pytest.mark.parametrize(("refusal", "seconds"), [(FINAL, -1), (SHORT, 20), (USUAL, 60), (LONG, 300)])
def test_each_refusal_is_waited_for_within_its_own_patience(refusal: Failure, seconds: float) -> None:
    if seconds > 0:
        waiting = after(seconds, refusal)
        assert isinstance(waiting, Wait)
        assert waiting.reason == refusal.reason
    assert after(seconds + 1, refusal) == Refused(refusal.reason, refusal.message)


def test_the_one_whose_patience_is_over_is_the_reason() -> None:
    assert after(30, LONG, SHORT, USUAL) == Refused("BucketNotFound", "no bucket")


@pytest.mark.parametrize(
    ("lease", "command"), [(Lease.FREE, AcquireLease()), (Lease.OURS, StorePlan(plan=PLAN))], ids=["lease", "plan"]
)
def test_a_command_that_came_to_nothing_is_the_reason_to_wait_or_to_end(lease: Lease, command: Command) -> None:
    def after_failure(*failures: Failure) -> object:
        world = World(agents=NOBODY, lease=lease, proposal=PLAN, failed={type(command): each for each in failures})
        return admit(world, waiting_since=SINCE, now=SINCE)

    assert after_failure() == Wait("", "", (command,), 0.0)
    waiting = after_failure(USUAL)
    assert isinstance(waiting, Wait)
    assert (waiting.reason, waiting.message, waiting.commands) == (USUAL.reason, USUAL.message, (command,))
    assert waiting.look_again_seconds >= 1
    assert after_failure(FINAL) == Refused(FINAL.reason, FINAL.message)


def test_what_comes_first_is_asked_first() -> None:
    """Nothing is taken while something forbids the start, and nothing planned before the StatefulSet is ours."""

    def at(lease: Lease, **seen: Any) -> Refused | Wait | Admitted:
        return admit(World(agents=NOBODY, lease=lease, **seen), waiting_since=SINCE, now=SINCE)

    refused = at(Lease.FREE, refusals=(USUAL,), proposal=PLAN)
    assert isinstance(refused, Wait)
    assert (refused.reason, refused.commands) == ("NodeNotReady", ())
    for lease, holder, said in (
        (Lease.OTHERS, "b/nightly", "waiting for b/nightly on the same StatefulSet"),
        (Lease.OTHERS, "", "waiting for another operation on the same StatefulSet"),
        (Lease.UNKNOWN, "", "waiting for another operation on the same StatefulSet"),
    ):
        queued = at(lease, lease_holder=holder, native_backup="n", proposal=PLAN)
        assert queued == Wait("Queued", said, (), WATCH_SECONDS)
    taken = at(Lease.FREE, native_backup="n", proposal=PLAN)
    assert isinstance(taken, Wait) and taken.commands == (AcquireLease(),)
    native = at(Lease.OURS, native_backup="n", proposal=PLAN)
    assert native == Wait("Queued", "waiting for Weaviate's own backup 'n'", (), WATCH_SECONDS)
    planning = at(Lease.OURS)
    assert isinstance(planning, Wait) and (planning.reason, planning.commands) == ("Planning", ())
    assert at(Lease.OURS, proposal=PLAN) == Wait("", "", (StorePlan(plan=PLAN),), 0.0)
    assert at(Lease.OURS, plan=PLAN) == Admitted()


def test_all_that_forbids_a_start_is_named_once() -> None:
    other = FINAL.model_copy(update={"message": "other"})
    assert after(0, FINAL, other, FINAL) == Refused("LocationSuspended", "suspended; other")
