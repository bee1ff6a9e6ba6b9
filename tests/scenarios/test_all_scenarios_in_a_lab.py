"""Starts one lab and runs scenarios of this folder in it, one after the other, in one process.

Without options it is one end-to-end pass: round trips, refusals, and stock Weaviate restoring what we wrote.
`--scenarios all` adds what takes long: killed operators and agents, damaged backups, foreign nodes, the other
kinds of store.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from e2e.lab.stores import KINDS

ROOT = Path(__file__).resolve().parents[2]
PASS = ("test_round_trip.py", "test_refusals.py", "test_native_server.py")


@pytest.mark.lab
def test_scenarios_pass_in_a_lab(pytestconfig: pytest.Config) -> None:
    folder = "tests/scenarios"
    everything = pytestconfig.getoption("--scenarios") == "all"
    chosen = [folder] if everything else [f"{folder}/{name}" for name in PASS]
    inside = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0", "-m", "lab", *chosen]
    stores = KINDS if everything else ("s3",)
    done = subprocess.run(["e2e/lab/run", "--stores", *stores, "--", *inside], cwd=ROOT, check=False)
    assert done.returncode == 0, "see the output above"
