"""How long what forbids a start is waited for."""

from datetime import UTC, datetime, timedelta

import pytest

from weaviate_backup.core.admission import Gate, Passing, Refused, Wait, admit
from weaviate_backup.core.orders import Lease
from weaviate_backup.core.session import Failure

SINCE = datetime(2026, 11, 25, 7, 0, tzinfo=UTC)
FINAL = Failure(reason="LocationSuspended", message="suspended", transient=False)
USUAL = Failure(reason="NodeNotReady", message="not ready", transient=True)
SHORT = Passing(reason="BucketNotFound", message="no bucket", transient=True, patience_seconds=20)
LONG = Passing(reason="LocationNotReady", message="being tried", transient=True, patience_seconds=300)


def after(seconds: float, *refusals: Failure) -> object:
    gate = Gate(
        lease=Lease.FREE,
        lease_holder="",
        native_backup=None,
        refusals=refusals,
        proposal=None,
        plan_stored=False,
    )
    return admit(gate, waiting_since=SINCE, now=SINCE + timedelta(seconds=seconds))


@pytest.mark.parametrize(("refusal", "seconds"), [(FINAL, -1), (SHORT, 20), (USUAL, 60), (LONG, 300)])
def test_each_refusal_is_waited_for_within_its_own_patience(refusal: Failure, seconds: float) -> None:
    if seconds > 0:
        waiting = after(seconds, refusal)
        assert isinstance(waiting, Wait)
        assert waiting.reason == refusal.reason
    assert after(seconds + 1, refusal) == Refused(refusal.reason, refusal.message)


def test_the_one_whose_patience_is_over_is_the_reason() -> None:
    assert after(30, LONG, SHORT, USUAL) == Refused("BucketNotFound", "no bucket")
