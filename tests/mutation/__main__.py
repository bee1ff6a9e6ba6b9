"""`tests/mutants`: plants small faults into the product, one at a time, and tells which of them no test notices."""

import argparse
import ast
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from tests.mutation.judged import Judgements
from tests.mutation.mutators import Mutant, mutants_of
from tests.mutation.recording import PACKAGE, Record, recorded
from tests.mutation.trials import Laboratory, Outcome, Verdict, copied

TREE = Path(__file__).resolve().parents[2]
SUITES = {
    "core": ("core", "layout", "stored"),
    "layout": ("layout", "stored", "answers"),
    "stored": ("stored",),
    "storage": ("storage", "stored"),
    "agent": ("agent", "layout"),
}
"""Which tests must notice a fault, by the part that has it: the fast ones. `answers` has those of bounds of JSON."""
RATE = 0.95
"""Of the mutants that change anything, this part is to be noticed."""


def main() -> int:
    arguments = _arguments()
    tree: Path = arguments.tree.resolve()
    judged = Judgements.read(arguments.judged)
    verdicts: dict[str, list[Verdict]] = {}
    stale: list[tuple[str, str, str, str]] = []
    for part, paths in _parts(tree, arguments.paths).items():
        sources = {path: (tree / path).read_text() for path in paths}
        possible = [mutant for path, source in sources.items() for mutant in mutants_of(path, source)]
        stale += judged.stale(possible, paths)
        picked = [mutant for mutant in possible if arguments.only in mutant.before]
        picked = sampled(picked, random.Random(f"{arguments.seed} {part}"), arguments.count)
        verdicts[part] = []
        for verdict in _verdicts(tree, part, picked, judged, arguments):
            verdicts[part].append(verdict)
            print(f"{verdict.outcome:>10}  {_place(verdict.mutant)}  {verdict.by}", flush=True)
            if verdict.outcome is Outcome.SURVIVED:
                print(verdict.mutant.diff(sources[verdict.mutant.path]), flush=True)
    print(_table(verdicts))
    for name in stale:
        print("judged, but no longer there: " + " | ".join(name))
    every = [verdict for each in verdicts.values() for verdict in each]
    return int(bool(stale) or _rate(every) < RATE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/mutants", description=__doc__)
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"parts ({', '.join(SUITES)}) or files; all parts")
    parser.add_argument("--seed", default="0", help="the same seed picks the same mutants of the same sources")
    parser.add_argument("--count", type=int, default=60, help="how many of each part; 0: all")
    parser.add_argument("--jobs", type=int, default=1, help="how many are tried at once")
    parser.add_argument("--only", default="", help="only mutants of a text with this in it")
    parser.add_argument(
        "--patience", type=float, default=20, help="seconds of the processor after which one test is stopped"
    )
    parser.add_argument("--judged", type=Path, default=TREE / "tests/mutation/equivalent.toml", help="those let be")
    parser.add_argument("--tree", type=Path, default=TREE, help="another checkout")
    return parser.parse_args()


def _parts(tree: Path, wanted: list[str]) -> dict[str, list[str]]:
    """The files to look at, relative to the tree, by part."""
    package = tree / PACKAGE
    files: dict[str, list[str]] = {}
    for name in wanted or SUITES:
        place = package / name if name in SUITES else Path(name).resolve()
        found = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for path in found:
            part = path.relative_to(package).parts[0]
            if part not in SUITES or not path.exists():
                raise SystemExit(f"{name}: neither one of {', '.join(SUITES)} nor a file of those")
            files.setdefault(part, []).append(str(path.relative_to(tree)))
    return files


def sampled(possible: list[Mutant], chance: random.Random, count: int) -> list[Mutant]:
    """At most one of each line, so that a line full of numbers weighs no more than another."""
    if not count:
        return possible
    by_line: dict[tuple[str, int], list[Mutant]] = {}
    for mutant in possible:
        by_line.setdefault((mutant.path, mutant.line), []).append(mutant)
    lines = chance.sample(sorted(by_line), min(count, len(by_line)))
    return [chance.choice(by_line[line]) for line in sorted(lines)]


def _verdicts(
    tree: Path, part: str, picked: list[Mutant], judged: Judgements, arguments: argparse.Namespace
) -> Iterator[Verdict]:
    left = []
    for mutant in picked:
        if why := judged.why(mutant):
            yield Verdict(mutant, Outcome.EQUIVALENT, why)
        else:
            left.append(mutant)
    if not left:
        return
    with copied(tree) as copy:
        record = recorded(tree, copy, SUITES[part], patience_seconds=arguments.patience)
        if record.failed:
            print("not used, since they fail without a mutant:", *record.failed, sep="\n  ", file=sys.stderr)
        tests_of = {mutant: _tests_of(tree, mutant, record) for mutant in left}
        yield from Laboratory(tree, copy, record, patience_seconds=arguments.patience).try_all(
            tests_of, jobs=arguments.jobs
        )


def _tests_of(tree: Path, mutant: Mutant, record: Record) -> list[str]:
    """Those that run its lines. What runs at the import is for all tests of the module to notice, for those that only
    look at what it made, or for those of its importers."""
    source = (tree / mutant.path).read_text()
    first = source.encode()[: mutant.start].count(b"\n") + 1
    lines = range(first, source.encode()[: mutant.end].count(b"\n") + 2)
    if mutant.line in _lines_of_functions(source) and (tests := record.tests_of(mutant.path, lines)):
        return tests
    if mutant.line in _lines_of_functions(source):
        return []
    marks = _marks(mutant.path)
    looking = {name for name in record.tests() if any(mark in _text(tree, name) for mark in marks)}
    return record.in_order(looking.union(record.tests_of(mutant.path))) or _at(record, _importers(tree, mutant.path))


def _at(record: Record, paths: Iterable[str]) -> list[str]:
    return record.in_order(name for path in paths for name in record.tests_of(path))


@cache
def _text(tree: Path, test: str) -> str:
    return (tree / test.partition("::")[0]).read_text()


def _lines_of_functions(source: str) -> set[int]:
    functions = (
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {line for node in functions for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1)}


def _marks(path: str) -> tuple[str, ...]:
    """One of which a source has that imports the module."""
    module = str(Path(path).with_suffix("").relative_to("operator")).replace("/", ".")
    package, _, name = module.rpartition(".")
    return (f"import {module}\n", f"from {module} import", f"from {package} import {name}")


def _importers(tree: Path, path: str) -> list[str]:
    marks = _marks(path)
    sources = sorted((tree / PACKAGE).rglob("*.py"))
    return [str(each.relative_to(tree)) for each in sources if any(mark in each.read_text() for mark in marks)]


def _place(mutant: Mutant) -> str:
    return f"{Path(mutant.path).relative_to(PACKAGE)}:{mutant.line}"


def _rate(verdicts: list[Verdict]) -> float:
    count = Counter(verdict.outcome for verdict in verdicts)
    noticed = count[Outcome.KILLED] + count[Outcome.TIMED_OUT]
    return noticed / max(1, noticed + count[Outcome.SURVIVED])


def _table(verdicts: dict[str, list[Verdict]]) -> str:
    head = ("part", "tried", *Outcome, "noticed")
    rows = [head]
    for name, each in (*verdicts.items(), ("all", [verdict for part in verdicts.values() for verdict in part])):
        count = Counter(verdict.outcome for verdict in each)
        rows.append((name, str(len(each)), *(str(count[outcome]) for outcome in Outcome), f"{_rate(each):.1%}"))
    return "\n".join("  ".join(f"{cell:>10}" for cell in row) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
