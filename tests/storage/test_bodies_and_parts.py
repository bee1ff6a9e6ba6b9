"""How content is cut, sent and read, without a store: sizes to the byte, memory let go, failures that end it."""

import io
import itertools
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.storage.bodies import PIECE_BYTES, PiecewiseBody, exact_body, in_pieces
from weaviate_backup.storage.pages import next_page
from weaviate_backup.storage.parts import PART_ATTEMPTS, Part, Room, cut, patiently, send_parts
from weaviate_backup.storage.patience import Patience

QUICK = Patience(first_wait_seconds=0)


PLENTY = 1 << 20


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(1, 9), st.integers(0, 3))
def test_parts_have_the_sizes_they_were_given(blocks: list[bytes], first_bytes: int, growth_bytes: int) -> None:
    def size(number: int) -> int:
        return first_bytes + growth_bytes * number

    found = cut(iter(blocks), size, Room(PLENTY), most_parts=PLENTY)
    parts = [b"".join(part.pieces) for part in found]
    assert b"".join(parts) == b"".join(blocks)
    *whole, last = parts
    assert [len(part) for part in whole] == [size(number) for number in range(len(whole))]
    assert len(last) <= size(len(whole))
    assert last or not whole, "an empty part is sent of an empty object only"


def of(*contents: bytes) -> Iterator[Part]:
    return cut(iter(contents), lambda number: len(contents[number]), Room(PLENTY), most_parts=len(contents))


def test_every_part_is_sent_by_its_number_and_let_go() -> None:
    kept: list[Part] = []

    def send(number: int, part: Part) -> str:
        kept.append(part)
        return f"{number}{b''.join(part.pieces).decode()}"

    assert send_parts(of(b"a", b"bc"), send, in_flight_bytes=PLENTY, senders=2) == (("1a", "2bc"), 3)
    assert [part.pieces for part in kept] == [[], []]


def test_after_a_failure_nothing_more_is_read_or_sent() -> None:
    sent: list[int] = []

    def send(number: int, part: Part) -> None:
        sent.append(number)
        if number == 2:
            raise Transient("StoreUnavailable", "gone")

    with pytest.raises(Transient, match="StoreUnavailable"):
        send_parts(of(*[b"x"] * 50), send, in_flight_bytes=1, senders=1)
    assert sent == [1, 2]


@pytest.mark.parametrize("failures", [0, 1, PART_ATTEMPTS - 1, PART_ATTEMPTS])
def test_a_part_is_tried_a_few_times(failures: int) -> None:
    asked = 0

    def request() -> str:
        nonlocal asked
        asked += 1
        if asked <= failures:
            raise Transient("StoreUnavailable", "not now")
        return "done"

    if failures < PART_ATTEMPTS:
        assert patiently(request, QUICK) == "done"
    else:
        with pytest.raises(Transient):
            patiently(request, QUICK)
    assert asked == min(failures + 1, PART_ATTEMPTS)


def test_what_will_not_pass_is_not_tried_again() -> None:
    asked: list[int] = []

    def request() -> None:
        asked.append(1)
        raise Permanent("AccessDenied", "no")

    with pytest.raises(Permanent):
        patiently(request, QUICK)
    assert len(asked) == 1


def test_a_pause_between_attempts_grows() -> None:
    times: list[float] = []

    def request() -> None:
        times.append(time.monotonic())
        raise Transient("StoreUnavailable", "not now")

    with pytest.raises(Transient):
        patiently(request, Patience(first_wait_seconds=0.02))
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(wait >= least for wait, least in zip(waits, (0.02, 0.04, 0.08), strict=True))


def test_a_large_body_goes_in_pieces_and_again_from_its_beginning() -> None:
    content = bytes(range(256)) * (PIECE_BYTES // 128) + b"end"
    body = in_pieces(content)
    assert isinstance(body, PiecewiseBody)
    assert len(body) == len(content)
    for _ in range(2):
        pieces = []
        while piece := body.read(7):
            pieces.append(bytes(piece))
            assert body.tell() == sum(map(len, pieces))
        assert b"".join(pieces) == content
        assert [len(piece) for piece in pieces] == [PIECE_BYTES, PIECE_BYTES, 3]
        body.seek(0)
    for position, whence in ((1, io.SEEK_SET), (0, io.SEEK_END)):
        with pytest.raises(io.UnsupportedOperation):
            body.seek(position, whence)


def test_small_bodies_and_streams_are_left_as_they_are() -> None:
    stream = io.BytesIO(b"x")
    assert in_pieces(b"x" * PIECE_BYTES) == b"x" * PIECE_BYTES
    assert in_pieces(stream) is stream
    assert isinstance(in_pieces(bytearray(PIECE_BYTES + 1)), PiecewiseBody)


def body(content: bytes, *, announced: int | None, length: int | None = None) -> bytes:
    read = io.BytesIO(content).read
    return exact_body(read, announced, RuntimeError, key="k", start=3, length=length).read()


def test_a_body_is_as_long_as_was_announced() -> None:
    assert body(b"hello", announced=5) == b"hello"
    assert body(b"hello and more", announced=5, length=5) == b"hello"
    assert body(b"", announced=0) == b""
    with pytest.raises(Transient, match=r"TruncatedBody: .*2 bytes early"):
        body(b"hel", announced=5)
    with pytest.raises(Transient, match="LengthUnknown: k"):
        body(b"hello", announced=None)
    with pytest.raises(Permanent, match="RangeOutside: k has only 5 of 6 bytes from 3 on"):
        body(b"hello", announced=5, length=6)


def test_what_a_read_raises_is_judged_once() -> None:
    def broken(_: int) -> bytes:
        raise OSError("reset")

    def refused(_: int) -> bytes:
        raise Permanent("AccessDenied", "no")

    def judge(error: Exception) -> Exception:
        return Transient("StoreUnavailable", f"judged {error}")

    with pytest.raises(Transient, match="judged reset"):
        exact_body(broken, 1, judge, key="k", start=0, length=None).read()
    with pytest.raises(Permanent, match="AccessDenied"):
        exact_body(refused, 1, judge, key="k", start=0, length=None).read()


def test_a_listing_that_is_cut_off_is_no_empty_one() -> None:
    def pages(error: Exception) -> Iterator[int]:
        yield 1
        raise error

    for error in (AttributeError(), KeyError(), TypeError()):
        found = pages(error)
        assert next_page(found) == 1
        with pytest.raises(Transient, match="StoreUnavailable: the store's answer to a listing is cut off"):
            next_page(found)
    assert next_page(iter(())) is None
