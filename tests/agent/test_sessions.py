"""What a session knows when it is put again."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.agent.hand_frozen import Node

from weaviate_backup.agent.runner import Runner
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import SessionOrder, Step, StepCommand, WeaviateEndpoint, Wire
from weaviate_backup.stored.meter import Meter

UID = "0b5f2c1e"
NEW = WeaviateEndpoint(host="10.0.0.9", rest_port=81, data_port=71, raft_port=91)


async def test_steps_that_begin_later_ask_weaviate_where_it_is_by_then(tmp_path: Path) -> None:
    seen, go_on = list[tuple[Step, Workspace]](), asyncio.Event()

    async def work(workspace: Workspace, command: StepCommand, _: Meter) -> Wire | None:
        seen.append((command.step, workspace))
        await go_on.wait()
        seen.append((command.step, workspace))
        return None

    async def nothing(_: Workspace) -> None: ...

    (tmp_path / "store").mkdir()
    workspace = Node(tmp_path / "node", tmp_path / "store", UID, {}).workspace()
    workspace.journal.append("frozen", result={})
    workspace.journal.close()
    steps: dict[Step, Callable[[Workspace, StepCommand, Meter], Awaitable[Wire | None]]] = dict.fromkeys(Step, work)
    runner = Runner(workspace.settings, steps, let_go=nothing)
    old = workspace.order
    known = runner.put_session(old)
    assert runner.put_session(old) == known, "nothing is new"
    runner.take(StepCommand(operation_uid=UID, step=Step.UPLOAD))
    await asyncio.sleep(0)
    assert runner.put_session(moved(old)) == runner.put_session(moved(old))
    runner.take(StepCommand(operation_uid=UID, step=Step.COMMIT))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*runner._tasks.values())
    asked = {(step, workspace.weaviate) for step, workspace in seen}
    assert asked == {(Step.UPLOAD, old.weaviate), (Step.COMMIT, NEW)}
    (last,) = {workspace.order.model_copy(update={"weaviate": None}) for step, workspace in seen if step is Step.COMMIT}
    assert last == old.model_copy(update={"weaviate": None})
    journals = [workspace.journal for _, workspace in seen]
    assert all(each is journals[0] for each in journals), "one journal"
    assert len(list(journals[0].of("session"))) == 1
    await runner.close()


def moved(order: SessionOrder) -> SessionOrder:
    """All else that it says is not what the session began with."""
    return order.model_copy(update={"weaviate": NEW, "cpu_percentage": 1, "backup_id": "another"})
