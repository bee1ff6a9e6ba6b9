"""What survives the machine, not only the process: one flush for many files, and a name for this boot.

Flushing each of a hundred thousand small files would take hours; one `syncfs` takes them all. Until it was done, what
was written is only as safe as the machine, so records of it are believed in the same boot only.
"""

import ctypes
import os
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Changes when the machine starts; empty where the kernel does not tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def sync_file_system(path: Path) -> None:
    """Make everything written to the file system of `path` durable."""
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if library.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
