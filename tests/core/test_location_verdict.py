"""The verdict on a location: whatever fails, on one worker or both, is named with cause, place and identity."""

import itertools

import pytest

from weaviate_backup.core.location_verdict import Sight, Verdict, judge
from weaviate_backup.core.session import Failure, ProbeAction, Probed, Tried

SHARE = ProbeAction.SHARE
STORE_ACTIONS = tuple(action for action in ProbeAction if action is not SHARE)
DENIED = Failure(reason="AccessDenied", message="bucket 'b': forbidden", transient=False)
BROKEN = Failure(reason="StoreUnavailable", message="spec.s3.endpoint 'e' broke off", transient=True)
IDENTITY = "access key AKIA…WXYZ"


def sight(
    node: str,
    failures: dict[ProbeAction, Failure] | None = None,
    *,
    met: bool = True,
    meeting: Failure | None = None,
    skew_seconds: float | None = 0.1,
) -> Sight:
    tried = tuple(Tried(action=action, failure=(failures or {}).get(action)) for action in STORE_ACTIONS)
    probed = Probed(tried=tried, identity=IDENTITY, clock_skew_seconds=skew_seconds)
    return Sight(worker=f"pod-{node}", node=node, probed=probed, met=met and meeting is None, meeting=meeting)


def unseen(reason: str = "Unschedulable") -> Sight:
    return Sight(worker="pod-b", failure=Failure(reason=reason, message="0/3 nodes are available", transient=True))


def judged(*sights: Sight, kind: str = "s3", read_only: bool = False) -> Verdict:
    return judge(sights, address="s3://b/p", kind=kind, read_only=read_only)


def test_what_works_is_ready_and_says_what_was_tried_where() -> None:
    verdict = judged(sight("a"), sight("b"))
    assert verdict.ready
    assert "node a and node b" in verdict.message
    assert all(f"{action.value}" in verdict.message for action in ProbeAction)
    assert verdict.capabilities == dict.fromkeys(ProbeAction, True)
    assert verdict.warnings == ()


@pytest.mark.parametrize(
    ("action", "failure", "where"),
    [
        case
        for case in itertools.product(STORE_ACTIONS, (DENIED, BROKEN), ("first", "second", "both"))
        if case[:2] != (ProbeAction.DELETE, DENIED)  # a warning
    ],
)
def test_any_action_that_fails_anywhere_is_the_reason(action: ProbeAction, failure: Failure, where: str) -> None:
    first = sight("a", {action: failure} if where != "second" else None)
    second = sight("b", {action: failure} if where != "first" else None)
    verdict = judged(first, second)
    assert verdict.reason == failure.reason
    assert failure.message in verdict.message
    assert verdict.capabilities[action] is False
    assert ("on node a, but not on node b" in verdict.message) == (where == "first")
    assert ("on node b, but not on node a" in verdict.message) == (where == "second")
    assert (IDENTITY in verdict.message) == (failure is DENIED)
    assert "\n" not in verdict.message


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(STORE_ACTIONS, 2)))
def test_the_first_action_is_the_reason_and_all_denied_ones_are_named(one: ProbeAction, other: ProbeAction) -> None:
    denied = judged(sight("a", {one: DENIED, other: DENIED}), sight("b", {one: DENIED, other: DENIED}))
    assert f"{one.value} and {other.value} denied as {IDENTITY}" in denied.message
    mixed = judged(sight("a", {one: BROKEN, other: DENIED}), sight("b", {one: BROKEN, other: DENIED}))
    assert mixed.reason == "StoreUnavailable"


def test_a_refusal_of_credentials_names_them() -> None:
    refused = Failure(reason="InvalidCredentials", message="the store refuses the Secret", transient=False)
    verdict = judged(sight("a", {ProbeAction.CHECK: refused}), sight("b", {ProbeAction.CHECK: refused}))
    assert verdict.message == f"the store refuses the Secret (asked as {IDENTITY})"


@pytest.mark.parametrize(("kind", "cure"), [("filesystem", "ReadWriteMany"), ("s3", "endpoint and DNS")])
def test_workers_that_do_not_see_each_other_share_nothing(kind: str, cure: str) -> None:
    apart = Failure(reason="LocationNotShared", message="it is not there", transient=False)
    verdict = judged(sight("a", meeting=apart), sight("b"), kind=kind)
    assert verdict.reason == "LocationNotShared"
    assert cure in verdict.message
    assert "node a" in verdict.message
    assert verdict.capabilities[SHARE] is False


def test_a_meeting_that_broke_off_is_not_taken_for_a_store_that_is_not_shared() -> None:
    verdict = judged(sight("a", meeting=BROKEN), sight("b"))
    assert (verdict.reason, verdict.message) == ("StoreUnavailable", f"on node a: {BROKEN.message}")


def test_a_read_only_volume_that_is_empty_on_one_node_only_is_not_shared() -> None:
    def reader(node: str, *, empty: bool) -> Sight:
        tried = (Tried(action=ProbeAction.CHECK), Tried(action=ProbeAction.LIST), Tried(action=ProbeAction.READ))
        return Sight(worker=node, node=node, probed=Probed(tried=tried, empty=empty))

    for first, second in itertools.product((True, False), repeat=2):
        verdict = judged(reader("a", empty=first), reader("b", empty=second), kind="filesystem", read_only=True)
        assert verdict.ready == (first == second)
        assert set(verdict.capabilities) == {ProbeAction.CHECK, ProbeAction.LIST, ProbeAction.READ}


def test_a_second_worker_that_does_not_start_matters_to_volumes_only() -> None:
    bucket = judged(sight("a", met=False), unseen())
    assert bucket.ready
    assert [warning.reason for warning in bucket.warnings] == ["ProbeIncomplete"]
    assert "0/3 nodes" in bucket.warnings[0].message
    assert SHARE not in bucket.capabilities
    volume = judged(sight("a", met=False), unseen("FailedAttachVolume"), kind="filesystem")
    assert volume.reason == "LocationNotShared"
    assert "FailedAttachVolume: 0/3 nodes" in volume.message
    assert "spec.filesystem.volume" in volume.message


@pytest.mark.parametrize("kind", ["s3", "filesystem"])
def test_workers_that_both_do_not_start_say_why(kind: str) -> None:
    verdict = judged(unseen(), unseen(), kind=kind)
    assert (verdict.reason, verdict.message) == ("Unschedulable", "0/3 nodes are available")
    assert verdict.capabilities == {}


def test_a_store_that_fails_is_named_before_a_worker_that_does_not_start() -> None:
    assert judged(sight("a", {ProbeAction.WRITE: DENIED}), unseen(), kind="filesystem").reason == "AccessDenied"


@pytest.mark.parametrize(("seconds", "side"), [(61.0, "behind"), (-300.0, "ahead of")])
def test_a_clock_that_is_off_is_warned_about(seconds: float, side: str) -> None:
    verdict = judged(sight("a"), sight("b", skew_seconds=seconds))
    assert verdict.ready
    assert [warning.reason for warning in verdict.warnings] == ["ClockSkewed"]
    assert f"clock of node b is {abs(seconds):.0f} s {side} the store's" in verdict.warnings[0].message
    assert judged(sight("a", skew_seconds=59.0), sight("b", skew_seconds=None)).warnings == ()


def test_a_refusal_for_the_clock_says_how_far_it_is_off() -> None:
    refused = Failure(reason="RequestTimeTooSkewed", message="set the node's clock", transient=True)
    off = {ProbeAction.CHECK: refused}
    verdict = judged(sight("a", off, skew_seconds=-1200.0), sight("b", off, skew_seconds=-1200.0))
    assert "1200 s ahead of the store's" in verdict.message


def test_a_store_that_ignores_conditions_is_usable_with_a_warning() -> None:
    lacking = Failure(reason="WriteOnceUnsupported", message="it replaces objects", transient=False)
    verdict = judged(sight("a", {ProbeAction.WRITE_ONCE: lacking}), sight("b", {ProbeAction.WRITE_ONCE: lacking}))
    assert verdict.ready
    assert verdict.capabilities[ProbeAction.WRITE_ONCE] is False
    assert [warning.reason for warning in verdict.warnings] == ["WriteOnceUnsupported"]


def test_a_mark_that_cannot_be_deleted_is_a_denied_delete() -> None:
    first = sight("a")
    parting = Sight(worker="pod-a", node="a", probed=first.probed, met=True, parting=DENIED)
    verdict = judged(parting, sight("b"))
    assert verdict.ready
    assert [warning.reason for warning in verdict.warnings] == ["DeleteDenied"]


def test_an_identity_that_may_not_delete_is_enough_with_a_warning() -> None:
    denied = {ProbeAction.DELETE: DENIED}
    verdict = judged(sight("a", denied), sight("b", denied))
    assert verdict.ready
    assert verdict.capabilities[ProbeAction.DELETE] is False
    (warning,) = verdict.warnings
    assert warning.reason == "DeleteDenied"
    assert warning.message.startswith(f"{IDENTITY} may not delete objects")


def test_a_deletion_that_fails_otherwise_is_a_refusal() -> None:
    verdict = judged(sight("a", {ProbeAction.DELETE: BROKEN}), sight("b"))
    assert verdict.reason == BROKEN.reason


def test_who_is_not_there_is_no_warning_when_nobody_is() -> None:
    assert judged(unseen(), unseen()).warnings == ()
    assert judged(sight("a"), sight("b")).warnings == ()


def test_a_clock_is_off_from_a_minute_on() -> None:
    for seconds in (60.0, -60.0):
        assert [each.reason for each in judged(sight("a", skew_seconds=seconds), sight("b")).warnings] == [
            "ClockSkewed"
        ]
