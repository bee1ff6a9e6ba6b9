"""The search for documents that break a reader: every format is tried for a moment, and what breaks a rule is found."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e.fuzzing.campaign import FORMATS, packed_case, tell, unpacked_case
from e2e.fuzzing.judging import MIB, SECRET, Format, Reading
from e2e.fuzzing.searching import Found, search
from e2e.fuzzing.spoiling import in_bytes, in_json

from weaviate_backup.errors import Permanent, Transient

TOP = Path(__file__).parents[2]
SEED = 20260501


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_for_a_moment(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Much longer with `e2e/fuzz`."""
    found = search(FORMATS[name], seconds=60, start=SEED, batch_size=20, batches=2)
    tell(found)
    assert not found.crashes, capsys.readouterr().out
    assert found.documents >= 40
    assert found.kept > 0
    assert found.refused


def reader(read: Callable[[bytes, Path], Any], **rules: Any) -> Format:
    return Format("toy", lambda directory, stock: Reading([b'{"a": "bc", "d": [1, 2]}'], read), in_json, **rules)


def found_by(read: Callable[[bytes, Path], Any], **rules: Any) -> Found:
    return search(reader(read, **rules), seconds=60, start=SEED, batch_size=50, batches=4)


def fails_on_two(content: bytes, _: Path) -> None:
    if content.count(b"2") > 1:
        raise KeyError("two")
    if b"\0" in content:
        raise Permanent("HostileBackup", "a zero")


def test_an_error_that_is_none_of_ours_is_found_and_made_small(capsys: pytest.CaptureFixture[str]) -> None:
    found = found_by(fails_on_two)
    (crash,) = found.crashes.values()
    assert crash.content == b"22"
    assert "KeyError" in crash.where
    tell(found)
    told = capsys.readouterr().out
    assert unpacked_case(told.split("--case ")[1].split()[0]) == b"22"
    assert "raise KeyError" in told


def refusing(error: Exception) -> Callable[[bytes, Path], None]:
    def read(_: bytes, __: Path) -> None:
        raise error

    return read


def writes_above(content: bytes, private: Path) -> None:
    (private.parent / "stranger").write_bytes(content)


def writes_to(path: Path) -> Callable[[bytes, Path], None]:
    def read(content: bytes, _: Path) -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))

    return read


def takes(mib: int) -> Callable[[bytes, Path], None]:
    def read(_: bytes, __: Path) -> None:
        assert len(b"x" * (mib * MIB)) > 0

    return read


def lasts(seconds: float) -> Callable[[bytes, Path], None]:
    def read(_: bytes, __: Path) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    return read


@pytest.mark.parametrize(
    ("read", "rules", "what"),
    [
        (refusing(Permanent("hostile backup", "x")), {}, "a reason that is no word"),
        (refusing(Transient("Later", "x")), {}, "tried again"),
        (refusing(Permanent("Hostile", "\x1b[2J")), {}, "cannot be shown"),
        (refusing(Permanent("Hostile", "x" * 5000)), {}, "too long"),
        (refusing(Permanent("Hostile", f"the hash is {SECRET}")), {}, "a secret in the message"),
        (writes_above, {}, "made ['stranger'] beside"),
        (takes(40), {"memory_mib": 20}, "MiB of memory, more than 20"),
        (lasts(2), {"seconds": 0.1}, "took more than 0.1 s"),
    ],
)
def test_a_rule_that_is_broken_is_told(
    read: Callable[[bytes, Path], Any], rules: dict[str, Any], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e2e.fuzzing.searching.SHRINK_SECONDS", 0.0)
    found = search(reader(read, **rules), seconds=60, start=SEED, batch_size=1, batches=1)
    assert any(what in crash.what for crash in found.crashes.values()), found.crashes


def test_a_write_to_another_place_is_told(tmp_path: Path) -> None:
    found = search(reader(writes_to(tmp_path / "x")), seconds=60, start=SEED, batch_size=1, batches=1)
    assert any(f"wrote to {tmp_path}/x" in crash.what for crash in found.crashes.values()), found.crashes


@pytest.mark.parametrize(
    ("read", "rules"),
    [
        (refusing(Permanent("HostileBackup", "x" * 100)), {}),
        (refusing(Transient("ServerTimeout", "x")), {"transient": True}),
        (lambda content, private: (private / "own").write_bytes(content), {}),
        (takes(10), {"memory_mib": 20}),
        (lasts(0.01), {"seconds": 5.0}),
    ],
)
def test_a_rule_that_is_held_is_not(read: Callable[[bytes, Path], Any], rules: dict[str, Any]) -> None:
    assert found_by(read, **rules).crashes == {}


def test_what_leads_somewhere_new_joins_the_corpus() -> None:
    """By our package's lines, which a toy has none of: the corpus stays; a format's grows."""
    assert found_by(lambda content, private: None).kept == 1
    assert search(FORMATS["roles"], seconds=60, start=SEED, batch_size=60, batches=2).kept > 3


def test_the_same_seed_gives_the_same_documents() -> None:
    def documents() -> list[bytes]:
        read: list[bytes] = []
        toy = Format(
            "toy", lambda directory, stock: Reading([b"abc" * 9], lambda content, _: read.append(content)), in_bytes
        )
        search(toy, seconds=60, start=SEED, batch_size=30, batches=2)
        return read

    assert documents() == documents()


def test_the_command_says_its_seed_and_what_it_read() -> None:
    command = [str(TOP / "e2e/fuzz"), "keys", "late-writes", "--no-stock", "--minutes", "0.02", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 7, 0.02 minutes for each of 2 formats" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["keys", "late-writes"]


def test_the_command_tries_one_document_again() -> None:
    command = [str(TOP / "e2e/fuzz"), "policy-file", "--case", packed_case(b"p, a, b\n")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "policy-file: no rule is broken {'RolesUnreadable': 1}\n")
