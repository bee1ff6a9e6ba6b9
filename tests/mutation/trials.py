"""Puts mutants into a copy of the tree, one after the other, and runs the tests that could notice.

The tree itself is only read. Each job has a copy of its own; whatever happens, the copy is thrown away.
"""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue

import pytest
from tests.mutation import plugin
from tests.mutation.mutators import Mutant
from tests.mutation.recording import Record, environment, pytest_arguments

NOT_COPIED = shutil.ignore_patterns(".git", ".*_cache", "__pycache__", ".hypothesis", ".venv", "build", "dist")
GRACE_SECONDS = 20
WAITING_FACTOR = 5
CONTROLS = 20
OUTPUT = ".output"


class Outcome(StrEnum):
    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"


@dataclass(frozen=True)
class Verdict:
    """`by`: what noticed, or why nothing could."""

    mutant: Mutant
    outcome: Outcome
    by: str = ""


@contextmanager
def copied(tree: Path) -> Iterator[Path]:
    """All sources and tests, compiled so that a changed source is never taken for what was compiled."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        copy = Path(directory).resolve() / "tree"
        shutil.copytree(tree, copy, ignore=NOT_COPIED, symlinks=True)
        folders = [str(path) for path in (copy / "operator", copy / "tests", copy / "e2e") if path.exists()]
        compileall = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", *folders]
        subprocess.run(compileall, check=True)
        yield copy


class Laboratory:
    """Where mutants are tried: each in a process of its own, born with all libraries that the tests import."""

    def __init__(self, tree: Path, copy: Path, record: Record, *, patience_seconds: float) -> None:
        self.tree = tree
        self.copy = copy
        self.record = record
        self.patience_seconds = patience_seconds
        self._nursery = multiprocessing.get_context("forkserver")
        self._nursery.set_forkserver_preload(record.libraries)

    def try_all(self, tests_of: dict[Mutant, list[str]], *, jobs: int) -> Iterator[Verdict]:
        """In the order given, each as soon as it and those before it are known."""
        copies: SimpleQueue[Path] = SimpleQueue()
        copies.put(self.copy)
        for number in range(1, jobs):
            copies.put(Path(shutil.copytree(self.copy, f"{self.copy}-{number}", symlinks=True)))

        quick = sorted({test for tests in tests_of.values() for test in tests}, key=self.record.seconds.__getitem__)
        if (
            quick
            and self._run(self.copy, quick[:CONTROLS], limit_seconds=10 * GRACE_SECONDS)[0] is not Outcome.SURVIVED
        ):
            raise SystemExit(f"tests fail without any mutant:\n{(self.copy / OUTPUT).read_text()}")

        def one(mutant: Mutant) -> Verdict:
            copy = copies.get()
            try:
                return self.verdict(copy, mutant, tests_of[mutant])
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(one, tests_of)

    def verdict(self, copy: Path, mutant: Mutant, tests: list[str]) -> Verdict:
        """Of the tests in their order: the first that fails has killed it."""
        if not tests:
            return Verdict(mutant, Outcome.SURVIVED, "no test runs it")
        source = (self.tree / mutant.path).read_text()
        expected = sum(min(self.record.seconds[name], self.patience_seconds) for name in tests)
        (copy / mutant.path).write_text(mutant.applied(source))
        try:
            outcome, by = self._run(copy, tests, limit_seconds=int(3 * expected) + GRACE_SECONDS)
        finally:
            (copy / mutant.path).write_text(source)
        return Verdict(mutant, outcome, by or f"{len(tests)} tests pass")

    def _run(self, copy: Path, tests: list[str], *, limit_seconds: int) -> tuple[Outcome, str]:
        """The limit counts what it does, not how busy the machine is; who waits for ever is ended later."""
        choice, output = copy / ".choice", copy / OUTPUT
        choice.write_text("\n".join(tests))
        files = sorted({name.partition("::")[0] for name in tests})
        variables = environment(copy, self.patience_seconds) | {plugin.CHOICE: str(choice)}
        arguments = (copy, output, variables, pytest_arguments("--exitfirst", *files), limit_seconds)
        process = self._nursery.Process(target=_in_a_child, args=arguments)
        process.start()
        process.join(WAITING_FACTOR * limit_seconds)
        if process.exitcode is None:
            _end(process)
            return Outcome.TIMED_OUT, f"after {WAITING_FACTOR * limit_seconds} s"
        if process.exitcode == -signal.SIGXCPU:
            return Outcome.TIMED_OUT, f"after {limit_seconds} s of the processor"
        if process.exitcode == 0:
            return Outcome.SURVIVED, ""
        return Outcome.KILLED, _first_failure(output.read_text())


def _in_a_child(copy: Path, output: Path, variables: dict[str, str], arguments: list[str], limit_seconds: int) -> None:
    """Pytest in a process that has the libraries already, and nothing of the product or its tests."""
    resource.setrlimit(resource.RLIMIT_CPU, (limit_seconds, limit_seconds + GRACE_SECONDS))
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    os.environ.update(variables)
    sys.path[:0] = [str(copy / "operator"), str(copy)]
    sys.dont_write_bytecode = True
    sys.argv = ["pytest"]
    code = pytest.main(arguments)
    sys.stdout.flush()
    os._exit(code)


def _end(process: BaseProcess) -> None:
    """As by hand first, so that servers which the tests started end, too."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.pid and process.exitcode is None:
            os.kill(process.pid, number)
            process.join(GRACE_SECONDS)


def _first_failure(output: str) -> str:
    lines = output.splitlines()
    named = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return (named or lines or [""])[0][:200]
