"""Rules of the tree that no linter holds."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for folder in ("operator", "e2e", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if not path.stem.endswith(("_pb2", "_pb2_grpc"))
)


def test_source_root_is_no_package() -> None:
    """A package named `operator` would shadow the standard library's module."""
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 500, "split this file"
    if path.name != "__init__.py" or text.strip():
        assert text.startswith('"""'), "a module opens with a docstring: what, why, what it must not do"


def test_module_names_are_unique() -> None:
    """So that a log line or a tab title identifies the file."""
    names = [
        path.name
        for path in (ROOT / "operator" / "weaviate_backup").rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    ]
    assert sorted(names) == sorted(set(names))


FOREIGN = re.compile(
    r"json\.loads\(|\.json\(\)|\.text\(\)|(response|answer|body)\.read\(\)|aiohttp\.ClientSession\(|stream\.read\(\)"
)
READERS = {
    "answers.py": "the one way in",
    "layout/json_bounds.py": "parses what it has bounded",
    "storage/gcs_upload.py": "a document that `storage.documents` has bounded",
    "core/store_identity.py": "a Secret, which the API server bounds",
    "agent/journal.py": "our own journal",
    "agent/freeze.py": "our own frozen set",
    "agent/upload.py": "our own frozen set",
    "agent/access.py": "our own frozen set",
    "agent/app.py": "`client_max_size` bounds what the operator sends",
}


def test_foreign_bytes_have_one_way_in() -> None:
    """Whatever somebody else wrote is read through `answers`, with bounds."""
    package = ROOT / "operator" / "weaviate_backup"
    found = {
        str(path.relative_to(package))
        for path in SOURCES
        if path.is_relative_to(package) and FOREIGN.search(path.read_text())
    }
    assert found <= READERS.keys(), "read it by answers.ask or answers.parse"
