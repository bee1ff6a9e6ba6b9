"""Starts a lab with every kind of store and without our operator, and installs that as users do."""

import subprocess
import sys
from pathlib import Path

import pytest
from e2e.lab.programs import OLDER_HELM, build

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.lab
def test_installations_pass_in_a_lab() -> None:
    build([OLDER_HELM])
    lab = ["e2e/lab/run", "--no-operator", "--stores", "s3", "gcs", "azure"]
    inside = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "lab", "tests/installation"]
    done = subprocess.run([*lab, "--", *inside], cwd=ROOT, check=False)
    assert done.returncode == 0, "see the output above"
