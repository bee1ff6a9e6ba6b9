"""In pytest, when `tests.mutation` runs it: which test runs which line and how long it takes, or a chosen few tests.

`MUTATION_RECORD` names a file for what is found out, beside what coverage writes. `MUTATION_CHOICE` names a file with
the tests to run, one a line, the quickest first. A test that needs more than `MUTATION_PATIENCE_SECONDS` of the
processor is stopped then and counts for nothing: explorations go from near states to far ones and find most soon.
"""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from types import FrameType

import coverage
import hypothesis
import pytest

MEMORY_BYTES = 6 << 30
"""For a mutant that collects without an end."""
RECORD, CHOICE, PATIENCE = "MUTATION_RECORD", "MUTATION_CHOICE", "MUTATION_PATIENCE_SECONDS"

_seconds: dict[str, float] = {}
_failed: set[str] = set()


def pytest_configure() -> None:
    """The same examples every time, however long they take: a fault is to be found by what it does."""
    hypothesis.settings.register_profile(
        "mutation", deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    hypothesis.settings.load_profile("mutation")
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if chosen := os.environ.get(CHOICE):
        places = {name: place for place, name in enumerate(Path(chosen).read_text().splitlines())}
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in places])
        items[:] = sorted((item for item in items if item.nodeid in places), key=lambda item: places[item.nodeid])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _context(item.nodeid)
    started = time.monotonic()
    try:
        return (yield)
    finally:
        _seconds[item.nodeid] = time.monotonic() - started
        _context("")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """What a fixture of many tests runs, each of them needs."""
    if fixturedef.scope == "function":
        return (yield)
    item = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    _context(item.partition("::")[0])
    try:
        return (yield)
    finally:
        _context(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    patience = float(os.environ[PATIENCE])

    def stop(number: int, frame: FrameType | None) -> None:
        pytest.skip(f"stopped after {patience:.0f} s of the processor")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, patience)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    if target := os.environ.get(RECORD):
        found = {"seconds": _seconds, "failed": sorted(_failed), "libraries": _libraries()}
        Path(target).write_text(json.dumps(found))


def _libraries() -> list[str]:
    """What others wrote and the tests import, whoever imports it first before it: some modules bear no other order."""
    here = str(Path.cwd())
    ours = ("__main__", "weaviate_backup", "tests", "e2e", "coverage")
    return [
        name
        for name, module in sys.modules.items()
        if not name.startswith(ours) and not str(getattr(module, "__file__", None) or here).startswith(here)
    ]


def _context(name: str) -> None:
    """Lines that run from now on are run for it."""
    if RECORD in os.environ and (recorder := coverage.Coverage.current()):
        recorder.switch_context(name)
