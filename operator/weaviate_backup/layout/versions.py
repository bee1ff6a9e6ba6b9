"""Versions of the server and of the backup structure, as numbers that compare."""

from typing import Final

SPLIT_FILES_SINCE: Final = {(1, 35): 15, (1, 36): 5}
"""Patch of the lines in which servers learned to read a file that is split over chunks; every later line can."""


def version_key(version: str) -> tuple[int, ...]:
    """`1.39.1-rc.0` → (1, 39, 1): a pre-release counts as its release."""
    core = version.lstrip("v").partition("-")[0].partition("+")[0]
    return tuple(int(part) if part.isascii() and part.isdigit() else 0 for part in core.split("."))


def minor_key(version: str) -> tuple[int, int]:
    """`1.39.1` → (1, 39): what decides whether a server can read another one's files."""
    major, minor, *_ = (*version_key(version), 0, 0)
    return major, minor


def reads_split_files(version: str) -> bool:
    """Whether a server takes parts of a file for what they are. Older ones write every part at the file's start."""
    line = minor_key(version)
    first = SPLIT_FILES_SINCE.get(line)
    if first is None:
        return line > max(SPLIT_FILES_SINCE)
    return version_key(version) >= (*line, first)
