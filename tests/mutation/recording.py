"""Which test runs which line of the product, and how long it takes: found out once per content of the tree.

A record is kept per file of tests, outside the tree, by a hash of all sources, of what tests share, and of that file.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import coverage
from tests.mutation import plugin

PACKAGE = Path("operator", "weaviate_backup")


@dataclass
class Record:
    """`lines`: of each path, by number, the tests that run it, or a whole file of tests whose fixtures do. `libraries`:
    what the tests import of others."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    lines: dict[str, dict[int, list[str]]] = field(default_factory=dict)

    def tests_of(self, path: str, numbers: Iterable[int] | None = None) -> list[str]:
        """The quickest first: those that run one of the lines, or anything of that path."""
        lines = self.lines.get(path, {})
        names = {name for number in (lines if numbers is None else numbers) for name in lines.get(number, ())}
        names |= {test for test in self.seconds if test.partition("::")[0] in names}
        return self.in_order(names)

    def tests(self) -> set[str]:
        """All but those that failed unchanged."""
        return self.seconds.keys() - set(self.failed)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Those of them that are of use, the quickest first."""
        return sorted(self.tests().intersection(names), key=lambda name: (self.seconds[name], name))


def recorded(tree: Path, copy: Path, suites: Iterable[str], *, patience_seconds: float) -> Record:
    """What is known of all tests in the folders; what is missing is found out in the copy of the tree."""
    files = [path.relative_to(tree) for suite in suites for path in sorted((tree / "tests" / suite).rglob("test_*.py"))]
    shared = _shared_hash(tree, patience_seconds)
    records = _cache() / "records"
    places = {
        path: records / f"{hashlib.sha256(shared + (tree / path).read_bytes()).hexdigest()}.json" for path in files
    }
    missing = [path for path, place in places.items() if not place.exists()]
    if missing:
        print(f"recording which lines {len(missing)} files of tests run", file=sys.stderr, flush=True)
        records.mkdir(parents=True, exist_ok=True)
        found = _run(copy, missing, patience_seconds)
        for path in missing:
            partial = places[path].with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(_part(found, path)))
            partial.rename(places[path])
    return _joined(json.loads(place.read_text()) for place in places.values())


def environment(copy: Path, patience_seconds: float) -> dict[str, str]:
    """For Python in a copy: its sources come before those that are installed."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return outside | {
        "PYTHONPATH": f"{copy / 'operator'}:{copy}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        plugin.PATIENCE: str(patience_seconds),
    }


def pytest_arguments(*arguments: str) -> list[str]:
    quiet = [
        "-p",
        "tests.mutation.plugin",
        "-p",
        "no:cacheprovider",
        "--assert=plain",
        "-q",
        "--tb=line",
        "--no-header",
    ]
    return [*quiet, *arguments]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weaviate-backup-operator" / "mutants"


def _shared_hash(tree: Path, patience_seconds: float) -> bytes:
    digest = hashlib.sha256(f"{patience_seconds} {coverage.__version__} {sys.version}".encode())
    sources = sorted((tree / PACKAGE).rglob("*.py"))
    tests = sorted(path for path in (tree / "tests").rglob("*") if path.is_file() and _is_shared(path))
    for path in (*sources, *tests):
        digest.update(f"{path.relative_to(tree)} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.digest()


def _is_shared(path: Path) -> bool:
    return not path.name.startswith("test_") and not {"__pycache__", "mutation"} & set(path.parts)


def _run(copy: Path, files: list[Path], patience_seconds: float) -> Record:
    settings, data, report = copy / ".coveragerc", copy / ".coverage", copy / ".record"
    settings.write_text(
        f"[run]\nsource = {copy / PACKAGE}\ndata_file = {data}\nparallel = true\nsigterm = true\ncore = ctrace\n"
        "context = ${PYTEST_CURRENT_TEST-}\ndisable_warnings = no-data-collected,module-not-measured\n"
    )
    variables = environment(copy, patience_seconds) | {
        plugin.RECORD: str(report),
        "COVERAGE_PROCESS_START": str(settings),
    }
    command = [sys.executable, "-m", "pytest", *pytest_arguments(*map(str, files))]
    subprocess.run(command, cwd=copy, env=variables, stdout=sys.stderr, check=False)
    if not report.exists():
        raise SystemExit("the tests did not run to their end without any mutant: see above")
    record = Record(**json.loads(report.read_text()))
    whole = coverage.Coverage(config_file=str(settings))
    whole.combine(data_paths=[str(copy)])
    results = whole.get_data()
    for path in results.measured_files():
        by_line = results.contexts_by_lineno(path)
        record.lines[str(Path(path).relative_to(copy))] = {
            line: sorted({_test(each) for each in names} - {""}) for line, names in by_line.items()
        }
    return record


def _test(context: str) -> str:
    """Programs that a test starts have a variable of pytest's as their context, which says the phase, too."""
    name, _, phase = context.rpartition(" ")
    return name if phase in ("(setup)", "(call)", "(teardown)") else context


def _part(record: Record, path: Path) -> dict[str, object]:
    """What one file of tests has to do with."""

    def ours(name: str) -> bool:
        return name.partition("::")[0] == str(path)

    lines = {
        name: kept
        for name, by_line in record.lines.items()
        if (
            kept := {
                line: tests for line, names in by_line.items() if (tests := [each for each in names if ours(each)])
            }
        )
    }
    return {
        "seconds": {name: seconds for name, seconds in record.seconds.items() if ours(name)},
        "failed": [name for name in record.failed if ours(name)],
        "libraries": record.libraries,
        "lines": lines,
    }


def _joined(parts: Iterator[dict[str, dict[str, dict[str, list[str]]]]]) -> Record:
    lines: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    record = Record()
    for part in parts:
        record.seconds.update(part["seconds"])  # type: ignore[arg-type]
        record.failed.extend(part["failed"])
        record.libraries = list(dict.fromkeys([*record.libraries, *part["libraries"]]))
        for path, by_line in part["lines"].items():
            for line, names in by_line.items():
                lines[path][int(line)] += names
    record.lines = {path: dict(by_line) for path, by_line in lines.items()}
    return record
