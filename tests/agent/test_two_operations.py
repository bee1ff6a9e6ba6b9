"""Two operations that were started with one identifier in one place, from two clusters: one of them completes, or none,
and nothing that is not its own is touched, in whatever order their calls reach the store."""

import itertools
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.agent.hand_frozen import COLLECTION, Node
from tests.agent.racing import UIDS, Race, complete, opened
from tests.agent.turns import Order, Program, switching_at, take_turns
from tests.azure_server import running_azure_server
from tests.gcs_server import running_gcs_server
from tests.s3_server import running_s3_server

from weaviate_backup.agent.commit import _commit
from weaviate_backup.agent.discard import _discard, _vacate
from weaviate_backup.agent.freeze import take_place
from weaviate_backup.agent.upload import _upload
from weaviate_backup.agent.verify import _verify
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.layout import keys
from weaviate_backup.stored.meter import Meter

SWITCHES_TWICE = 20
SEEDS = range(20)
RACES = int(os.environ.get("WVB_RACES", "6"))
"""With each kind of store."""
BUCKET = "races"
COMMIT_CALLS = 40
"""At least as many as a commit makes."""


def completing(node: Node) -> Program:
    def work(program: Program) -> None:
        with opened(node, program) as workspace:
            complete(workspace)

    return Program(work)


def giving_up(node: Node, *, uploads: bool = True, vacates: bool = True) -> Program:
    """Canceled when it has frozen, or uploaded."""

    def work(program: Program) -> None:
        with opened(node, program) as workspace:
            take_place(workspace)
            if uploads:
                _upload(workspace, (COLLECTION,), Meter())
            _discard(workspace, Meter())
            if vacates:
                _vacate(workspace)

    return Program(work)


def orders(calls: int, *, firsts: int) -> list[Order]:
    """Each place for one switch between the programs, some for two, and any number of switches."""
    two = list(itertools.combinations(range(1, calls), 2))
    chosen = [*((moment,) for moment in range(1, calls)), *random.Random(1).sample(two, SWITCHES_TWICE)]
    switching = [switching_at(moments, first=first, programs=2) for moments in chosen for first in range(firsts)]
    return switching + [at_random(seed, 2) for seed in SEEDS]


def at_random(seed: int, programs: int) -> Order:
    chance = random.Random(seed)
    return lambda _, __: chance.randrange(programs)


def calls_of_one(base: Path) -> int:
    race = Race(base)
    program = completing(race.nodes[0])
    calls = take_turns([program], lambda _, __: 0)
    assert program.error is None, program.error
    race.refuse_less_than_whole(0)
    return calls


def refuse_another_refusal(error: BaseException | None, *, winner: int, backup_id: str) -> None:
    assert isinstance(error, Permanent), error
    assert error.reason == "BackupExists"
    assert f"tenant-{UIDS[winner]}/{backup_id} of cluster cluster-{UIDS[winner]}" in error.message


def test_of_two_that_race_one_completes_and_the_other_learns_whose_the_place_is(tmp_path: Path) -> None:
    for order in orders(calls_of_one(tmp_path), firsts=1):
        race = Race(tmp_path)
        programs = [completing(node) for node in race.nodes]
        take_turns(programs, order)
        won = [which for which, program in enumerate(programs) if program.error is None]
        assert len(won) == 1, [program.error for program in programs]
        race.refuse_less_than_whole(won[0])
        refuse_another_refusal(programs[1 - won[0]].error, winner=won[0], backup_id=race.backup_id)


@pytest.mark.parametrize("uploads", [False, True])
def test_one_that_gives_up_touches_nothing_of_the_other(tmp_path: Path, uploads: bool) -> None:
    """Before or after the other one began, or while it commits."""
    completed = 0
    for order in orders(calls_of_one(tmp_path), firsts=2):
        race = Race(tmp_path)
        programs = [giving_up(race.nodes[0], uploads=uploads), completing(race.nodes[1])]
        take_turns(programs, order)
        if programs[1].error is None:
            completed += 1
            race.refuse_less_than_whole(1)
        else:
            assert isinstance(programs[1].error, Permanent)
            assert programs[1].error.reason == "BackupExists"
            assert programs[0].error is None, programs[0].error
            assert race.left() == []
    assert completed > 0


def test_both_nodes_of_one_that_gives_up_leave_nothing(tmp_path: Path) -> None:
    """The claim covers what either still has there, and goes after both."""
    for seed in SEEDS:
        race = Race(tmp_path)
        second = race.second_node()
        both = [giving_up(node, vacates=False) for node in (race.nodes[0], second)]
        programs = [*both, completing(race.nodes[1])]
        take_turns(programs, at_random(seed, len(programs)))
        if programs[2].error is None:
            race.refuse_less_than_whole(1)
            continue
        assert race.left() == [keys.claim(race.backup_id)], [program.error for program in programs]
        with opened(race.nodes[0]) as workspace:
            _vacate(workspace)
        assert race.left() == []


def test_two_committers_of_one_operation_make_one_backup(tmp_path: Path) -> None:
    """A pod was taken for its process: the first one commits still. None of them blames a stranger, and who is told
    again completes what is there."""
    overlaps = 0
    for order in orders(COMMIT_CALLS, firsts=2):
        race = Race(tmp_path)
        node = race.nodes[0]
        with opened(node) as workspace:
            take_place(workspace)
            _upload(workspace, (COLLECTION,), Meter())
            verified = {node.name: _verify(workspace, node.name, Meter()).manifest_sha256}

        def committing(program: Program, node: Node = node, verified: dict[str, str] = verified) -> None:
            with opened(node, program, beside=True) as workspace:
                _commit(workspace, verified, Meter())

        programs = [Program(committing), Program(committing)]
        take_turns(programs, order)
        for program in programs:
            assert program.error is None or isinstance(program.error, Transient), program.error
        assert any(program.error is None for program in programs)
        overlaps += any(program.error is not None for program in programs)
        race.refuse_less_than_whole(0)
        with opened(node, beside=True) as workspace:
            _commit(workspace, verified, Meter())
        race.refuse_less_than_whole(0)
    assert overlaps > 0


def complete_at_once(node: Node, start: threading.Barrier) -> BackupError | None:
    with opened(node) as workspace:
        start.wait()
        try:
            complete(workspace)
        except BackupError as error:
            return error
    return None


@pytest.fixture(scope="module", params=["s3", "gcs", "azure", "filesystem"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LocationSpec | None, dict[str, str]]]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "s3":
        with running_s3_server(directory / "data") as s3:
            s3.make_bucket(BUCKET)
            yield LocationSpec(s3=s3.location(BUCKET)), s3.credentials
    elif request.param == "gcs":
        with running_gcs_server(directory) as gcs:
            gcs.make_bucket(BUCKET)
            yield LocationSpec(gcs=gcs.location(BUCKET)), {}
    elif request.param == "azure":
        with running_azure_server(directory) as azure:
            azure.make_container(BUCKET)
            yield LocationSpec(azure=azure.location(BUCKET)), azure.credentials
    else:
        yield None, {}


def test_real_stores_let_one_of_two_win(tmp_path: Path, place: tuple[LocationSpec | None, dict[str, str]]) -> None:
    """Nothing chooses the order here but the machine."""
    for _ in range(RACES):
        race = Race(tmp_path, *place)
        start = threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            errors = list(pool.map(complete_at_once, race.nodes, (start, start)))
        won = [which for which, error in enumerate(errors) if error is None]
        assert len(won) == 1, errors
        race.refuse_less_than_whole(won[0])
        refuse_another_refusal(errors[1 - won[0]], winner=won[0], backup_id=race.backup_id)
