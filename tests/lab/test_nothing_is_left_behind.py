"""Labs at once do not disturb each other, and none leaves anything on the machine: not even one that is killed."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from e2e.lab.sandbox import cgroup_directories
from tests.lab.relay import TOP, inside_lab

pytestmark = pytest.mark.skipif(inside_lab(), reason="looks at the machine from outside of a lab")

_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
_GONE_SECONDS = 20


def _settings() -> list[str]:
    return [Path("/proc/sys", setting).read_text() for setting in _SETTINGS]


class _RunningLab:
    """A lab whose command waits to be let go, and then ends with a status of our choice."""

    def __init__(self, *, status: int, replicas: int) -> None:
        tell = f'echo "$LAB_DIR"; echo "$WEAVIATE_URLS"; read -r line; exit {status}'
        options = ["--replicas", str(replicas), "--stores", "filesystem", "--no-operator"]
        self._process = subprocess.Popen(
            ["e2e/lab/run", *options, "--", "bash", "-c", tell],
            cwd=TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_up(self) -> None:
        assert self._process.stdout
        self.directory = Path(self._process.stdout.readline().strip())
        self.urls = self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def let_go(self) -> tuple[int, str]:
        said = self._process.communicate("\n", timeout=60)[1]
        return self._process.returncode, said


def _left_overs(name: str) -> list[str]:
    """What names the lab: processes, mounts, cgroups."""
    found = [str(path) for path in cgroup_directories(name)]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if name in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if name in command:
            found.append(command)
    return found


def _wait_until_gone(name: str) -> list[str]:
    deadline = time.monotonic() + _GONE_SECONDS
    while (found := _left_overs(name)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def test_labs_at_once_do_not_meet_and_leave_nothing_behind() -> None:
    settings = _settings()
    interfaces = sorted(Path("/sys/class/net").iterdir())
    successful, failing, killed = labs = [
        _RunningLab(status=0, replicas=1),
        _RunningLab(status=7, replicas=0),
        _RunningLab(status=0, replicas=1),
    ]
    for lab in labs:
        lab.wait_until_up()
    names = [lab.directory.name for lab in labs]
    assert len(set(names)) == 3
    assert successful.urls == killed.urls != "", "each has the same addresses, in a network of its own"
    assert all(_left_overs(name) for name in names), "this test could not see a lab"

    killed.kill()
    failed = failing.let_go()
    succeeded = successful.let_go()

    assert failed[0] == 7
    assert f"logs are in {failing.directory / 'logs'}" in failed[1]
    assert succeeded[0] == 0, succeeded[1]
    assert not successful.directory.exists()
    assert [_wait_until_gone(name) for name in names] == [[], [], []]
    assert _settings() == settings
    assert sorted(Path("/sys/class/net").iterdir()) == interfaces
    for lab in (failing, killed):
        assert (lab.directory / "logs" / "kube-apiserver.log").is_file()
        shutil.rmtree(lab.directory)
