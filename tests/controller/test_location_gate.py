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
    ("changes", "found", "generation", "writing", "refusal", "patience_seconds"),
    [
        ({}, READY, 2, True, None, None),
        ({"readOnly": True}, READY, 2, False, None, None),
        ({"readOnly": True}, READY, 2, True, "LocationReadOnly", None),
        ({"suspend": True}, READY, 1, False, "LocationSuspended", None),
        ({}, (), None, True, "LocationNotReady", PROBED_SECONDS),
        ({}, READY, 1, True, "LocationNotReady", PROBED_SECONDS),
        ({}, FAILED, 1, True, "LocationNotReady", PROBED_SECONDS),
        ({}, SUSPENDED, 2, True, "LocationNotReady", PROBED_SECONDS),
        ({}, PROBING, 2, True, "LocationNotReady", PROBED_SECONDS),
        ({}, WAITING, 2, True, "FailedMount", TRIED_SECONDS),
        ({}, FAILED, 2, False, "BucketNotFound", TRIED_SECONDS),
    ],
    ids=[
        "ready", "read-only, read", "read-only, written", "suspended", "never tried", "changed", "failed and changed",
        "resumed", "being tried", "worker does not start", "does not work",
    ],
)  # fmt: skip
def test_refusals(
    changes: dict[str, bool],
    found: Conditions,
    generation: int | None,
    *,
    writing: bool,
    refusal: str | None,
    patience_seconds: float | None,
) -> None:
    spec = LocationSpec.model_validate({"s3": {"bucket": "backups"}, **changes})
    status = LocationStatus(observed_generation=generation, conditions=found)
    refused = refuse_use("store", spec, status, generation=2, writing=writing)
    assert [each.reason for each in refused] == ([refusal] if refusal else [])
    assert [each.patience_seconds for each in refused if isinstance(each, Passing)] == (
        [patience_seconds] if patience_seconds else []
    )
    assert all("store" in each.message for each in refused)
