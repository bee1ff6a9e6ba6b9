"""Places beside a dictionary that plays the directory: after any uses in any order both hold the same."""

import os
import shutil
import stat as modes
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from weaviate_backup.beneath import Root, UnexpectedEntry

Tree = dict[str, Any]
"""Name -> content of a file, tree of a directory, or LINK."""
LINK = object()
NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


class Refused(Exception):
    """The model's word for `OSError` and `UnexpectedEntry`."""


class Directories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.root = Root(self.directory).place
        self.tree: Tree = {}

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    def folder(self, name: str) -> tuple[Tree, str]:
        """What holds the entry, and the entry's name in it."""
        here, (*above, last) = self.tree, name.split("/")
        for part in above:
            if not isinstance(here.get(part), dict):
                raise Refused
            here = here[part]
        return here, last

    def same(self, use: Callable[[], object], play: Callable[[], object]) -> None:
        """Both answer alike, or both refuse."""
        try:
            expected = play()
        except Refused:
            with pytest.raises((OSError, UnexpectedEntry)):
                use()
        else:
            assert use() == expected

    @rule(name=NAMES, content=st.binary(max_size=3))
    def create(self, name: str, content: bytes) -> None:
        def use() -> None:
            with (self.root / name).create() as output:
                output.write(content)

        def play() -> None:
            here, last = self.folder(name)
            if last in here:
                raise Refused
            here[last] = content

        self.same(use, play)

    @rule(name=NAMES)
    def read(self, name: str) -> None:
        def play() -> object:
            here, last = self.folder(name)
            if not isinstance(here.get(last), bytes):
                raise Refused
            return here[last]

        self.same(lambda: (self.root / name).read_bytes(limit_bytes=100), play)

    @rule(name=NAMES)
    def make_directory(self, name: str) -> None:
        def play() -> None:
            play_directories(self.tree, name.split("/"))

        self.same((self.root / name).make_directory, play)

    @rule(name=NAMES)
    def unlink(self, name: str) -> None:
        def play() -> None:
            here, last = self.folder(name)
            if isinstance(here.get(last, {}), dict):
                raise Refused
            del here[last]

        self.same((self.root / name).unlink, play)

    @rule(name=NAMES)
    def remove_directory(self, name: str) -> None:
        def play() -> None:
            here, last = self.folder(name)
            if here.get(last) != {}:
                raise Refused
            del here[last]

        self.same((self.root / name).remove_directory, play)

    @rule(name=NAMES)
    def remove_tree(self, name: str) -> None:
        def play() -> None:
            here: Any = self.tree
            *above, last = name.split("/")
            for part in above:
                here = here.get(part)
                if here is None:
                    return
                if not isinstance(here, dict):
                    raise Refused
            if not isinstance(here.get(last, {}), dict):
                raise Refused
            here.pop(last, None)

        self.same((self.root / name).remove_tree, play)

    @rule(name=NAMES, other=NAMES)
    def link(self, name: str, other: str) -> None:
        def play() -> None:
            play_directories(self.tree, other.split("/")[:-1])  # a link makes the folder it goes to
            here, last = self.folder(name)
            there, new = self.folder(other)
            if not isinstance(here.get(last), bytes) or new in there:
                raise Refused
            there[new] = here[last]

        self.same(lambda: (self.root / name).link_to(self.root / other), play)

    @rule(name=NAMES)
    def somebody_puts_a_link(self, name: str) -> None:
        path = self.directory / name
        try:
            here, last = self.folder(name)
        except Refused:
            return
        if last not in here:
            path.symlink_to("/etc")
            here[last] = LINK

    @rule(name=NAMES)
    def look(self, name: str) -> None:
        def play() -> object:
            *above, last = name.split("/")
            here: Any = self.tree
            for part in above:
                here = here.get(part) if isinstance(here, dict) else None
                if here is LINK:
                    raise Refused
                if not isinstance(here, dict):
                    return None
            found = here.get(last)
            return {bytes: modes.S_IFREG, dict: modes.S_IFDIR, object: modes.S_IFLNK}.get(type(found))

        def use() -> object:
            status = (self.root / name).look()
            return status and modes.S_IFMT(status.st_mode)

        self.same(use, play)

    @rule()
    def files(self) -> None:
        def play() -> object:
            return list(files_of(self.tree))

        self.same(lambda: [(name, status.st_size) for name, status in self.root.files()], play)

    @invariant()
    def the_directory_is_as_the_model(self) -> None:
        assert read(self.directory) == self.tree


def play_directories(tree: Tree, parts: list[str]) -> None:
    for part in parts:
        if not isinstance(tree.setdefault(part, {}), dict):
            raise Refused
        tree = tree[part]


def files_of(tree: Tree, prefix: str = "") -> list[tuple[str, int]]:
    if LINK in tree.values():
        raise Refused
    found = []
    for name, entry in sorted(tree.items()):
        found += files_of(entry, f"{prefix}{name}/") if isinstance(entry, dict) else [(prefix + name, len(entry))]
    return found


def read(directory: Path) -> Tree:
    found: Tree = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink():
                found[entry.name] = LINK
            else:
                found[entry.name] = read(Path(entry)) if entry.is_dir() else Path(entry).read_bytes()
    return found


def test_any_uses_in_any_order(kernel: str) -> None:
    run_state_machine_as_test(Directories, settings=settings(max_examples=25, stateful_step_count=20, deadline=None))
