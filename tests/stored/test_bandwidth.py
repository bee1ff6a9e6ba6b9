"""However many threads share a limit, all of them together keep it: counted on a clock of the test's own."""

import threading
from concurrent.futures import ThreadPoolExecutor

from weaviate_backup.stored.bandwidth import Bandwidth


class Clock:
    """Time passes only while somebody pauses."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lock = threading.Lock()

    def pause(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds


def test_blocks_one_after_the_other_take_their_time() -> None:
    clock = Clock()
    bandwidth = Bandwidth(1000, pause=clock.pause, clock=lambda: clock.now)
    for size_bytes in (500, 1500, 1, 999):
        bandwidth.take(size_bytes)
    assert clock.now == 103.0


def test_time_without_a_block_is_not_saved_up() -> None:
    clock = Clock()
    bandwidth = Bandwidth(1000, pause=clock.pause, clock=lambda: clock.now)
    clock.now += 3600
    bandwidth.take(2000)
    assert clock.now == 3702.0


def test_threads_wait_for_those_before_them() -> None:
    """Nobody's clock moves: whoever comes last waits for all bytes."""
    waits: list[float] = []
    bandwidth = Bandwidth(1000, pause=waits.append, clock=lambda: 7.0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bandwidth.take, [250] * 40))
    assert sorted(waits) == [0.25 * number for number in range(1, 41)]


def test_without_a_limit_nobody_waits() -> None:
    waits: list[float] = []
    Bandwidth(None, pause=waits.append).take(1 << 40)
    assert waits == []
