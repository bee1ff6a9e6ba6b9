"""The server's own backup through its public API, timed from the request to SUCCESS as a client sees it."""

import time
from dataclasses import dataclass
from typing import Any

from e2e.dataset.weaviate_http import Weaviate

POLL_SECONDS = 0.1
LIMIT_SECONDS = 600


@dataclass(frozen=True)
class ServerRun:
    """`seconds` as waited for; the server's coordinator looks at its nodes every ten seconds only."""

    seconds: float


class ServerBackupFailed(Exception):
    """The message holds the server's answer."""


def back_up(
    weaviate: Weaviate, identifier: str, *, level: str, include: tuple[str, ...] = (), backend: str = "s3"
) -> ServerRun:
    body: dict[str, Any] = {"id": identifier, "config": {"CompressionLevel": level}}
    if include:
        body["include"] = list(include)
    started = time.monotonic()
    weaviate.call("POST", f"/v1/backups/{backend}", body)
    _wait(weaviate, f"/v1/backups/{backend}/{identifier}")
    return ServerRun(time.monotonic() - started)


def restore(weaviate: Weaviate, identifier: str, *, path: str | None = None, backend: str = "s3") -> ServerRun:
    body: dict[str, Any] = {"config": {"Path": path} if path else {}}
    query = f"?path={path}" if path else ""
    started = time.monotonic()
    weaviate.call("POST", f"/v1/backups/{backend}/{identifier}/restore", body)
    _wait(weaviate, f"/v1/backups/{backend}/{identifier}/restore{query}")
    return ServerRun(time.monotonic() - started)


def _wait(weaviate: Weaviate, path: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        answer = weaviate.call("GET", path)
        if answer["status"] == "SUCCESS":
            return
        if answer["status"] in ("FAILED", "CANCELED"):
            raise ServerBackupFailed(f"{path}: {answer}")
        time.sleep(POLL_SECONDS)
    raise ServerBackupFailed(f"{path}: no end after {LIMIT_SECONDS} s")
