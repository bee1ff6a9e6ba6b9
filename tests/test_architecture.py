"""Rules of the tree that no linter holds."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "operator" / "weaviate_backup"
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
    "layout/go_json.py": "as Go reads it: after bounds of `json_bounds`",
    "storage/gcs_upload.py": "a document that `storage.documents` has bounded",
    "core/store_identity.py": "a Secret, which the API server bounds",
    "agent/journal.py": "our own journal",
    "api/stored_objects.py": "objects of the API server, cut where they are too deep",
    "controller/handlers.py": "the framework's own session, whose answers `slim_answers` cuts",
}


def test_foreign_bytes_have_one_way_in() -> None:
    """Whatever somebody else wrote is read through `answers`, with bounds."""
    package = ROOT / "operator" / "weaviate_backup"
    found = {
        str(path.relative_to(package))
        for path in SOURCES
        if path.is_relative_to(package) and FOREIGN.search(path.read_text())
    }
    assert found == READERS.keys(), "read it by answers.ask or answers.parse, or take it off the list"


UNWATCHED = re.compile(r"(?<!watched\()(?<!class )\b(Raft|Access)Client\((?!self)")


def test_no_raft_is_believed_that_is_not_watched() -> None:
    """A server that starts names only a part of what there is."""
    assert UNWATCHED.search("async with RaftClient(host, port) as raft:")
    assert not UNWATCHED.search("async with workspace.watched(RaftClient(host, port)) as raft:")
    bare = {path.name for path in PACKAGE.rglob("*.py") if UNWATCHED.search(path.read_text())}
    assert bare == set()


def test_who_is_cancelled_waits_for_what_it_began() -> None:
    """`asyncio.shield` lets the caller go on, and close what the shielded needs: `tasks.to_its_end` does not."""
    shielding = {path.name for path in PACKAGE.rglob("*.py") if "shield(" in path.read_text()}
    assert shielding == set()


# What lies where others write is reached by `beneath` alone

BENEATH_ONLY = sorted(
    path
    for path in (*(PACKAGE / "agent").glob("*.py"), *(PACKAGE / "weaviate").glob("*.py"))
    if path.name != "__init__.py"
)
BY_PATH = {
    "agent/mounted.py": "mounted Secrets, which Kubernetes alone writes, with links of its own",
    "agent/app.py": "names the directory of this agent's certificates, which is such a Secret, to the TLS library",
    "agent/cgroup.py": "what the kernel tells of the control group",
    "agent/durability.py": "what the kernel tells of this boot",
}
"""Modules that may use paths, and of what."""
MODULES = frozenset({"shutil", "glob", "tempfile", "fileinput", "subprocess", "ctypes", "linecache"})
BUILTINS = frozenset({"open", "exec", "eval", "__import__"})
ON_DESCRIPTORS = frozenset(
    {"close", "dup", "fchmod", "fstat", "fsync", "ftruncate", "pread", "pwrite", "read", "strerror", "utime", "write"}
    | {"geteuid", "getegid", "sched_getaffinity", "environ"}
)
"""Of `os`: what takes a descriptor, or no name at all."""
METHODS = frozenset(
    {"read_text", "write_text", "write_bytes", "iterdir", "glob", "rglob", "touch", "mkdir", "rmdir", "symlink_to"}
    | {"hardlink_to", "is_dir", "is_symlink", "is_mount", "lstat", "resolve", "samefile", "readlink", "expanduser"}
)
"""Of paths, and of no place."""


def uses_of_paths(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"import {each.name}" for each in names if each.name.split(".")[0] in MODULES)
                yield from (f"import {each.name}" for each in names if each.name in ("pathlib", "os.path", "posix"))
                yield from (f"import {each.name} as" for each in names if each.name in ("os", "io") and each.asname)
            case ast.ImportFrom(module="pathlib", names=names):
                yield from (f"pathlib.{each.name}" for each in names if each.name != "PurePosixPath")
            case ast.ImportFrom(module=module) if module and module.split(".")[0] in MODULES | {"os", "io", "posix"}:
                yield f"from {module}"
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                yield f"{name}()"
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name not in ON_DESCRIPTORS and name.islower():
                yield f"os.{name}"
            case ast.Attribute(value=ast.Name(id="io"), attr="open" | "open_code" as name):
                yield f"io.{name}"
            case ast.Attribute(attr=name) if name in METHODS:
                yield f".{name}"


@pytest.mark.parametrize("path", BENEATH_ONLY, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_others_write_to_is_reached_through_places_alone(path: Path) -> None:
    """A path follows whatever links lie on its way, and can be exchanged between two looks at it."""
    found = sorted(set(uses_of_paths(ast.parse(path.read_text()))))
    if str(path.relative_to(PACKAGE)) in BY_PATH:
        assert found, "it uses no paths: take it off the list"
    else:
        assert not found, "use weaviate_backup.beneath"


@pytest.mark.parametrize(
    "source",
    [
        "from pathlib import Path",
        "import pathlib",
        "import shutil",
        "from shutil import rmtree",
        "import os as system",
        "from os import open as look",
        "from os import path",
        "open('x')",
        "io.open('x')",
        "os.open('x', 0)",
        "os.link('x', 'y')",
        "os.path.exists('x')",
        "settings.data_path.read_text()",
        "settings.data_path.iterdir()",
        "import ctypes",
    ],
)
def test_uses_of_paths_are_seen(source: str) -> None:
    assert list(uses_of_paths(ast.parse(source)))


def test_uses_of_descriptors_are_none_of_paths() -> None:
    source = (
        "import os, io\nfrom pathlib import PurePosixPath\nos.write(1, b'')\nplace.open()\nos.O_RDONLY\nio.FileIO(3)"
    )
    assert not list(uses_of_paths(ast.parse(source)))
