"""What a change of an agent's report is worth: counters may wait, everything else wakes the daemon at once. And what
the reports of many agents may take."""

import ssl
from collections.abc import AsyncIterator, Callable

import pytest

from weaviate_backup.agent_client import AgentClient
from weaviate_backup.controller import agent_links
from weaviate_backup.controller.agent_links import AgentAddress, AgentLinks, _Link, only_progressed
from weaviate_backup.core.orders import Unreachable
from weaviate_backup.core.session import (
    BackupContents,
    Inspected,
    NodeReport,
    Progress,
    Step,
    StepPhase,
    StepReport,
    Uploaded,
    Verified,
)
from weaviate_backup.errors import Permanent


def report(phase: StepPhase, done: int, *, revision: int = 1, session: str = "s", **changes: object) -> NodeReport:
    steps = {Step.UPLOAD: StepReport(phase=phase, progress=Progress(bytes_total=100, bytes_done=done))}
    values = {"operation_uid": "u", "session_id": session, "node": "n", "revision": revision, "steps": steps}
    return NodeReport.model_validate({**values, **changes})


BEFORE = report(StepPhase.RUNNING, 10)


def test_counters_of_a_running_step_may_wait() -> None:
    assert only_progressed(BEFORE, report(StepPhase.RUNNING, 20, revision=2))


@pytest.mark.parametrize(
    "after",
    [
        report(StepPhase.DONE, 10, revision=2),
        report(StepPhase.FAILED, 10, revision=2),
        report(StepPhase.RUNNING, 10, revision=1, session="another process"),
        report(
            StepPhase.RUNNING, 10, revision=2, uploaded=Uploaded(manifest_sha256="0" * 64, objects=1, bytes_stored=1)
        ),
    ],
    ids=["done", "failed", "restarted", "result"],
)
def test_everything_else_wakes(after: NodeReport) -> None:
    assert not only_progressed(BEFORE, after)


@pytest.mark.parametrize("before", [None, Unreachable(reason="AgentUnreachable", message="no answer")])
def test_a_first_answer_wakes(before: Unreachable | None) -> None:
    assert not only_progressed(before, BEFORE)


def inspected(collections: int) -> Inspected:
    names = tuple(f"Collection{number}" for number in range(collections))
    contents = BackupContents(
        server_version="1.39.1",
        layout_version="2.1",
        status="SUCCESS",
        leader="n",
        nodes=("n",),
        collections=names,
        nodes_of_collections=dict.fromkeys(names, tuple(f"weaviate-{number}" for number in range(30))),
        verifiable=True,
        bytes_total=1,
    )
    return Inspected(contents=contents, bytes_required=1, bytes_free=1)


@pytest.fixture
async def links() -> AsyncIterator[Callable[[int], AgentLinks]]:
    """Of an operation with that many agents, of which none ever answers."""
    made: list[AgentLinks] = []

    def make(agents: int) -> AgentLinks:
        found = AgentLinks(lambda: None, whose="tenant", silence_seconds=60)
        context = ssl.create_default_context()
        for number in range(agents):
            address = AgentAddress(pod_uid=str(number), host="127.0.0.1", server_name="n")
            client = AgentClient(host="127.0.0.1", server_name="n", tls=context)
            found._links[f"n-{number}"] = _Link(address=address, client=client)
        made.append(found)
        return found

    yield make
    for each in made:
        await each.close()
    assert not agent_links._held


async def test_what_all_agents_of_a_backup_tell_alike_is_kept_once(links: Callable[[int], AgentLinks]) -> None:
    """Thirty nodes with a thousand collections: 550 KiB of text each."""
    operation = links(30)
    for revision in range(1, 4):
        for number in range(30):
            told = report(StepPhase.DONE, 1, revision=revision, inspected=inspected(1000))
            operation.learn(f"n-{number}", told)
    kept = [answer for answer in operation.reports().values() if isinstance(answer, NodeReport)]
    assert len({id(answer.inspected and answer.inspected.contents) for answer in kept}) == 1
    assert 3 << 20 < agent_links._held["tenant"] < 6 << 20


async def test_reports_of_a_namespace_are_bounded_in_all(links: Callable[[int], AgentLinks]) -> None:
    first, second = links(1), links(64)
    said = {
        f"node-{number}": Verified(node="n", manifest_sha256="x" * 64, objects=1, bytes_stored=1)
        for number in range(9000)
    }
    first.learn("n-0", report(StepPhase.DONE, 1))
    with pytest.raises(Permanent, match=r"ReportsTooLarge: .* namespace tenant take more than 32 MiB"):
        for number in range(64):
            second.learn(f"n-{number}", report(StepPhase.DONE, 1, session=str(number), verified=said))
    assert 16 << 20 < agent_links._held["tenant"] < 32 << 20
    assert 2 < len(second.reports()) < 12, "those that came first"
    first.learn("n-0", report(StepPhase.DONE, 1, revision=2))
