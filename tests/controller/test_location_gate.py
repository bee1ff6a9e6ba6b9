"""What location and status say against an operation, and for how long that is waited for."""

from datetime import UTC, datetime

import pytest

from weaviate_backup.api import conditions
from weaviate_backup.api.conditions import Conditions
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.location_status import LocationStatus
from weaviate_backup.controller.location_gate import PROBED_SECONDS, TRIED_SECONDS, refuse_use
from weaviate_backup.core.admission import Passing

NOW = datetime(2026, 11, 25, 7, 0, tzinfo=UTC)


def said(kind: str, reason: str) -> Conditions:
    make = {"ready": conditions.ready, "trying": conditions.progressing, "failed": conditions.stalled}[kind]
    return make((), reason=reason, message="as it is", generation=2, now=NOW)


READY, PROBING = said("ready", "Ready"), said("trying", "Probing")
WAITING, FAILED = said("trying", "FailedMount"), said("failed", "BucketNotFound")
SUSPENDED = said("failed", "LocationSuspended")


@pytest.mark.parametrize(
    ("changes", "found", "seen", "writing", "refusal", "patience_seconds"),
    [
        ({}, READY, (2, "v1"), True, None, None),
        ({"readOnly": True}, READY, (2, "v1"), False, None, None),
        ({"readOnly": True}, READY, (2, "v1"), True, "LocationReadOnly", None),
        ({"suspend": True}, READY, (1, "v1"), False, "LocationSuspended", None),
        ({}, (), (None, "v1"), True, "LocationNotReady", PROBED_SECONDS),
        ({}, READY, (1, "v1"), True, "LocationNotReady", PROBED_SECONDS),
        ({}, FAILED, (1, "v1"), True, "LocationNotReady", PROBED_SECONDS),
        ({}, SUSPENDED, (2, "v1"), True, "LocationNotReady", PROBED_SECONDS),
        ({}, PROBING, (2, "v1"), True, "LocationNotReady", PROBED_SECONDS),
        ({}, WAITING, (2, "v1"), True, "FailedMount", TRIED_SECONDS),
        ({}, FAILED, (2, "v1"), False, "BucketNotFound", TRIED_SECONDS),
        ({}, READY, (2, "v0"), True, "LocationNotReady", PROBED_SECONDS),
        ({}, FAILED, (2, "v0"), True, "LocationNotReady", PROBED_SECONDS),
        ({}, WAITING, (2, None), True, "FailedMount", TRIED_SECONDS),
    ],
    ids=[
        "ready", "read-only, read", "read-only, written", "suspended", "never tried", "changed", "failed and changed",
        "resumed", "being tried", "worker does not start", "does not work", "new Secret", "failed, new Secret",
        "first worker does not start",
    ],
)  # fmt: skip
def test_refusals(
    changes: dict[str, bool],
    found: Conditions,
    seen: tuple[int | None, str | None],
    *,
    writing: bool,
    refusal: str | None,
    patience_seconds: float | None,
) -> None:
    spec = LocationSpec.model_validate({"s3": {"bucket": "backups"}, **changes})
    status = LocationStatus(observed_generation=seen[0], secrets_version=seen[1], conditions=found)
    refused = refuse_use("store", spec, status, generation=2, secrets_version="v1", writing=writing)
    assert [each.reason for each in refused] == ([refusal] if refusal else [])
    assert [each.patience_seconds for each in refused if isinstance(each, Passing)] == (
        [patience_seconds] if patience_seconds else []
    )
    assert all("store" in each.message for each in refused)
