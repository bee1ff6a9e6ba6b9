"""The operator remembers nothing of objects that are gone: somebody may make and delete them all day."""

import asyncio
from typing import Any

import kopf
import pytest

from weaviate_backup.controller import handlers
from weaviate_backup.controller.handlers import Operations, make_registry
from weaviate_backup.kube import Kube
from weaviate_backup.settings import OperatorSettings

SETTINGS = OperatorSettings(namespace="system", agent_image="image")


class Waiting:
    """In place of the work on a location: until it is woken."""

    def __init__(self, *_: Any, wake: asyncio.Event) -> None:
        self.name = "location"
        self.wake = wake

    async def tick(self) -> float | None:
        return None if self.wake.is_set() else 60.0

    async def close(self) -> None: ...


async def test_locations_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "LocationDriver", Waiting)
    operations = Operations(Kube.__new__(Kube), SETTINGS)
    watching = make_registry(operations)._watching
    changed: Any = next(each.fn for each in watching.get_all_handlers() if each.id == "locations-changed")
    for number in range(20):
        metadata = {"name": f"store-{number}", "namespace": "a", "uid": f"uid-{number}", "generation": 1}
        body: Any = {"metadata": metadata}
        for kind in ("ADDED", "MODIFIED", "DELETED"):
            await changed(body=kopf.Body(body), type=kind)
            await asyncio.sleep(0)
    assert not operations.locations
    assert not operations.wakes
