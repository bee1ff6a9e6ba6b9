"""Who was told to stop stops at the next block or pause, and the first failure of many ends the others."""

import threading
import time
from collections.abc import Iterator

import pytest

from weaviate_backup.errors import Permanent
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.parallel import AHEAD, each_in_parallel


def test_everything_is_counted_once() -> None:
    meter = Meter()
    meter.expect(bytes_total=10, files_total=2)
    meter.add(bytes_done=3, bytes_reused=1, bytes_stored=2, files_done=1)
    meter.add(bytes_done=4)
    assert list(meter.counted([b"ab", b"c"])) == [b"ab", b"c"]
    meter.take_back(5)
    now = meter.snapshot()
    assert (now.bytes_total, now.files_total) == (10, 2)
    assert (now.bytes_done, now.bytes_reused, now.bytes_stored, now.files_done) == (5, 1, 2, 1)


def test_a_step_that_is_told_to_stop_ends_within_a_block() -> None:
    meter = Meter()
    blocks = meter.counted([b"a", b"b"])
    assert next(blocks) == b"a"
    meter.pause(0)
    meter.stop()
    for work in (lambda: next(blocks), meter.check, meter.add, lambda: meter.pause(600)):
        started = time.monotonic()
        with pytest.raises(Permanent, match="StepCanceled"):
            work()
        assert time.monotonic() - started < 60
    assert meter.snapshot().bytes_done == 1


def test_all_are_worked_on_at_once() -> None:
    together = threading.Barrier(3, timeout=60)
    done: list[int] = []

    def work(item: int) -> None:
        together.wait()
        done.append(item)

    each_in_parallel(work, [1, 2, 3], Meter(), streams=3)
    assert sorted(done) == [1, 2, 3]


def test_the_first_failure_stops_the_others_and_is_the_one_that_is_told() -> None:
    meter, begun = Meter(), threading.Event()
    worked_on: list[str] = []

    def work(item: str) -> None:
        worked_on.append(item)
        if item == "endless":
            begun.set()
            meter.pause(600)
        assert begun.wait(60)
        raise Permanent("Broken", f"{item} is broken")

    started = time.monotonic()
    with pytest.raises(Permanent, match="Broken: first"):
        each_in_parallel(work, ["endless", "first", *(f"later {number}" for number in range(50))], meter, streams=2)
    assert time.monotonic() - started < 60
    assert len(worked_on) < 52, "what had not begun does not begin"


def test_items_are_taken_as_they_are_needed() -> None:
    """What is read for one is held until it is done."""
    room, taken = threading.Semaphore(0), list[int]()

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            room.release()
            yield number

    def work(item: int) -> None:
        room.acquire()
        assert len(taken) <= item + 2 + 2 * AHEAD + 1

    each_in_parallel(work, items(), Meter(), streams=2)
    assert taken == list(range(20))


def test_items_that_cannot_be_read_stop_what_is_under_way() -> None:
    meter = Meter()

    def items() -> Iterator[str]:
        yield "endless"
        raise Permanent("Lost", "the rest of them")

    with pytest.raises(Permanent, match="Lost: the rest"):
        each_in_parallel(lambda _: meter.pause(600), items(), meter, streams=2)


def test_a_wait_ends_with_the_step() -> None:
    meter = Meter()
    meter.pause(0)
    threading.Timer(0.01, meter.stop).start()
    with pytest.raises(Permanent, match="StepCanceled"):
        meter.pause(60)
