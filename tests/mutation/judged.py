"""Mutants that a person looked at and found to change nothing: `equivalent.toml`, matched by text and not by line."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutators import Mutant


@dataclass(frozen=True)
class Judgements:
    """`reasons`: why each, by the name of a mutant."""

    reasons: dict[tuple[str, str, str, str], str]

    @classmethod
    def read(cls, path: Path) -> "Judgements":
        """Of a file that may be missing. `path` within it is relative to the package."""
        entries = tomllib.loads(path.read_text())["equivalent"] if path.exists() else []
        for entry in entries:
            if entry.keys() != {"path", "function", "before", "after", "why"} or not entry["why"].strip():
                raise SystemExit(f"{path}: an entry has a path, function, before, after and why, not {entry}")
        return cls({(each["path"], each["function"], each["before"], each["after"]): each["why"] for each in entries})

    def why(self, mutant: Mutant) -> str | None:
        return self.reasons.get(mutant.name)

    def stale(self, mutants: Iterable[Mutant], paths: Iterable[str]) -> list[tuple[str, str, str, str]]:
        """Those about one of the paths, of which no mutant is left, or whose path is gone."""
        possible, looked_at = {mutant.name for mutant in mutants}, set(paths)
        return sorted(name for name in self.reasons if name[0] in looked_at and name not in possible)
