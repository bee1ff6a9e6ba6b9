"""What survives the machine, not only the process: a name for this boot, to tell what was written before it.

Flushing each of a hundred thousand small files would take hours; one `Place.sync_file_system` takes them all. Until it
was done, what was written is only as safe as the machine, so records of it are believed in the same boot only.
"""

from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Changes when the machine starts; empty where the kernel does not tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
