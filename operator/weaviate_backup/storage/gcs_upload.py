"""An upload of unknown length, as Google documents it for its JSON API: a session that one request streams into.

Written out because the client library's own writer cuts what it sends into parts, waits for each, and is useless after
an answer such as 503. One request has no pauses and keeps nothing in memory; when it breaks, the object is sent again
from its beginning. A length was not promised, so size and CRC32C of the whole are compared at the end, and an object
that differs is deleted. A session that is given up costs nothing and goes by itself after a week.
"""

import base64
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import google_crc32c
import requests

from weaviate_backup.answers import understood
from weaviate_backup.errors import ObjectNotFound, Transient

CANCELED = 499
log = logging.getLogger(__name__)

_Checksum: Any = google_crc32c.Checksum  # not annotated
Request = Callable[..., requests.Response]
"""Sends a request; raises our errors for what is no answer and for statuses that are not expected."""


class Upload:
    """One object under way; `url` is its session's."""

    def __init__(self, request: Request, url: str, key: str) -> None:
        self._request, self._url, self._key = request, url, key
        self._object: dict[str, Any] = {}

    def send(self, blocks: Iterable[bytes]) -> dict[str, Any]:
        """Sends all and gives what the store says of the object. What `blocks` raises is raised as it is."""
        self._source = source = Source(blocks)
        headers = {"Content-Range": "bytes 0-*/*"}
        try:
            answer = self._request("PUT", self._url, key=self._key, headers=headers, data=source, expected=(200, 201))
        except ObjectNotFound as error:
            raise Transient(
                "UploadLost", f"{self._key}: the store has forgotten the session; it begins again"
            ) from error
        except Exception:
            if source.failure is not None:
                raise source.failure from None
            raise
        try:
            self._object = dict(answer.json())
        except ValueError as error:
            raise Transient("StoreUnavailable", f"{self._key}: the store's answer is cut off") from error
        except TypeError as error:
            raise Transient("StoreUnavailable", f"{self._key}: the store's answer describes no object") from error
        return self._object

    def differs(self) -> str:
        """What is wrong with the stored object; empty: nothing."""
        expected, sent_bytes = self._source.crc32c, self._source.sent_bytes
        with understood(self._key):
            size_bytes, crc32c = int(self._object.get("size", -1)), str(self._object.get("crc32c", expected))
        if size_bytes != sent_bytes:
            return f"{sent_bytes} bytes were sent, {size_bytes} are stored"
        return "" if crc32c == expected else f"CRC32C {expected} was sent, {crc32c} is stored"

    def cancel(self) -> None:
        """Best effort: what stays of a session is not billed, not listed, and goes by itself."""
        try:
            self._request("DELETE", self._url, key=self._key, expected=(CANCELED, 200, 204, 404, 410))
        except Exception as error:  # noqa: BLE001 (the failure that led here is the one to tell)
            log.debug("a session of %s was not canceled: %s", self._key, type(error).__name__)


class Source:
    """Blocks sent once, counted and summed up. `failure` is what they raised, which a client would disguise."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks: Iterable[bytes] | None = blocks
        self._checksum: Any = _Checksum()
        self.sent_bytes = 0
        self.failure: Exception | None = None

    @property
    def crc32c(self) -> str:
        return base64.b64encode(self._checksum.digest()).decode()

    def __iter__(self) -> Iterator[bytes]:
        blocks, self._blocks = self._blocks, None
        if blocks is None:  # the client asks again, with new credentials
            raise Transient("StoreUnavailable", "the store wanted other credentials in the middle of an upload")
        try:
            for block in blocks:
                if block:
                    self._checksum.update(block)
                    self.sent_bytes += len(block)
                    yield block
        except Exception as error:
            self.failure = error
            raise
