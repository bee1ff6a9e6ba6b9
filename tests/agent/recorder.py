"""Records in which order the agent writes, syncs, renames, journals and stores: what a loss of power would show."""

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from weaviate_backup import beneath
from weaviate_backup.agent import journal, kept_documents
from weaviate_backup.agent.journal import Journal
from weaviate_backup.beneath import Place
from weaviate_backup.storage.retry import Retrying
from weaviate_backup.weaviate import snapshot_staging

Event = tuple[str, str]
"""What was done, and to what: a journal record's kind, the last part of a path, a key."""


@dataclass
class Recorder:
    events: list[Event] = field(default_factory=list)
    PLACES: ClassVar[tuple[str, ...]] = ("sync", "sync_file_system", "rename_to", "create", "copy_to")

    def add(self, what: str, whom: str) -> None:
        self.events.append((what, whom))

    def all(self, what: str, whom: str = "") -> list[int]:
        """When it was done."""
        return [at for at, (done, to) in enumerate(self.events) if done == what and (not whom or to == whom)]

    def refuse_disorder(self, *steps: Iterable[int]) -> None:
        """Each step was done, and all of it before any of the next."""
        listed = [list(step) for step in steps]
        assert all(listed), f"{[bool(each) for each in listed]} in {self.events}"
        for before, after in itertools.pairwise(listed):
            assert max(before) < min(after), self.events


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Records what is done from now on."""
    recorder = Recorder()

    def watch(owner: Any, name: str, whom: Any, what: str | None = None) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            recorder.add(what or name, whom(*args))
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    for name in Recorder.PLACES:
        watch(Place, name, lambda place, *_: place.name)
    watch(Journal, "append", lambda _, kind: kind, "journal")
    watch(Retrying, "put", lambda _, key, *__: key)
    watch(os, "fsync", lambda _: "")
    for module in (beneath, journal, kept_documents, snapshot_staging):
        watch(module, "write_all", lambda *_: "", "write")
    return recorder
