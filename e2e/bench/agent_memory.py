"""The most memory that any agent process held, from /proc: in the lab all processes are visible."""

import threading
from pathlib import Path

SAMPLE_SECONDS = 0.2


class AgentMemory:
    """Watches while used as a context. The kernel keeps each peak, so only the last moment of a process is lost."""

    def __init__(self) -> None:
        self.peak_bytes: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "AgentMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def largest_bytes(self) -> int:
        """Zero means that no agent was seen."""
        return max(self.peak_bytes.values(), default=0)

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            for identifier, peak in sample().items():
                self.peak_bytes[identifier] = max(peak, self.peak_bytes.get(identifier, 0))


def sample() -> dict[int, int]:
    """Peak resident bytes of the agents that run now, by process."""
    found = {}
    for identifier in agent_processes():
        peak = _peak_bytes(Path("/proc") / str(identifier) / "status")
        if peak is not None:
            found[identifier] = peak
    return found


def agent_processes(node: str | None = None) -> list[int]:
    """Processes that run our agent, or only that of one node."""
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and _is_agent(folder) and (node is None or _serves(folder, node))
    ]


def _is_agent(folder: Path) -> bool:
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(b"weaviate-backup-operator" in word for word in words[:3]) and b"agent" in words


def _serves(folder: Path, node: str) -> bool:
    try:
        return f"WVB_NODE={node}".encode() in (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _peak_bytes(status: Path) -> int | None:
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
