"""No object makes the operator hot: not one whose turn asks for the next at once, nor whoever wakes it."""

import asyncio
from dataclasses import dataclass, field

import pytest

from weaviate_backup.controller import driving
from weaviate_backup.controller.driving import drive
from weaviate_backup.errors import Permanent

BURST, PACE_SECONDS = 5, 0.05


@dataclass
class Restless:
    """Asks for the next turn at once, is woken all the time, or fails."""

    pause: float = 0.0
    wakes: bool = False
    error: Permanent | None = None
    turns_left: int = 10_000
    name: str = "restless"
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ticks: int = 0
    closed: bool = False

    async def tick(self) -> float | None:
        self.ticks += 1
        if self.wakes:
            self.wake.set()
        if self.error is not None:
            raise self.error
        return self.pause if self.ticks < self.turns_left else None

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "BURST_TICKS", BURST)
    monkeypatch.setattr(driving, "PACE_SECONDS", PACE_SECONDS)
    monkeypatch.setattr(driving, "SHORTEST_TICK_SECONDS", 0.001)


@pytest.mark.parametrize(
    "restless",
    [Restless(), Restless(pause=60.0, wakes=True), Restless(wakes=True, error=Permanent("No", "never"))],
    ids=["at once", "woken", "failing and woken"],
)
async def test_turns_have_a_pace_that_nothing_quickens(restless: Restless) -> None:
    stopped, seconds = asyncio.Event(), 10 * PACE_SECONDS
    asyncio.get_running_loop().call_later(seconds, stopped.set)
    assert not await asyncio.wait_for(drive(restless, stopped), 10)
    assert BURST < restless.ticks <= BURST + seconds / PACE_SECONDS + 2
    assert restless.closed


async def test_a_few_turns_follow_each_other_at_once() -> None:
    started = asyncio.get_running_loop().time()
    assert await drive(Restless(turns_left=BURST), asyncio.Event())
    assert asyncio.get_running_loop().time() - started < 2 * PACE_SECONDS
