"""What is kept of an agent's pod says all that is asked of it, and no more than a pod can have to say."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from weaviate_backup.api.resources import POD, only
from weaviate_backup.controller.pod_state import MOST_BYTES, agent_address, agent_pod_state, may_end, reduced
from weaviate_backup.layout.json_bounds import memory_of

Json = dict[str, Any]
METADATA = {
    "name": "agent",
    "namespace": "a",
    "uid": "u",
    "creationTimestamp": "2026-11-30T08:00:00Z",
    "annotations": {"note": "x" * 200_000},
    "managedFields": [{"fieldsV1": {"f:a": {}}}] * 100,
    "ownerReferences": [{"uid": "o", "kind": "WeaviateBackup"}],
}


def container(**state: Json) -> Json:
    made = {"name": "agent", "ready": False, "restartCount": 0, "imageID": "i" * 5000, "state": state}
    return {"containerStatuses": [made]}


STATUSES: dict[str, Json] = {
    "new": {"phase": "Pending"},
    "without a node": {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
        ],
    },
    "without an image": {
        "phase": "Pending", **container(waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling image"}),
    },
    "without volumes": {"phase": "Pending", **container(waiting={"reason": "ContainerCreating"})},
    "running": {"phase": "Running", "podIP": "10.0.0.7", **container(running={"startedAt": "2026-11-30T08:00:00Z"})},
    "ended": {
        "phase": "Failed", **container(terminated={"reason": "Error", "exitCode": 3, "message": "the store is gone"}),
    },
    "ended without a word": {"phase": "Failed", **container(terminated={"reason": "OOMKilled", "exitCode": 137})},
    "evicted": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
}  # fmt: skip


@pytest.mark.parametrize("status", STATUSES.values(), ids=list(STATUSES))
def test_what_is_kept_says_the_same(status: Json) -> None:
    pod = {"metadata": METADATA, "spec": {"nodeName": "n", "containers": [{"name": "agent"}] * 50}, "status": status}
    kept = reduced(only(pod, POD))
    assert agent_pod_state(kept) == agent_pod_state(pod)
    assert agent_address(kept, "agent") == agent_address(pod, "agent")
    assert kept["metadata"]["ownerReferences"] == [{"uid": "o"}]
    assert memory_of(kept) < 4096


def test_of_a_pod_with_more_to_say_only_that_it_is_there() -> None:
    status = {"phase": "Running", "podIP": "10.0.0.7", "message": "x" * MOST_BYTES}
    kept = reduced({"metadata": METADATA, "status": status})
    assert kept["metadata"]["uid"] == "u" and "status" not in kept
    assert agent_address(kept, "agent") is None


@pytest.mark.parametrize(
    ("seconds", "told", "worth"),
    [
        (None, False, True),
        (None, True, False),
        (10, True, True),
        (-30, True, True),
        (-3600, True, False),
        (3e8, True, False),
    ],
    ids=["not told", "made anew", "ending", "slow", "kept by a finalizer", "kept by its grace"],
)
def test_whose_end_is_waited_for(seconds: float | None, told: bool, worth: bool) -> None:
    now = datetime(2026, 11, 30, tzinfo=UTC)
    metadata = dict(METADATA)
    if seconds is not None:
        metadata["deletionTimestamp"] = (now + timedelta(seconds=seconds)).isoformat()
    assert may_end({"metadata": metadata}, now, told=told) is worth
