"""What the server's words mean for an operation that was asked for."""

import pytest

from weaviate_backup.api.status import WeaviateStatus
from weaviate_backup.core.orders import Outcome, ServerRun
from weaviate_backup.core.server_following import (
    ASKING_SECONDS,
    GIVE_UP_SECONDS,
    ORPHAN_SECONDS,
    SETTLE_SECONDS,
    Course,
    ServerSight,
    course_of,
    is_final,
    is_over,
    outcome_unconfirmed,
    unconfirmed,
    why_it_ended,
)
from weaviate_backup.core.server_restore import is_cancelable
from weaviate_backup.core.session import Failure

RUN = ServerRun(node="weaviate-0", process="pod/0", accepted=True)


def sight(status: str | None, process: str = "pod/0") -> ServerSight:
    return ServerSight(node="weaviate-0", process=process, status=WeaviateStatus(status) if status else None)


@pytest.mark.parametrize(
    ("status", "process", "course"),
    [
        ("STARTED", "pod/0", Course.UNDER_WAY),
        ("FINALIZING", "pod/0", Course.UNDER_WAY),
        ("CANCELLING", "pod/0", Course.UNDER_WAY),
        ("TRANSFERRING", "pod/1", Course.ORPHANED),
        ("SUCCESS", "pod/1", Course.SUCCEEDED),
        ("CANCELED", "pod/0", Course.CANCELED),
        (None, "pod/0", Course.GONE),
    ],
)
def test_a_status_without_its_process_is_an_orphan(status: str | None, process: str, course: Course) -> None:
    assert course_of(RUN, sight(status, process)) is course


def test_how_long_an_end_is_waited_for() -> None:
    assert is_over(RUN, sight("CANCELED"), waited_seconds=0)
    asked = ServerRun(node="weaviate-0", process="pod/0")
    for status, limit, run in (
        ("STARTED", GIVE_UP_SECONDS, RUN),
        (None, SETTLE_SECONDS, asked),
        ("SUCCESS", SETTLE_SECONDS, asked),
    ):
        assert not is_over(run, sight(status), waited_seconds=limit)
        assert is_over(run, sight(status), waited_seconds=limit + 1)
    orphan = sight("STARTED", "pod/1")
    assert not is_over(RUN, orphan, waited_seconds=ORPHAN_SECONDS)
    assert is_over(RUN, orphan, waited_seconds=ORPHAN_SECONDS + 1)
    assert not is_over(RUN, None, waited_seconds=GIVE_UP_SECONDS)
    assert is_over(RUN, None, waited_seconds=GIVE_UP_SECONDS + 1)


@pytest.mark.parametrize(
    ("course", "reason", "said"),
    [
        (Course.CANCELED, "CanceledAtServer", "Weaviate's own backup was canceled, not by this object: disk full"),
        (Course.GONE, "VanishedAtServer", "Weaviate began the backup and knows nothing of it any more"),
        (Course.FAILED, "ServerFailed", "Weaviate's own backup failed: disk full"),
    ],
)
def test_an_end_that_is_no_success_is_told_with_the_servers_words(course: Course, reason: str, said: str) -> None:
    seen = ServerSight(node="weaviate-0", process="pod/0", status=None, error="disk full")
    failure = why_it_ended(course, RUN, seen, what="backup")
    assert (failure.reason, failure.transient) == (reason, False)
    assert failure.message.startswith(said)
    bare = why_it_ended(course, RUN, sight(None), what="backup")
    assert not bare.message.endswith(":") and "disk" not in bare.message


def test_what_may_still_be_at_work_is_said() -> None:
    assert unconfirmed(RUN, None)
    assert unconfirmed(RUN, sight("STARTED"))
    assert not unconfirmed(RUN, sight("STARTED", "pod/1"))
    assert not unconfirmed(RUN, sight("FAILED"))
    assert not unconfirmed(None, None)
    cause = Failure(reason="TimedOut", message="too late", transient=False)
    canceled = outcome_unconfirmed(Outcome.CANCELED, cause, what="restore")
    assert canceled.reason == "CancelUnconfirmed"
    assert canceled.message.endswith("own restore, and may complete it (too late)")
    failed = outcome_unconfirmed(Outcome.FAILED, cause, what="restore")
    assert failed.reason == "TimedOut"
    assert failed.message.startswith("too late; Weaviate did not confirm")


def test_a_request_is_made_again_while_its_refusal_may_pass() -> None:
    passing = Failure(reason="ServerBusy", message="another", transient=True)
    assert not is_final(None, asked_seconds=ASKING_SECONDS + 1)
    assert not is_final(passing, asked_seconds=ASKING_SECONDS)
    assert is_final(passing, asked_seconds=ASKING_SECONDS + 1)
    assert is_final(passing.model_copy(update={"transient": False}), asked_seconds=0)


def test_an_orphan_is_explained() -> None:
    failure = why_it_ended(Course.ORPHANED, RUN, sight("STARTED", "pod/1"), what="backup")
    assert failure.reason == "CoordinatorLost"
    assert "weaviate-0" in failure.message


@pytest.mark.parametrize(
    ("version", "cancelable"), [("1.35.23", False), ("1.36.0", True), ("1.40.0-rc.1", True), ("2.0.0", True)]
)
def test_restores_can_be_canceled_since_1_36(version: str, cancelable: bool) -> None:
    assert is_cancelable(version) is cancelable
