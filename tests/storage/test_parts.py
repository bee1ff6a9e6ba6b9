"""Memory of uploads is a number of bytes: whatever an object's size, whatever its parts, however many streams."""

import gc
import hashlib
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import pytest
from tests.s3_server import S3Server
from tests.storage.contract import MIB
from tests.storage.test_s3 import bucket, server  # noqa: F401 (fixtures)

from weaviate_backup.errors import Permanent
from weaviate_backup.storage import s3
from weaviate_backup.storage.parts import OutOfParts, Part, PartBytes, PartRules, Room, cut, send_parts
from weaviate_backup.storage.s3 import RULES, S3Store

GIB = 1 << 30
BLOCK = bytes(64 * MIB)
"""Cut without a copy, so that objects of hundreds of GiB take no memory here."""
SIZES_GIB = (1, 8, 30, 78, 100, 250)


class Watched(Room):
    """Remembers the most that was taken."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.peak_bytes = 0

    def take(self, wanted_bytes: int) -> None:
        super().take(wanted_bytes)
        self.peak_bytes = max(self.peak_bytes, self._taken_bytes)


def sent(size_gib: int, part_bytes: PartBytes, room: Room, rules: PartRules = RULES) -> list[int]:
    """Sizes of the parts as they were sent, none of which is quick."""

    def send(_: int, part: Part) -> int:
        time.sleep(0)
        return part.size_bytes

    parts = cut(repeat(BLOCK, size_gib * GIB // len(BLOCK)), part_bytes, room, most_parts=rules.most_parts)
    sizes, _ = send_parts(parts, send, in_flight_bytes=rules.in_flight_bytes, senders=rules.senders)
    return list(sizes)


@pytest.mark.parametrize("size_gib", SIZES_GIB)
@pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
def test_memory_of_one_upload_is_bounded_by_bytes(size_gib: int, known: bool) -> None:
    """Those in flight and the next one, each of which may be as large as all in flight."""
    room = Watched(1 << 50)
    sizes = sent(size_gib, RULES.equal(size_gib * GIB) if known else RULES.growing, room)
    assert sum(sizes) == size_gib * GIB
    assert room.peak_bytes <= RULES.in_flight_bytes + max(sizes) <= 2 * RULES.in_flight_bytes
    assert room._taken_bytes == 0


@pytest.mark.parametrize("size_gib", [*SIZES_GIB, 1000, 5 * 1024, 40 * 1024])
def test_a_known_size_makes_parts_of_one_size_that_are_no_larger_than_need_be(size_gib: int) -> None:
    part_bytes = RULES.equal(size_gib * GIB)
    sizes = {part_bytes(number) for number in (0, 1, 999, 1000, 9_999)}
    assert len(sizes) == 1
    size_bytes = sizes.pop()
    assert size_bytes * RULES.most_parts >= size_gib * GIB
    assert size_bytes <= max(RULES.first_bytes, size_gib * GIB // RULES.most_parts + MIB)


def test_parts_of_unknown_objects_grow_no_larger_than_what_may_be_in_flight() -> None:
    sizes = [RULES.growing(number) for number in range(RULES.most_parts)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (RULES.first_bytes, RULES.in_flight_bytes)
    assert sum(sizes) > 270 * GIB


@pytest.mark.parametrize(("part_mib", "most"), [(8, 4), (16, 2), (20, 1), (32, 1), (100, 1)])
def test_parts_in_flight_are_as_many_as_fit_into_the_bytes(part_mib: int, most: int) -> None:
    """And one at least; all of them at once, as the next one waits for a slow store."""
    under_way, peak, lock = 0, 0, threading.Lock()
    rules = PartRules(part_mib * MIB, RULES.in_flight_bytes, 1000, 10_000, 5 * GIB)

    def send(_: int, __: Part) -> None:
        nonlocal under_way, peak
        with lock:
            under_way += 1
            peak = max(peak, under_way)
        time.sleep(0.05)
        with lock:
            under_way -= 1

    parts = cut(repeat(BLOCK, 20), rules.growing, Room(1 << 40), most_parts=10_000)
    send_parts(parts, send, in_flight_bytes=rules.in_flight_bytes, senders=4)
    assert peak == most


def test_uploads_share_a_room_and_all_of_them_end() -> None:
    """Parts of many sizes, one of them larger than the whole room, from more streams than there is room for."""
    room = Watched(100 * MIB)
    sizes_mib = (8, 60, 130, 40, 8, 99, 24, 60)

    def one(part_mib: int) -> int:
        return sum(sent(1, lambda _: part_mib * MIB, room))

    with ThreadPoolExecutor(len(sizes_mib)) as pool:
        assert list(pool.map(one, sizes_mib)) == [GIB] * len(sizes_mib)
    assert room.peak_bytes <= 130 * MIB
    assert room._taken_bytes == 0


def test_a_room_is_first_come_first_served() -> None:
    """A large part is not passed by small ones for ever."""
    room, order = Room(10), list[str]()
    room.take(6)

    def take(name: str, size_bytes: int) -> None:
        room.take(size_bytes)
        order.append(name)

    threads = [threading.Thread(target=take, args=each, daemon=True) for each in (("large", 8), ("small", 2))]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    assert order == []
    room.give_back(6)
    for thread in threads:
        thread.join(5)
    assert order == ["large", "small"]


@pytest.mark.parametrize("after", [0, 1, 20])
def test_what_fails_gives_its_room_back(after: int) -> None:
    room = Watched(1 << 40)

    def blocks() -> Iterator[bytes]:
        yield from repeat(BLOCK, after)
        raise Permanent("SourceChanged", "the file shrank")

    def refused(number: int, _: Part) -> None:
        if number > after:
            raise Permanent("StoreRefused", "no more")

    for source, send in ((blocks(), lambda *_: None), (repeat(BLOCK, 50), refused)):
        with pytest.raises(Permanent):
            parts = cut(source, RULES.growing, room, most_parts=10_000)
            send_parts(parts, send, in_flight_bytes=RULES.in_flight_bytes, senders=4)
        assert room._taken_bytes == 0


def test_one_part_too_many_is_none() -> None:
    room = Watched(1 << 40)
    parts = cut(repeat(BLOCK, 2), lambda _: 64 * MIB, room, most_parts=2)
    last = []
    for part in parts:
        last.append(part.is_last)
        part.clear()
    assert last == [False, True]
    with pytest.raises(OutOfParts) as caught:
        for part in cut(repeat(BLOCK, 3), lambda _: 64 * MIB, room, most_parts=2):
            part.clear()
    assert RULES.beyond(caught.value) > 3 * 64 * MIB
    with pytest.raises(Permanent, match="StoreRefused"):
        RULES.beyond(OutOfParts(RULES.most_parts * RULES.largest_bytes))


# On a real store

SMALL = PartRules(first_bytes=5 * MIB, in_flight_bytes=20 * MIB, parts_per_size=4, most_parts=60, largest_bytes=GIB)
"""5 MiB four times, 10 MiB four times, then 20; equal ones of 10 MiB reach 600 MiB, of 35 MiB 2 GiB."""
SLACK_BYTES = 16 * MIB
ROOM_BYTES = 80 * MIB


@pytest.mark.parametrize("told_mib", [None, 600, 2000], ids=["growing", "10 MiB", "34 MiB"])
def test_a_large_stream_takes_no_more_than_its_bytes(
    server: S3Server,  # noqa: F811
    bucket: str,  # noqa: F811
    told_mib: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part_bytes = SMALL.growing(100) if told_mib is None else SMALL.equal(told_mib * MIB)(0)
    limit_bytes = max(SMALL.in_flight_bytes, part_bytes) + part_bytes
    peak_bytes = peak_of_puts(server, bucket, streams=1, told_mib=told_mib, monkeypatch=monkeypatch)
    assert peak_bytes < limit_bytes + SLACK_BYTES


def test_large_streams_beside_each_other_share_their_bytes(
    server: S3Server,  # noqa: F811
    bucket: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each by itself would hold two parts of 34 MiB."""
    peak_bytes = peak_of_puts(server, bucket, streams=4, told_mib=2000, monkeypatch=monkeypatch)
    assert peak_bytes < ROOM_BYTES + 2 * SLACK_BYTES < 4 * 2 * 34 * MIB


def peak_of_puts(
    server: S3Server,  # noqa: F811
    bucket: str,  # noqa: F811
    *,
    streams: int,
    told_mib: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> int:
    """Bytes at most while each stream puts 320 MiB, every block of them made anew; they are proved to be there."""
    monkeypatch.setattr(s3, "ROOM_BYTES", ROOM_BYTES)
    store = S3Store(server.location(bucket), credentials=server.credentials, rules=SMALL)
    count = 320
    told = None if told_mib is None else told_mib * MIB

    def content() -> Iterator[bytes]:
        return (number.to_bytes(8, "big") * (MIB // 8) for number in range(count))

    gc.collect()
    tracemalloc.start()
    try:
        with ThreadPoolExecutor(streams) as pool:
            list(pool.map(lambda key: store.put(f"k{key}", content, at_most_bytes=told), range(streams)))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    expected, found = hashlib.sha256(), hashlib.sha256()
    for block in content():
        expected.update(block)
    with store.open(f"k{streams - 1}") as stream:
        while piece := stream.read(MIB):
            found.update(piece)
    assert found.digest() == expected.digest()
    store.delete([f"k{key}" for key in range(streams)])
    return peak_bytes
