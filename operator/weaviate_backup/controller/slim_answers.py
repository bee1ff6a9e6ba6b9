"""The API server's answers as the framework gets them: of each object what it needs, whatever else is in there.

The framework lists every kind at once, keeps an object for as long as its daemon lives, and ends with the process when
one object of a list cannot be parsed. What people put into objects must not decide that.
"""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp

from weaviate_backup.answers import API_SERVER, turn
from weaviate_backup.api.names import BACKUP_KIND, LOCATION_KIND, RESTORE_KIND
from weaviate_backup.api.stored_objects import Json, brief, read_json

KINDS = frozenset({BACKUP_KIND, RESTORE_KIND, LOCATION_KIND, "Pod"})
"""Other kinds (definitions, namespaces) are the framework's own business."""


class SlimResponse(aiohttp.ClientResponse):
    """To be a session's `response_class`."""

    async def start(self, connection: Any) -> "SlimResponse":
        await super().start(connection)
        if self.url.query.get("watch") == "true":
            self.content = cast("aiohttp.StreamReader", SlimLines(self.content))
        return self

    async def json(self, **_: Any) -> Any:
        """Objects and lists of them; anything else as it is. Lists are read in turn. Raises `json.JSONDecodeError`."""
        async with turn(API_SERVER) if "limit" in self.url.query else contextlib.nullcontext():
            return _slim_answer(await self.read())


class SlimLines:
    """A watch: one event a line. All but the events' size is the stream's own."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        begun: list[bytes] = []
        async for data in self._stream.iter_chunked(size):
            *lines, rest = data.split(b"\n")
            for line in lines:
                yield _slim_event(b"".join((*begun, line))) + b"\n"
                begun = []
            begun.append(rest)
        if any(begun):
            yield _slim_event(b"".join(begun))


def _slim_answer(text: bytes) -> Any:
    answer = read_json(text) if text.strip() else None
    if not isinstance(answer, dict):
        return answer
    kind = str(answer.get("kind"))
    if kind.removesuffix("List") in KINDS and "items" in answer:
        return {**answer, "items": [brief(item) for item in answer["items"] or ()]}
    return brief(answer) if kind in KINDS else answer


def _slim_event(line: bytes) -> bytes:
    try:
        event: Json = read_json(line)
        body = event["object"]
    except (ValueError, TypeError, KeyError):
        return line
    return json.dumps({**event, "object": brief(body)}).encode() if body.get("kind") in KINDS else line
