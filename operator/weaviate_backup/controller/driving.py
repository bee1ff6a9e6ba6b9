"""The loop around every object: a tick, then wait until woken, stopped or due. Nothing is remembered between ticks.

What a tick raises is classified here, so that no daemon ever ends by an accident: what may pass is logged, a bug is
logged with its traceback, and both are tried again with back-off. Ticks have a pace that nothing quickens: not whoever
wakes, as everybody may who writes beside an object, nor a tick that asks to look again at once.
"""

import asyncio
import contextlib
import logging
import random
from typing import Protocol

from weaviate_backup.errors import BackupError
from weaviate_backup.metrics import TICK_FAILURES

SHORTEST_TICK_SECONDS = 0.05
"""What wakes comes in bursts."""
BURST_TICKS = 30
PACE_SECONDS = 0.5
"""So many ticks may follow each other at once; each of these seconds earns another one."""
BACKOFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
log = logging.getLogger(__name__)


class Driven(Protocol):
    """One object's work. `tick` answers how soon to look again, None when nothing is left to do."""

    name: str
    wake: asyncio.Event

    async def tick(self) -> float | None: ...

    async def close(self) -> None: ...


class Pace:
    """How often ticks, or questions to one agent, may follow each other."""

    def __init__(self, now: float) -> None:
        self._free_at = now - BURST_TICKS * PACE_SECONDS

    def take(self, now: float) -> float:
        """The seconds until the next one may be."""
        self._free_at = max(self._free_at, now - BURST_TICKS * PACE_SECONDS) + PACE_SECONDS
        return max(0.0, self._free_at - now)


async def drive(driven: Driven, stopped: asyncio.Event) -> bool:
    """Until all is done (True) or `stopped` (False)."""
    failures, clock = 0, asyncio.get_running_loop().time
    pace = Pace(clock())
    try:
        while not stopped.is_set():
            driven.wake.clear()
            try:
                pause = await driven.tick()
                failures = 0
            except BackupError as error:
                log.warning("%s: %s", driven.name, error)
                TICK_FAILURES.labels(reason=error.reason).inc()
                pause, failures = _backoff(failures), failures + 1
            except Exception:  # a bug must not end the daemon: it is never started again
                log.exception("%s: unexpected failure", driven.name)
                TICK_FAILURES.labels(reason="Unexpected").inc()
                pause, failures = _backoff(failures), failures + 1
            if pause is None:
                return True
            await asyncio.sleep(SHORTEST_TICK_SECONDS if pause else 0)
            await _wait(driven.wake, stopped, seconds=max(0.0, pause - SHORTEST_TICK_SECONDS))
            await _wait(stopped, seconds=pace.take(clock()))
        return False
    finally:
        await driven.close()


def _backoff(failures: int) -> float:
    return BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)] * random.uniform(0.8, 1.2)  # noqa: S311


async def _wait(*events: asyncio.Event, seconds: float) -> None:
    """Until one of them, or so long."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    with contextlib.suppress(TimeoutError):
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
