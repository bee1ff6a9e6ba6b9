"""Which collections an operation is about: `include` or `exclude`, with `*` and `?`, as in Weaviate's request body.

Class names start with a capital letter in Weaviate; a pattern's first letter is raised likewise, as its clients do.
Pure, and used for backups (against the live schema) and restores (against the backup's collections) alike.
"""

import fnmatch
import re
from collections.abc import Sequence

from weaviate_backup.errors import Permanent


def select(available: Sequence[str], *, include: Sequence[str], exclude: Sequence[str]) -> tuple[str, ...]:
    """The chosen ones, sorted. A name or pattern of `include` that matches nothing is refused, all of them at once."""
    if include and exclude:
        raise Permanent("IncludeAndExclude", "set include or exclude, not both")
    if include:
        unmatched = [pattern for pattern in include if not _matching(pattern, available)]
        if unmatched:
            raise Permanent(
                "CollectionNotFound",
                f"include matches no collection for {', '.join(map(repr, unmatched))}; there are "
                f"{_enumerated(available)}",
            )
        return tuple(sorted({name for pattern in include for name in _matching(pattern, available)}))
    excluded = {name for pattern in exclude for name in _matching(pattern, available)}
    chosen = tuple(sorted(set(available) - excluded))
    if not chosen and available:
        raise Permanent("NothingSelected", f"exclude leaves none of {_enumerated(available)}")
    return chosen


def _matching(pattern: str, available: Sequence[str]) -> list[str]:
    expression = re.compile(_expression(pattern[:1].upper() + pattern[1:]))
    return [name for name in available if expression.fullmatch(name)]


def _expression(pattern: str) -> str:
    """Only `*` and `?` are special; fnmatch would also take brackets."""
    return fnmatch.translate(pattern.replace("[", "[[]"))


def _enumerated(names: Sequence[str], limit: int = 10) -> str:
    if not names:
        return "none"
    rest = len(names) - limit
    return ", ".join(sorted(names)[:limit]) + (f" and {rest} more" if rest > 0 else "")
