"""Starts one lab and runs every scenario of this folder in it: one after the other, in one process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.lab
def test_all_scenarios_pass_in_a_lab() -> None:
    inside = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0", "-m", "lab", "tests/scenarios"]
    done = subprocess.run(["e2e/lab/run", "--stores", "s3", "--", *inside], cwd=ROOT, check=False)
    assert done.returncode == 0, "see the output above"
