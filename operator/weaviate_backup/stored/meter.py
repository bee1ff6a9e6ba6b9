"""How far work is, counted from many threads, and the one place where a step learns that it must stop.

Counting is cheap and asks for a stop each time, so a transfer ends within a block. The runner looks at `snapshot` from
time to time and tells those who wait.
"""

import threading
from collections.abc import Callable, Iterable, Iterator

from weaviate_backup.core.session import Progress, Wire
from weaviate_backup.errors import Permanent


class Meter:
    """Counters of one run of one step."""

    def __init__(self, tell: Callable[[Wire], None] = lambda _: None) -> None:
        """`tell`: to those who ask, what is known before the step ends; in the thread that the step began in."""
        self.tell = tell
        self._lock = threading.Lock()
        self._counts: dict[str, int] = Progress().model_dump()
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def check(self) -> None:
        """Raise when the step must end. Permanent, so that no retry goes on."""
        if self._stopped.is_set():
            raise Permanent("StepCanceled", "the step was told to stop")

    def pause(self, seconds: float) -> None:
        """Wait, unless told to stop meanwhile; then raise."""
        self._stopped.wait(seconds)
        self.check()

    def add(self, *, bytes_done: int = 0, bytes_reused: int = 0, bytes_stored: int = 0, files_done: int = 0) -> None:
        self.check()
        with self._lock:
            self._counts["bytes_done"] += bytes_done
            self._counts["bytes_reused"] += bytes_reused
            self._counts["bytes_stored"] += bytes_stored
            self._counts["files_done"] += files_done

    def counted(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The blocks, each counted as done before it is given on."""
        for block in blocks:
            self.add(bytes_done=len(block))
            yield block

    def take_back(self, bytes_done: int) -> None:
        """A transfer starts from zero; what it had counted was not done."""
        with self._lock:
            self._counts["bytes_done"] -= bytes_done

    def expect(self, *, bytes_total: int, files_total: int) -> None:
        with self._lock:
            self._counts |= {"bytes_total": bytes_total, "files_total": files_total}

    def snapshot(self) -> Progress:
        with self._lock:
            return Progress(**{name: max(count, 0) for name, count in self._counts.items()})
