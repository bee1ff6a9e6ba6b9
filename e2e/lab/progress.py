"""What the person in front of the terminal sees: one line per step, with its time. Also fine in a log.

Steps may run in parallel threads: the line of each appears when it ends.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False, soft_wrap=True)


class _Running:
    """Titles of the steps that run now, shown in one spinner on a terminal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._titles: list[str] = []
        self._status = console.status("")

    def add(self, title: str) -> None:
        with self._lock:
            self._titles.append(title)
            if console.is_terminal:
                self._status.update("[dim]" + ", ".join(self._titles))
                self._status.start()

    def remove(self, title: str) -> None:
        with self._lock:
            self._titles.remove(title)
            if self._titles:
                self._status.update("[dim]" + ", ".join(self._titles))
            else:
                self._status.stop()


_running = _Running()


@contextmanager
def step(title: str, *, announce: bool = False) -> Iterator[None]:
    """Shows that `title` runs, then that it is done and how long that took. `announce`: a log tells its start too."""
    started = time.monotonic()
    if announce and not console.is_terminal:
        console.print(f"  … {title}")
    _running.add(title)
    try:
        yield
    except BaseException:
        _running.remove(title)
        console.print(f"[red]  ✗ {title}[/]  {_seconds_since(started)}")
        raise
    _running.remove(title)
    console.print(f"[green]  ✓[/] {title}  [dim]{_seconds_since(started)}[/]")


def _seconds_since(started: float) -> str:
    seconds = time.monotonic() - started
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def warn(message: str) -> None:
    """One loud line."""
    console.print(f"[bold yellow]  ! {message}[/]")
