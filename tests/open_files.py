"""Which files processes have open, of those that may have no name any more."""

from contextlib import suppress
from pathlib import Path


def open_below(directory: Path) -> list[str]:
    """By any process that we may look at."""
    found: list[str] = []
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            for descriptor in descriptors.iterdir():
                with suppress(OSError):
                    found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(f"{directory}/")]
