"""Which shards are this node's, and how each is read."""

from typing import Any

import pytest

from weaviate_backup.agent.cgroup import parse_cpu_max, worker_count
from weaviate_backup.agent.expansion import TenantStatus, local_shards


def state(**shards: dict[str, Any]) -> dict[str, Any]:
    return {"partitioningEnabled": True, "physical": shards}


def test_only_this_nodes_replicas_count_old_states_included() -> None:
    found = local_shards(
        state(
            a={"belongsToNodes": ["weaviate-0", "weaviate-1"]},
            b={"belongsToNodes": ["weaviate-1"]},
            c={"belongsToNode": "weaviate-0", "belongsToNodes": None},
        ),
        "weaviate-0",
        collection="Article",
    )
    assert sorted(found.statuses) == ["a", "c"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, TenantStatus.ACTIVE),
        ("", TenantStatus.ACTIVE),
        ("HOT", TenantStatus.ACTIVE),
        ("COLD", TenantStatus.INACTIVE),
        ("FROZEN", TenantStatus.OFFLOADED),
        ("FREEZING", TenantStatus.MOVING),
        ("UNFREEZING", TenantStatus.MOVING),
    ],
)
def test_status_words(status: str | None, expected: TenantStatus) -> None:
    found = local_shards(state(a={"belongsToNodes": ["n"], "status": status}), "n", collection="Article")
    assert found.of(expected) == ("a",)


@pytest.mark.parametrize(
    ("text", "cpus"), [("max 100000", None), ("150000 100000", 1.5), ("-1 100000", None), ("", None)]
)
def test_quota(text: str, cpus: float | None) -> None:
    assert parse_cpu_max(text) == cpus


@pytest.mark.parametrize(
    ("percentage", "cpus", "workers"), [(50, 64, 6), (50, 2, 1), (50, 0.5, 1), (80, 4, 3), (50, 16, 6)]
)
def test_workers(percentage: int, cpus: float, workers: int) -> None:
    assert worker_count(percentage, cpus) == workers
