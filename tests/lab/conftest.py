"""Tests of the lab. Those marked `lab` run inside one that is started for them; the others start labs of their own."""

from collections.abc import Generator
from pathlib import Path

import pytest
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.surroundings import Surroundings, surroundings
from tests.lab.relay import Relay, inside_lab, write_report

HERE = Path(__file__).parent
_relay_key = pytest.StashKey[Relay]()


def _runs_in_lab(item: pytest.Item) -> bool:
    return HERE in item.path.parents and item.get_closest_marker("lab") is not None


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Outside of a lab: replays what happened to the test inside one."""
    if inside_lab() or not _runs_in_lab(item):
        return None
    stash = item.session.stash
    if _relay_key not in stash:
        stash[_relay_key] = Relay([other for other in item.session.items if _runs_in_lab(other)])
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in stash[_relay_key].reports_of(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _relay_key in session.stash:
        session.stash[_relay_key].close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if inside_lab() and _runs_in_lab(item):
        write_report(item.config, report)
    return report


@pytest.fixture(scope="session")
def lab() -> Surroundings:
    return surroundings()


@pytest.fixture(scope="session")
def kubectl(lab: Surroundings) -> Kubectl:
    return Kubectl(lab.namespace)
