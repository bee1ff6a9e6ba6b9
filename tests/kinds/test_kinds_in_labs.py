"""Starts a lab per server and way of indexing, and tries every kind of data in it.

Without options it is the oldest server, indexing in the background, which has the most kinds and forgets the most.
`--scenarios all` takes all of them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.lab.programs import OLDER_WEAVIATE_VERSION, WEAVIATE_VERSION

ROOT = Path(__file__).resolve().parents[2]
PASS = (OLDER_WEAVIATE_VERSION, "true")


@pytest.mark.lab
@pytest.mark.parametrize("asynchronous", ["true", "false"])
@pytest.mark.parametrize("version", [OLDER_WEAVIATE_VERSION, WEAVIATE_VERSION])
def test_every_kind_of_data_comes_back(pytestconfig: pytest.Config, version: str, asynchronous: str) -> None:
    if pytestconfig.getoption("--scenarios") != "all" and (version, asynchronous) != PASS:
        pytest.skip("one lab only; all of them run with --scenarios all")
    lab = ["e2e/lab/run", "--weaviate", version, "--weaviate-env", f"ASYNC_INDEXING={asynchronous}", "--stores", "s3"]
    inside = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0", "-m", "lab", "tests/kinds"]
    environment = os.environ | {"LAB_ASYNC_INDEXING": asynchronous}
    done = subprocess.run([*lab, "--", *inside], cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, "see the output above"
