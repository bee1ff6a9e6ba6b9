"""Long-running programs inside the sandbox: started with a log file, watched while something is waited for."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class LabFailed(Exception):
    """The lab could not be made; the message names the part and its log."""


class Processes:
    """All programs of one lab. They end with the sandbox, whatever happens."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self,
        name: str,
        command: list[str | Path],
        *,
        environment: dict[str, str] | None = None,
        working_directory: Path | None = None,
    ) -> int:
        """Starts a program of which everything said goes to `logs/<name>.log`, in a session of its own, so that an
        interrupt at the terminal reaches the command but not the cluster under it. Gives its process id."""
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=working_directory,
                start_new_session=True,
            )
        return self._running[name].pid

    def wait_for(self, what: str, look: Callable[[], T | None], *, seconds: float = 60, every: float = 0.1) -> T:
        """Looks until there is an answer. Ends at once when a program has died, and names it."""
        deadline = time.monotonic() + seconds
        while True:
            if (answer := look()) is not None and answer is not False:
                return answer
            self.require_all_alive()
            if time.monotonic() > deadline:
                raise LabFailed(f"{what}: not within {seconds:.0f} s; logs are in {self._logs}")
            time.sleep(every)

    def require_all_alive(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                log = self._logs / f"{name}.log"
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise LabFailed(f"{name} ended with status {process.returncode}; the end of {log}:\n{tail}")
