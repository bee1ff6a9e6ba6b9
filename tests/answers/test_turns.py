"""Large answers are taken in turns: who sends slowly, much or often keeps only his own waiting."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.answers.hostile_server import BLOCK, CHUNKED, HostileServer, Trick, chunked, dripping, endless, whole, wide

from weaviate_backup import answers
from weaviate_backup.answers import FOREIGN, Line, turn
from weaviate_backup.errors import BackupError
from weaviate_backup.layout.json_bounds import KIB, MIB
from weaviate_backup.weaviate.rest import RestClient

HOSTILE_TENANTS = 4
SECONDS = 20.0
HONEST = b'{"classes":[{"class":"' + b"x" * (400 * KIB) + b'"}]}'


def _drops() -> Iterator[bytes]:
    """Beyond what needs no turn, and then hardly anything."""
    yield b"x" * (280 * KIB)
    while True:
        time.sleep(0.1)
        yield b"x"


def _fast_enough() -> Iterator[bytes]:
    for block in itertools.repeat(b"x" * (256 * KIB)):
        time.sleep(0.06)
        yield block


TRICKS: dict[str, Trick] = {
    "drips": endless(lambda: chunked(_drops()), first=CHUNKED),
    "fast enough": endless(lambda: chunked(_fast_enough()), first=CHUNKED),
    "endless": endless(lambda: chunked(itertools.repeat(BLOCK)), first=CHUNKED),
    "wide": whole(wide(15 * MIB)),
    "drips from the start": dripping(CHUNKED, [b"1", b"\r\n", b" ", b"\r\n"]),
}


async def ask(server: HostileServer, whose: str) -> int:
    """How many classes it tells."""
    async with RestClient(server.url, timeout_seconds=SECONDS, whose=whose) as rest:
        return await rest.schema(len)


async def keep_asking(server: HostileServer, whose: str) -> None:
    while True:
        try:
            await ask(server, whose)
        except BackupError:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("trick", TRICKS)
async def test_a_tenant_waits_for_no_more_than_a_turn_of_each_other(trick: str) -> None:
    """Four hostile tenants with eight nodes each, that ask again at once, and one honest."""
    with ExitStack() as stack:
        servers = [stack.enter_context(HostileServer(TRICKS[trick])) for _ in range(HOSTILE_TENANTS)]
        good = stack.enter_context(HostileServer(whole(HONEST)))
        hostile = [asyncio.create_task(keep_asking(each, each.url)) for each in servers for _ in range(8)]
        try:
            await asyncio.sleep(1)
            seconds = []
            for _ in range(2):
                began = time.monotonic()
                assert await ask(good, "good") == 1
                seconds.append(time.monotonic() - began)
        finally:
            for each in hostile:
                each.cancel()
            await asyncio.gather(*hostile, return_exceptions=True)
    print(f"{trick}: {max(seconds):.1f} s")
    assert max(seconds) < HOSTILE_TENANTS / 2 * (answers.GRACE_SECONDS + 16 * MIB / answers.RATE_BYTES) + 2
    if "drip" in trick:
        assert max(seconds) < HOSTILE_TENANTS / 2 * answers.GRACE_SECONDS + 3


@pytest.mark.parametrize(
    ("trick", "longest", "reason"), [("drips", 2.0, "ServerTimeout"), ("fast enough", 10.0, "AnswerTooLarge")]
)
async def test_a_turn_is_as_long_as_what_comes_in_it(trick: str, longest: float, reason: str) -> None:
    with HostileServer(TRICKS[trick]) as server:
        began = time.monotonic()
        with pytest.raises(BackupError, match=reason):
            await ask(server, "tenant")
        assert time.monotonic() - began < longest + 2


async def test_owners_alternate() -> None:
    """One of many answers of an owner, however many of them came first."""
    line, order = Line("test", of_one=1, of_all=1), list[str]()

    async def take(whose: str) -> None:
        async with turn(line, whose):
            order.append(whose)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for whose in ("many",) * 20 + ("few",) * 2 + ("one",):
            group.create_task(take(whose))
    assert len(order) == 23
    assert order.index("few") < 3 and order.index("one") < 4
    assert [each for each in order[:6] if each == "few"] == ["few", "few"]


async def test_waiting_is_no_time_of_who_answers() -> None:
    line = Line("test", of_one=1, of_all=1)
    async with asyncio.TaskGroup() as group:

        async def hold() -> None:
            async with turn(line, "other"):
                await asyncio.sleep(0.5)

        group.create_task(hold())
        await asyncio.sleep(0.1)
        async with asyncio.timeout(0.2) as clock, turn(line, "own", clock):
            assert clock.when() is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2) as clock, turn(line, "own", clock):
                await asyncio.sleep(1)


def turns_left(line: Line) -> int:
    everybody = answers._lines[asyncio.get_running_loop()][line].everybody
    assert everybody is not None
    return everybody._value


async def test_an_answer_is_taken_apart_in_its_turn() -> None:
    with HostileServer(whole(HONEST)) as server:
        async with RestClient(server.url, whose="tenant") as rest:
            assert await rest.schema(lambda _: turns_left(FOREIGN)) == 1
    assert turns_left(FOREIGN) == 2


async def test_who_answers_in_time_is_heard_however_long_others_take() -> None:
    with HostileServer(whole(HONEST)) as server:
        async with RestClient(server.url, whose="tenant", timeout_seconds=1.5) as rest, asyncio.TaskGroup() as group:

            async def hold(whose: str) -> None:
                async with turn(FOREIGN, whose):
                    await asyncio.sleep(3)

            group.create_task(hold("a"))
            group.create_task(hold("b"))
            await asyncio.sleep(0)
            assert await rest.schema(len) == 1


async def test_places_of_an_owner_go_with_him() -> None:
    line = Line("test", of_one=1)
    for number in range(1000):
        async with turn(line, f"owner-{number}"):
            pass
    places = answers._lines[asyncio.get_running_loop()][line]
    assert len(places.owners) <= 1
