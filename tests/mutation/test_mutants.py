"""The command on a tree of two lines worth mutating: it tells what tests notice from what they do not."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mutation.__main__ import sampled
from tests.mutation.mutators import mutants_of

TOP = Path(__file__).resolve().parents[2]
THING = '''"""A module."""


def grade(points: int) -> str:
    """Says how good it is."""
    if points > 9:
        return "good"
    return "bad"
'''
TABLE = '''"""What runs when it is imported."""

WORDS = {"good": 1}


def worth(word: str) -> int:
    return WORDS[word]
'''
LOOKING = """from weaviate_backup.core.table import WORDS

FOUND = dict(WORDS)


def test_words() -> None:
    assert FOUND == {"good": 1}
"""
CALLING = """from weaviate_backup.core import table


def test_words_have_a_worth() -> None:
    for word in list(table.WORDS):
        assert table.worth(word)
"""
TEST = """from weaviate_backup.core.thing import grade


def test_grade() -> None:
    assert grade(20) == "good"
    assert grade(0) == "bad"
"""
JUDGED = """[[equivalent]]
path = "operator/weaviate_backup/core/thing.py"
function = "grade"
before = "9"
after = "8"
why = "nobody has nine points"
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    texts = {
        "operator/weaviate_backup/__init__.py": "",
        "operator/weaviate_backup/core/__init__.py": "",
        "operator/weaviate_backup/core/thing.py": THING,
        "tests/core/test_thing.py": TEST,
    }
    for name, text in texts.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    # what runs the tests comes with the tree
    (tree / "tests" / "mutation").symlink_to(TOP / "tests" / "mutation")
    return tree


def mutants(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.mutation", "--tree", str(tree), "core", *arguments]
    variables = os.environ | {"XDG_CACHE_HOME": str(tree.parent / "cache")}
    return subprocess.run(command, cwd=TOP, env=variables, capture_output=True, text=True, check=False)


def test_what_is_noticed_is_told_from_what_is_not(tree: Path) -> None:
    before = {path: path.read_bytes() for path in tree.rglob("*.py")}
    found = mutants(tree, "--count", "0")
    assert found.returncode == 1, found.stdout + found.stderr
    lines = found.stdout.splitlines()
    assert "  survived  core/thing.py:6  1 tests pass" in lines
    assert "-    if points > 9:" in lines
    assert {"+    if points >= 9:", "+    if points > 10:", "+    if points > 8:"} <= set(lines)
    assert not {"+    if points <= 9:", "+    if False:"} & set(lines), "those are noticed"
    assert any("killed  core/thing.py:7" in line for line in lines)
    assert {path: path.read_bytes() for path in tree.rglob("*.py")} == before


def test_judged_ones_count_for_nothing_and_stale_judgements_are_told(tree: Path) -> None:
    judgements = tree.parent / "judged.toml"
    judgements.write_text(JUDGED + JUDGED.replace('"8"', '"7"'))
    found = mutants(tree, "--judged", str(judgements), "--only", "9", "--count", "0")
    assert "equivalent  core/thing.py:6  nobody has nine points" in found.stdout
    stale = [line for line in found.stdout.splitlines() if line.startswith("judged, but no longer there")]
    assert stale == ["judged, but no longer there: operator/weaviate_backup/core/thing.py | grade | 9 | 7"]
    assert found.returncode == 1


def test_what_runs_at_the_import_is_for_those_to_notice_that_look_at_it(tree: Path) -> None:
    """They run no line of it themselves; who does may not look at all of it."""
    (tree / "operator/weaviate_backup/core/table.py").write_text(TABLE)
    (tree / "tests/core/test_calling.py").write_text(CALLING)
    lonely = mutants(tree, "--only", "good", "--count", "0").stdout
    assert "survived  core/table.py:3  1 tests pass" in lonely
    (tree / "tests/core/test_looking.py").write_text(LOOKING)
    assert "killed  core/table.py:3" in mutants(tree, "--only", "good", "--count", "0").stdout


def test_what_no_test_runs_survives(tree: Path) -> None:
    (tree / "tests" / "core" / "test_thing.py").unlink()
    found = mutants(tree, "--seed", "3", "--count", "1").stdout
    assert "survived" in found and "no test runs it" in found


def test_the_same_seed_picks_the_same_and_one_of_a_line_at_most() -> None:
    possible = list(mutants_of("a.py", "x = a < b < c\n" * 30))
    once, again, other = (sampled(possible, random.Random(seed), 9) for seed in ("3", "3", "4"))
    assert once == again != other
    assert len({mutant.line for mutant in once}) == 9
    assert sampled(possible, random.Random("3"), 0) == possible


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("if a < b: pass", {"a <= b", "a >= b", "True", "False"}),
        ("x = a and not b", {"(a or not b)", "(a)", "(not b)", "(b)"}),
        ("x = min(a)", {"max(a)"}),
        ("x = y if z else 1", {"(1 if z else y)", "2", "0"}),
        ("save()\nsync()", {"pass", "sync()\nsave()"}),
        ("def f(a, *, b=None):\n    return a", {"b"}),
        ("def f():\n    for a in b:\n        continue\n    raise E", {"pass"}),
        ("try:\n    f()\nexcept E:\n    g()\nfinally:\n    h()", {"pass"}),
        ("x = 'a text for people'", set()),
        ("x = 'token'", {'""'}),
        ("_logger.info('token', 1)\nassert a < 1\nx: 'A' = f'{a < 1}'", set()),
        ('def f():\n    """Says."""\n\nclass A:\n    def __repr__(self):\n        return a < b', set()),
        ("if TYPE_CHECKING:\n    f(1)", set()),
    ],
)
def test_faults(source: str, faults: set[str]) -> None:
    assert {mutant.after for mutant in mutants_of("a.py", source)} == faults


def test_a_fault_stands_in_the_place_of_what_it_replaces() -> None:
    source = "ä = 'ö'; x = (a < b)\n"
    assert "ä = 'ö'; x = (a <= b)\n" in {mutant.applied(source) for mutant in mutants_of("a.py", source)}
