"""Runs tests inside one lab and reports each of them here, as if it had run in this process.

Outside of a lab the first such test starts the lab with a pytest in it, for all of them; that one writes every report
to a file, and they are replayed here as they come. Inside (LAB_DIR is set) tests run as usual.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]
_REPORTS = "LAB_TEST_REPORTS"
_LOOK_EVERY_SECONDS = 0.1


def inside_lab() -> bool:
    return bool(os.environ.get("LAB_DIR"))


def write_report(config: pytest.Config, report: pytest.TestReport) -> None:
    """Inside: one line per report, for the process that started the lab."""
    if path := os.environ.get(_REPORTS):
        line = json.dumps(config.hook.pytest_report_to_serializable(config=config, report=report), default=str)
        with Path(path).open("a") as file:
            file.write(line + "\n")


class Relay:
    """One lab for all tests of a session that need it."""

    def __init__(self, items: list[pytest.Item]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="lab-tests-")
        self._reports = Path(self._directory.name, "reports.jsonl")
        self._output = Path(self._directory.name, "output.log")
        self._seen: dict[str, list[dict[str, Any]]] = {}
        self._read_bytes = 0
        self._reports.touch()
        command = ["e2e/lab/run", "--stores", "s3", "--", sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        with self._output.open("wb") as output:
            self._lab = subprocess.Popen(
                [*command, *(item.nodeid for item in items)],
                cwd=TOP,
                stdout=output,
                stderr=output,
                env=os.environ | {_REPORTS: str(self._reports)},
            )

    def reports_of(self, item: pytest.Item) -> list[pytest.TestReport]:
        """Waits for the test's reports. When the lab ends without them, the test has failed."""
        while not self._is_complete(item.nodeid):
            ended = self._lab.poll() is not None
            self._read()
            if ended and not self._is_complete(item.nodeid):
                return [self._failure(item)]
            time.sleep(_LOOK_EVERY_SECONDS)
        hook = item.config.hook
        return [hook.pytest_report_from_serializable(config=item.config, data=data) for data in self._seen[item.nodeid]]

    def close(self) -> None:
        """Returns when the lab is gone."""
        try:
            self._lab.wait(timeout=60)
        finally:
            if self._lab.poll() is None:
                self._lab.terminate()
                self._lab.wait()
            self._directory.cleanup()

    def _is_complete(self, nodeid: str) -> bool:
        return any(data["when"] == "teardown" for data in self._seen.get(nodeid, []))

    def _read(self) -> None:
        with self._reports.open() as file:
            file.seek(self._read_bytes)
            while (line := file.readline()).endswith("\n"):
                self._read_bytes = file.tell()
                data = json.loads(line)
                self._seen.setdefault(data["nodeid"], []).append(data)

    def _failure(self, item: pytest.Item) -> pytest.TestReport:
        tail = "\n".join(self._output.read_text(errors="replace").splitlines()[-60:])
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="failed",
            longrepr=f"the lab ended with status {self._lab.returncode} before this test had run:\n{tail}",
            when="call",
        )
