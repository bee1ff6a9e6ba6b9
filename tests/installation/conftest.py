"""The chart as users install it, in a lab that has no operator yet.

Outside of the lab only the test that starts it is collected, and that with `--scenarios all`.
"""

import os
from pathlib import Path

import pytest
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.surroundings import Surroundings, surroundings

_STARTER = "test_installations_in_a_lab.py"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    inside = bool(os.environ.get("LAB_DIR"))
    if collection_path.name == _STARTER:
        return True if inside or config.getoption("--scenarios") != "all" else None
    return True if collection_path.name.startswith("test_") and not inside else None


@pytest.fixture(scope="session")
def lab() -> Surroundings:
    return surroundings()


@pytest.fixture(scope="session")
def kubectl(lab: Surroundings) -> Kubectl:
    return Kubectl(lab.namespace)
