"""What a restore did not bring back is told in its status, beside what its plan warned of."""

from datetime import UTC, datetime

import pytest

from weaviate_backup.api.reading import read_object
from weaviate_backup.api.restore import Restore, RestorePhase, RestoreStatus
from weaviate_backup.api.status import Finding
from weaviate_backup.controller.backup_status import Sight
from weaviate_backup.controller.restore_status import show_restore
from weaviate_backup.core.orders import NodeState
from weaviate_backup.core.restore_machine import RestoreState
from weaviate_backup.core.session import Confirmed, NodeReport

NOW = datetime(2026, 12, 1, tzinfo=UTC)
NODES = tuple(NodeState(name) for name in ("n0", "n1"))
PLANNED = Finding(reason="NotPinned", message="by the plan")


def confirmed(*left: str) -> Confirmed:
    return Confirmed(
        collections=("Article",), shards=1, files=1, late_writes_left=len(left), late_writes_left_names=left
    )


def report(node: str, told: Confirmed | None) -> NodeReport:
    return NodeReport(operation_uid="x", session_id="s", node=node, revision=1, confirmed=told)


def warnings(
    *told: Confirmed | None, phase: RestorePhase = RestorePhase.COMPLETED, before: tuple[Finding, ...] = (PLANNED,)
) -> tuple[Finding, ...]:
    source = {"locationRef": {"name": "store"}, "backupID": "nightly"}
    body = {"metadata": {"uid": "x", "generation": 1}, "spec": {"source": source}}
    restore = read_object(Restore, body, cure="")
    restore = restore.model_copy(update={"status": RestoreStatus(phase=phase, warnings=before)})
    reports = {node.name: report(node.name, each) for node, each in zip(NODES, told, strict=False)}
    state = RestoreState(phase=phase, nodes=NODES)
    return show_restore(restore, state, plan=None, sight=Sight(reports=reports), now=NOW).warnings


@pytest.mark.parametrize("phase", [RestorePhase.VERIFYING, RestorePhase.COMPLETED])
def test_late_writes_that_were_left_are_warned_of(phase: RestorePhase) -> None:
    planned, left = warnings(confirmed("Article/t1"), confirmed("Article/t2", "Article/t3"), phase=phase)
    assert planned == PLANNED
    assert left.reason == "LateWritesLeft"
    assert left.message.startswith("3 tenants were not active")
    assert left.message.endswith(": Article/t1, Article/t2, Article/t3")


def test_the_last_look_of_all_nodes_counts() -> None:
    told = warnings(confirmed("Article/t1"), confirmed())
    assert warnings(confirmed(), confirmed(), before=told) == (PLANNED,)
    assert [each.reason for each in warnings(confirmed("Article/t1"), confirmed(), before=told)] == [
        "NotPinned",
        "LateWritesLeft",
    ]


@pytest.mark.parametrize("gone", [(), (None,), (None, confirmed())])
def test_what_was_warned_of_stays_when_agents_are_gone(gone: tuple[Confirmed | None, ...]) -> None:
    told = warnings(confirmed("Article/t1"), confirmed())
    assert warnings(*gone, before=told) == told


def test_it_is_told_however_much_else_is_and_within_a_bound() -> None:
    many = (PLANNED,) * 16
    told = warnings(confirmed(*(f"Article/{'t' * 60}{number}" for number in range(16))), confirmed(), before=many)
    assert len(told) == 16
    assert told[-1].reason == "LateWritesLeft"
    assert len(told[-1].message) <= 256
