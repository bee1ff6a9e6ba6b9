"""A resumable upload, as Google documents it for its JSON API: a session, parts in order, and an end.

Written out because the client library's own writer is useless after an answer such as 503: it sends the part again and
then refuses to go on. Bytes that the store has already are ignored by it when they come again, so a part whose answer
was lost is sent once more. A server for tests may add them twice, so size and CRC32C of the whole are compared at the
end, and an object that differs is deleted. A session that is given up costs nothing and goes by itself after a week.
"""

import base64
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import google_crc32c
import requests

from weaviate_backup.errors import ObjectNotFound, Transient
from weaviate_backup.storage.parts import Part, patiently, send_parts
from weaviate_backup.storage.patience import Patience

MORE_WANTED = 308
CANCELED = 499
log = logging.getLogger(__name__)

_Checksum: Any = google_crc32c.Checksum  # not annotated
Request = Callable[..., requests.Response]
"""Sends a request; raises our errors for what is no answer and for statuses that are not expected."""


@dataclass
class Upload:
    """One object under way; `url` is its session's."""

    request: Request
    url: str
    key: str
    patience: Patience

    def __post_init__(self) -> None:
        self._checksum: Any = _Checksum()
        self._sent_bytes = 0
        self._total_bytes: int | None = None
        self._object: dict[str, Any] | None = None

    def send(self, parts: Iterator[Part]) -> dict[str, Any]:
        """Sends all and gives what the store says of the object. Parts but the last have a multiple of 256 KiB."""
        send_parts(self._knowing_the_end(parts), self._send, in_flight=1)
        assert self._object is not None
        return self._object

    def differs(self) -> str:
        """What is wrong with the stored object; empty: nothing."""
        assert self._object is not None
        expected = _base64(self._checksum)
        size_bytes, crc32c = int(self._object.get("size", -1)), str(self._object.get("crc32c", expected))
        if size_bytes != self._total_bytes:
            return f"{self._total_bytes} bytes were sent, {size_bytes} are stored"
        return "" if crc32c == expected else f"CRC32C {expected} was sent, {crc32c} is stored"

    def cancel(self) -> None:
        """Best effort: what stays of a session is not billed, not listed, and goes by itself."""
        try:
            self.request("DELETE", self.url, key=self.key, expected=(CANCELED, 200, 204, 404, 410))
        except Exception as error:  # noqa: BLE001 (the failure that led here is the one to tell)
            log.debug("a session of %s was not canceled: %s", self.key, type(error).__name__)

    def _knowing_the_end(self, parts: Iterator[Part]) -> Iterator[Part]:
        """The last part must be sent as such, so one is always held back."""
        total_bytes, held = 0, next(parts)
        for part in parts:
            total_bytes += sum(map(len, held))
            yield held
            held = part
        self._total_bytes = total_bytes + sum(map(len, held))
        yield held

    def _send(self, _: int, content: bytes) -> None:
        self._checksum.update(content)
        first, end = self._sent_bytes, self._sent_bytes + len(content)
        while self._sent_bytes < end:
            rest = content if self._sent_bytes == first else content[self._sent_bytes - first :]
            answer = patiently(lambda rest=rest: self._put(rest), self.patience)  # type: ignore[misc]
            if answer.status_code != MORE_WANTED:
                self._object, self._sent_bytes = answer.json(), end
                return
            persisted_bytes = _persisted_bytes(answer)
            if not self._sent_bytes < persisted_bytes <= end:
                raise Transient(
                    "StoreUnavailable", f"{self.key}: {persisted_bytes} bytes are stored after {end} were sent"
                )
            self._sent_bytes = persisted_bytes
        if self._total_bytes == end:
            raise Transient("StoreUnavailable", f"{self.key}: the store waits for more after the last byte")

    def _put(self, content: bytes) -> requests.Response:
        end = self._sent_bytes + len(content)
        is_last = self._total_bytes == end
        headers = {"Content-Range": f"bytes {self._sent_bytes}-{end - 1}/{end if is_last else '*'}"}
        if is_last:
            headers["X-Goog-Hash"] = f"crc32c={_base64(self._checksum)}"
        expected = (200, 201) if is_last else (MORE_WANTED,)
        try:
            return self.request("PUT", self.url, key=self.key, headers=headers, data=content, expected=expected)
        except ObjectNotFound as error:
            raise Transient(
                "UploadLost", f"{self.key}: the store has forgotten the session; it begins again"
            ) from error


def _persisted_bytes(answer: requests.Response) -> int:
    """`Range: bytes=0-N`; without one nothing was stored."""
    said = answer.headers.get("Range", "")
    return int(said.rpartition("-")[2]) + 1 if "-" in said else 0


def _base64(checksum: Any) -> str:
    return base64.b64encode(checksum.digest()).decode()
