"""Who is cancelled waits for what it began, however often, and learns of it then."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.agent.hand_frozen import COLLECTION, Node

from weaviate_backup.agent.expansion import TenantStatus
from weaviate_backup.agent.shard_freezer import ShardFreezer
from weaviate_backup.stored.meter import Meter
from weaviate_backup.tasks import in_thread, to_its_end, together
from weaviate_backup.weaviate.shard_source import ShardCut

pytestmark = pytest.mark.asyncio


class Work:
    """Ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.end, self.ended = asyncio.Event(), asyncio.Event(), False

    async def run(self, result: Callable[[], int] = lambda: 7) -> int:
        self.begun.set()
        await self.end.wait()
        self.ended = True
        return result()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def failing() -> int:
    raise ValueError("it failed")


@pytest.mark.parametrize("cancels", [1, 3])
@pytest.mark.parametrize("result", [lambda: 7, failing], ids=["done", "failed"])
async def test_nobody_goes_on_before_the_end(cancels: int, result: Callable[[], int]) -> None:
    work = Work()
    caller = asyncio.create_task(to_its_end(work.run(result)))
    await work.begun.wait()
    for _ in range(cancels):
        caller.cancel()
        await settle()
        assert not caller.done()
    work.end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.ended


async def test_a_result_and_a_failure_are_passed_on() -> None:
    work = Work()
    work.end.set()
    assert await to_its_end(work.run()) == 7
    with pytest.raises(ValueError, match="it failed"):
        await to_its_end(Work.run(work, failing))
    assert await in_thread(lambda: 8) == 8


async def test_a_task_of_others_is_waited_for_and_not_cancelled() -> None:
    work = Work()
    shared = asyncio.create_task(work.run())
    one, other = (asyncio.create_task(to_its_end(shared)) for _ in range(2))
    await work.begun.wait()
    one.cancel()
    await settle()
    work.end.set()
    assert await other == await shared == 7
    with pytest.raises(asyncio.CancelledError):
        await one


class Driver:
    """Whose server is slow to let go. `open`: whether its channel still is."""

    def __init__(self) -> None:
        self.releasing, self.slow, self.released, self.open = asyncio.Event(), asyncio.Event(), list[str](), True

    async def cut(self, collection: str, shard: str, *, schema_version: int) -> ShardCut:
        return ShardCut(collection, shard, driver="made up", files=(), halt_seconds=0.0)

    async def release(self, cut: ShardCut) -> None:
        self.releasing.set()
        await self.slow.wait()
        assert self.open, "the channel was closed while a shard was held"
        self.released.append(cut.shard)


async def test_a_freeze_that_ends_lets_go_of_its_shards_first(tmp_path: Path) -> None:
    """Another shard fails, say, while the server is slow to let go of this one: whoever closes the channel waits."""
    driver = Driver()

    async def fail() -> None:
        await driver.releasing.wait()
        raise ValueError("another shard failed")

    async def freeze_all(freezer: ShardFreezer) -> None:
        try:
            statuses = {"s1": TenantStatus.ACTIVE}
            await together((freezer.freeze(COLLECTION, statuses, 1, multi_tenant=False), fail()))
        finally:
            driver.open = False

    workspace = Node(tmp_path / "node", tmp_path / "store", "0b5f2c1e", {}).workspace()
    with workspace.journal:
        made_up = cast(Any, None)
        freezer = ShardFreezer(workspace, Meter(), raft=made_up, node=made_up, driver=cast(Any, driver))
        freezing = asyncio.create_task(freeze_all(freezer))
        await driver.releasing.wait()
        await asyncio.sleep(0.05)
        driver.slow.set()
        with pytest.raises(ValueError, match="another shard failed"):
            await freezing
    assert driver.released == ["s1"]
