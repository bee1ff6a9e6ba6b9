"""The operator as its Pod runs it: a process of its own, whose memory and time can be measured."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.api_server import ApiServer

STOP_SECONDS = 45.0


@dataclass(frozen=True)
class OperatorProcess:
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def peak_mib(self) -> int:
        """The most memory that it ever held, as its cgroup would count it."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_operator(
    server: ApiServer, directory: Path, *, namespace: str, **settings: str
) -> Iterator[OperatorProcess]:
    """Serves all namespaces as the administrator, without agents that could run."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(server.kubeconfig),
        "WVB_NAMESPACE": namespace,
        "WVB_AGENT_IMAGE": "agent",
        "WVB_HEALTH_PORT": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **settings,
    }
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "operator.log"
    command = [sys.executable, "-m", "weaviate_backup.cli", "operator"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield OperatorProcess(process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
