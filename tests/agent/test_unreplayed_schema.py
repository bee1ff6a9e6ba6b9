"""Nothing is taken off a volume because a server that starts does not name its collection yet."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.agent.small_restore import UID, Restore, stock
from tests.answers.test_raft_of_others import served
from tests.ports import HOST
from tests.starting_nodes import NOTHING, Nodes, nodes

from weaviate_backup.agent.journal import JOURNAL, Journal
from weaviate_backup.agent.release import release, sweep
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.core.session import DATA_DIRECTORY, Step, StepCommand, WeaviateEndpoint
from weaviate_backup.errors import Transient
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate.raft import RaftClient

__all__ = ["nodes"]
pytestmark = pytest.mark.asyncio

LEASE_SECONDS = 300
Act = Callable[[Workspace], Awaitable[None]]


@pytest_asyncio.fixture
async def workspace(tmp_path: Path, nodes: Nodes) -> AsyncIterator[Workspace]:
    """Beside a node whose raft names nothing."""
    made = Restore(tmp_path / "node", stock(tmp_path)).workspace
    async with served(NOTHING) as (port, _):
        endpoint = WeaviateEndpoint(
            host=HOST, raft_port=port, data_port=nodes.ports["a"], data_path=str(made.data_root)
        )
        workspace = replace(made, order=made.order.model_copy(update={"node": "a", "weaviate": endpoint}))
        with workspace.journal:
            yield workspace


async def released(workspace: Workspace) -> None:
    placed(workspace, workspace.journal)
    await release(workspace, StepCommand(operation_uid=UID, step=Step.RELEASE), Meter())


async def swept(workspace: Workspace) -> None:
    journal = workspace.data_root / DATA_DIRECTORY / "dead" / JOURNAL
    if not journal.is_file():
        with Journal(journal) as dead:
            dead.append("session", order={"lease_seconds": LEASE_SECONDS})
            placed(workspace, dead)
        os.utime(str(journal), (0, 0))
    async with RaftClient(workspace.weaviate.host, workspace.weaviate.raft_port) as raft:
        await sweep(workspace, raft)


def placed(workspace: Workspace, journal: Journal) -> None:
    directory = ready(workspace)
    directory.mkdir(parents=True, exist_ok=True)
    inodes: dict[str, Any] = {"inode": directory.stat().st_ino, "data_inode": 0, "shards": {}, "files": 0}
    journal.append("placed", collection="Article", **inodes)


def ready(workspace: Workspace) -> Path:
    """Where Weaviate would take the collection from."""
    return Path(str(workspace.data_root)) / ".backup.tmp" / "Article"


@pytest.mark.parametrize("act", [released, swept])
async def test_what_was_placed_waits_for_a_server_that_has_replayed_its_log(
    workspace: Workspace, nodes: Nodes, act: Act
) -> None:
    nodes.says["a"]["ready"] = False
    with pytest.raises(Transient) as refused:
        await act(workspace)
    assert refused.value.reason == "SchemaCatchingUp"
    assert await asyncio.to_thread(ready(workspace).exists)
    nodes.says["a"]["ready"] = True
    await act(workspace)
    assert not await asyncio.to_thread(ready(workspace).exists), "raft knows no such collection"
