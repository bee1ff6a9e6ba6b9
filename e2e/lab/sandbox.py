"""The sandbox that a lab lives in: kernel namespaces whose end ends all processes, mounts and interfaces in them.

What the kernel does not remove by itself (empty cgroups, the lab's folder) is removed by a janitor: a process of its
own that waits until the lab's own process is gone, however that ends, and then sweeps.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_SWEEP_SECONDS = 20
_KEEP, _REMOVE = b"keep", b"remove"
_PR_SET_PDEATHSIG = 1


class Janitor:
    """Sweeps up after one lab. Made before anything that has to be swept."""

    def __init__(self, directory: Path) -> None:
        reader, self._writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._writer)
            _sweep_when_told(reader, directory)
            os._exit(0)
        os.close(reader)

    def finish(self, *, keep_directory: bool) -> None:
        """Has everything swept; returns when it is."""
        os.write(self._writer, _KEEP if keep_directory else _REMOVE)
        os.close(self._writer)
        os.waitpid(self._pid, 0)


def _sweep_when_told(reader: int, directory: Path) -> None:
    """Runs in the janitor. End of file without a word means that the lab's process was killed: its folder stays."""
    os.setsid()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    word = os.read(reader, 16)
    remove_cgroups(directory.name)
    if word == _REMOVE:
        shutil.rmtree(directory, ignore_errors=True)


def cgroup_directories(name: str) -> Iterator[Path]:
    """The lab's folder in every cgroup hierarchy, of version 1 and 2."""
    hierarchies = [_CGROUPS, *(path for path in _CGROUPS.iterdir() if path.is_dir())] if _CGROUPS.is_dir() else []
    for hierarchy in hierarchies:
        if (hierarchy / name).is_dir():
            yield hierarchy / name


def remove_cgroups(name: str) -> None:
    """Removes the lab's cgroups, innermost first; waits for the last processes in them to be gone."""
    deadline = time.monotonic() + _SWEEP_SECONDS
    while remaining := list(cgroup_directories(name)):
        for top in remaining:
            for directory, _, _ in os.walk(top, topdown=False):
                try:
                    Path(directory).rmdir()
                except OSError:
                    continue  # still holds a process; the next round finds it
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def run_in_sandbox(module: str, argument: Path) -> int:
    """Runs a Python module as the first process of a new sandbox; gives its exit status. The sandbox dies with us."""
    command = [
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "private",
    ]
    first = subprocess.Popen([*command, sys.executable, "-m", module, argument], preexec_fn=_die_with_parent)  # noqa: PLW1509 - no threads here
    try:
        while True:
            try:
                return first.wait()
            except KeyboardInterrupt:
                continue  # the terminal told the command too; it ends in its own way
    finally:
        first.kill()
        first.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def become_first_process() -> None:
    """In the sandbox's first process: goes on in a child, and adopts and buries what orphans the sandbox makes."""
    child = os.fork()
    if child == 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) % 256)
