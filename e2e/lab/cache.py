"""The project's cache on this machine: what is made once, outside the tree, shared by all checkouts and all labs."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.lab.progress import step

_UNUSED_SECONDS = 24 * 3600


def project_cache() -> Path:
    """Where everything that is made once is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weaviate-backup-operator"


@contextmanager
def exclusively(lock: Path, *, waiting_for: str) -> Iterator[None]:
    """Holds a lock file; tells what is waited for when another process holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(f"waiting for {waiting_for}", announce=True):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mark_used(directory: Path) -> None:
    os.utime(directory)


def forget_unused(parent: Path, pattern: str, *, keep: int) -> None:
    """Removes folders that nobody used for a day, but for the `keep` newest. A day, because a lab may be using one."""
    newest_first = sorted(parent.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    now = time.time_ns()
    for directory in newest_first[keep:]:
        if now - directory.stat().st_mtime_ns > _UNUSED_SECONDS * 10**9:
            shutil.rmtree(directory, ignore_errors=True)
