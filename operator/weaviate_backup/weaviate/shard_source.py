"""How a shard's files are had: one protocol, a driver per mechanism of the server.

A driver stops nothing longer than it must and hands out a list of files that belong together. The caller links or
copies them away at once and calls `release`; it must do so in every path.
"""

import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

import grpc

from weaviate_backup.beneath import Place
from weaviate_backup.errors import BackupError, Transient

log = logging.getLogger(__name__)
GONE = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
)
"""How a server that was asked to forget says that it has nothing to forget: of no collection, shard or call."""


def server_holds(collection: str, shard: str, why: BackupError) -> Transient:
    """It was not told, so it may hold something for a cut: captured writes, a snapshot, a halt."""
    return Transient("ServerHolds", f"Weaviate was not told to let go of {collection}/{shard}: {why.message}")


async def if_it_can(release: Awaitable[None]) -> None:
    """Let go of a cut that failed for another reason, which is the one to tell; the next release tries again."""
    try:
        await release
    except BackupError as error:
        log.warning("%s", error)


@dataclass(frozen=True)
class ShardFile:
    """One file of a cut.

    `path` is relative to the shard's directory, with `/`. `source` is where its bytes are now. `mutable` files change
    in place and must be copied; the others are sealed and may be hard-linked.
    """

    path: str
    source: Place
    mutable: bool


@dataclass(frozen=True)
class ShardCut:
    """Files that belong together. `halt_seconds` is how long the longest single halt of the shard took.

    `object_count` is the number of objects at the cut as far as the server told (None: unknown).
    """

    collection: str
    shard: str
    driver: str
    files: tuple[ShardFile, ...]
    halt_seconds: float
    object_count: int | None = None


class ShardSource(Protocol):
    """A driver. Raises `Transient` (ShardBusy, ServerUnavailable) or `Permanent` (ShardNotFound, …)."""

    async def cut(self, collection: str, shard: str, *, schema_version: int) -> ShardCut:
        """Freeze the shard for an instant and list its files. `schema_version` 0 means: do not wait for raft."""
        ...

    async def release(self, cut: ShardCut) -> None:
        """Let the server forget the cut. Idempotent. What never was, or went with its process or its collection, is
        forgotten already; raises `ServerHolds` when the server could not be told."""
        ...

    async def close(self) -> None:
        """Close the connection. What was cut and not released stays so."""
        ...
