"""Nobody asks for the length of a lease: the server is let go of, and what lies on the volume stays and goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.agent.hand_frozen import Node

from weaviate_backup.agent import runner as module
from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.runner import Runner
from weaviate_backup.agent.workspace import Workspace, operation_directory
from weaviate_backup.core.session import Step, StepCommand, StepPhase, Wire
from weaviate_backup.stored.meter import Meter

UID = "0b5f2c1e"
LEASE_SECONDS = 0.4


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(Runner, "_lease_seconds", lambda _: LEASE_SECONDS)


@dataclass
class Agent:
    """One whose steps end when they are told to. `let_go`: how often the server was."""

    runner: Runner
    go_on: asyncio.Event
    let_go: list[str] = field(default_factory=list)

    def take(self, step: Step) -> None:
        self.runner.take(StepCommand(operation_uid=UID, step=step))

    async def phase(self, step: Step) -> StepPhase:
        """Without being asked by it."""
        return self.runner._report.steps[step].phase


@asynccontextmanager
async def serving(directory: Path, *, fails: bool = False) -> AsyncIterator[Agent]:
    go_on, let_go = asyncio.Event(), list[str]()

    async def work(_: Workspace, __: StepCommand, ___: Meter) -> Wire | None:
        await go_on.wait()
        return None

    async def releases(workspace: Workspace) -> None:
        let_go.append(workspace.uid)
        if fails:
            raise OSError("the server does not answer")

    (directory / "store").mkdir()
    node = Node(directory / "node", directory / "store", UID, {})
    workspace = node.workspace()
    workspace.journal.append("frozen", result={})
    workspace.journal.close()
    steps: dict[Step, Callable[[Workspace, StepCommand, Meter], Awaitable[Wire | None]]] = dict.fromkeys(Step, work)
    runner = Runner(workspace.settings, steps, let_go=releases)
    runner.put_session(workspace.order)
    watching = asyncio.create_task(runner.watch())
    try:
        yield Agent(runner, go_on, let_go)
    finally:
        go_on.set()
        await asyncio.wait_for(watching, 10)
        await runner.close()


async def ended(agent: Agent) -> None:
    await asyncio.wait_for(agent.runner.ended.wait(), 10)


async def test_a_freeze_ends_and_the_server_is_let_go_of(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        agent.take(Step.FREEZE)
        await ended(agent)
        assert agent.let_go == [UID]
        assert await agent.phase(Step.FREEZE) is StepPhase.FAILED


@pytest.mark.parametrize("step", [Step.UPLOAD, Step.VERIFY])
async def test_what_needs_no_server_goes_on_until_it_is_done(tmp_path: Path, step: Step) -> None:
    """An upload that ended with the lease would begin anew when the operator is back."""
    async with serving(tmp_path) as agent:
        agent.take(step)
        await asyncio.sleep(3 * LEASE_SECONDS)
        assert agent.let_go == [UID]
        assert not agent.runner.ended.is_set()
        agent.go_on.set()
        await ended(agent)
        assert await agent.phase(step) is StepPhase.DONE


async def test_nothing_is_committed_for_one_that_may_be_somebody_elses_by_now(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        agent.take(Step.COMMIT)
        await ended(agent)
        assert await agent.phase(Step.COMMIT) is StepPhase.FAILED


async def test_nothing_is_taken_off_the_volume(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        await ended(agent)
        workspace = agent.runner._workspace
        assert workspace is not None
        directory = operation_directory(workspace.data_root, UID)
    with Journal(directory / "journal.jsonl") as journal:
        assert journal.last("frozen") is not None


async def test_a_server_that_cannot_be_told_keeps_nothing_from_ending(tmp_path: Path) -> None:
    async with serving(tmp_path, fails=True) as agent:
        await ended(agent)
        assert agent.let_go == [UID]


async def test_whoever_waits_for_a_report_asks(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        agent.take(Step.UPLOAD)
        now = await agent.runner.report(after=None, wait_seconds=0)
        await agent.runner.report(after=now.revision, wait_seconds=3 * LEASE_SECONDS)
        assert agent.let_go == []
        await asyncio.sleep(2 * LEASE_SECONDS)
        assert agent.let_go == [UID], "a while after the last of them"


async def test_one_who_is_back_while_it_works_is_served_for_a_lease_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        agent.take(Step.UPLOAD)
        await asyncio.sleep(2 * LEASE_SECONDS)
        await agent.runner.report(after=None, wait_seconds=0)
        agent.go_on.set()
        await asyncio.sleep(LEASE_SECONDS / 2)
        assert not agent.runner.ended.is_set()
        await ended(agent)
        assert agent.let_go == [UID, UID]
