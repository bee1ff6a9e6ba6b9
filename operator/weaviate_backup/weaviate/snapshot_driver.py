"""The driver of servers from 1.38.3 on: `CreateReplicaSnapshot`, taken more than once and combined.

The call pauses compaction, flushes, links and resumes, but takes no write lock: in one call the vector index is sealed
some milliseconds before the objects, so objects written between would be there and never be found. Therefore the
objects come from one cut and everything else from the next: whatever the objects' cut holds, the indexes have seen.
What was written between the two leaves index entries without an object, which Weaviate skips. Cuts are repeated while
writes go on (the first ones empty the memtables, so the last two lie close together); two cuts with the same files
prove that nothing was written between them.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.weaviate import snapshot_staging
from weaviate_backup.weaviate.protocol import file_replication_pb2, file_replication_pb2_grpc
from weaviate_backup.weaviate.rpc import ClusterCredentials, failure_of, open_channel, text_of
from weaviate_backup.weaviate.shard_source import ShardCut, ShardFile

DRIVER = "replica-snapshot"
CUTS = 3
"""At most this many calls per shard; two when nothing is written."""
CUT_TIMEOUT_SECONDS = 1800.0
"""Waiting for a running compaction can take minutes, and a client that gives up undoes the halt."""
RELEASE_TIMEOUT_SECONDS = 60.0
OBJECTS = "lsm/objects/"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Staged:
    """One snapshot in the server: the answer of one call."""

    operation: str
    directory: Path
    names: tuple[str, ...]
    seconds: float


class SnapshotDriver:
    """A `ShardSource`. One instance per operation and node; shards may be cut concurrently."""

    def __init__(
        self,
        host: str,
        data_port: int,
        *,
        data_path: Path,
        operation_uid: str,
        credentials: ClusterCredentials | None = None,
        cuts: int = CUTS,
    ) -> None:
        self._address = f"{host}:{data_port}"
        self._data_path = data_path
        self._operation_uid = operation_uid
        self._cuts = cuts
        self._channel = open_channel(host, data_port)
        self._stub = file_replication_pb2_grpc.FileReplicationServiceStub(self._channel)
        self._metadata = (("authorization", credentials.header()),) if credentials else ()

    async def close(self) -> None:
        await self._channel.close()

    async def cut(self, collection: str, shard: str, *, schema_version: int) -> ShardCut:
        """Freeze the shard for some instants. Raises ShardBusy, ShardNotFound, HardLinksUnsupported and others.

        Whatever goes wrong, nothing stays pinned in the server.
        """
        try:
            return await self._cut(collection, shard, schema_version)
        except BaseException:
            await asyncio.shield(self._release(collection, shard))
            raise

    async def release(self, cut: ShardCut) -> None:
        """Let the server forget all snapshots of the cut and delete their directories, even of a class that is gone."""
        await self._release(cut.collection, cut.shard)

    async def _cut(self, collection: str, shard: str, schema_version: int) -> ShardCut:
        staged = [await self._create(collection, shard, 0, schema_version)]
        live = snapshot_staging.shard_directory(self._data_path, collection, shard)
        for number in range(1, self._cuts):
            staged.append(await self._create(collection, shard, number, schema_version))
            if staged[-1].names == staged[-2].names:
                break
        last = staged[-1]
        objects = staged[-2] if len(staged) > 1 else last
        try:
            names = await asyncio.to_thread(snapshot_staging.complete, last.directory, live, last.names)
        except FileNotFoundError as error:
            raise Transient("CutIncomplete", f"{collection}/{shard} lost a file while it was cut") from error
        return ShardCut(
            collection=collection,
            shard=shard,
            driver=DRIVER,
            files=combine(objects.directory, objects.names, last.directory, names),
            halt_seconds=max(each.seconds for each in staged),
        )

    async def _create(self, collection: str, shard: str, number: int, schema_version: int) -> _Staged:
        operation = snapshot_staging.operation_id(self._operation_uid, collection, shard, number)
        request = file_replication_pb2.CreateSnapshotRequest(
            collection=collection, shard=shard, operation_id=operation, schema_version=schema_version
        )
        started = time.monotonic()
        try:
            answer = await self._stub.CreateReplicaSnapshot(
                request, timeout=CUT_TIMEOUT_SECONDS, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise snapshot_failure(error, what=f"snapshot of {collection}/{shard} at {self._address}") from error
        seconds = time.monotonic() - started
        names = tuple(answer.file_names)
        snapshot_staging.check_names(names)
        directory = snapshot_staging.staging_directory(self._data_path, operation, collection)
        await asyncio.to_thread(snapshot_staging.check_staging, directory, names)
        return _Staged(operation, directory, names, seconds)

    async def _release(self, collection: str, shard: str) -> None:
        for number in range(self._cuts):
            await self._release_one(collection, shard, number)

    async def _release_one(self, collection: str, shard: str, number: int) -> None:
        """The server forgets, then we delete what it may have left: it refuses when the class is gone.

        A server that cannot be reached has lost its snapshots with its process or will serve nobody from them; what
        pins disk is the directory, and that we delete ourselves.
        """
        operation = snapshot_staging.operation_id(self._operation_uid, collection, shard, number)
        request = file_replication_pb2.ReleaseSnapshotRequest(collection=collection, operation_id=operation)
        try:
            await self._stub.ReleaseReplicaSnapshot(request, timeout=RELEASE_TIMEOUT_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            log.warning("release of %s/%s cut %d: %s; deleting it", collection, shard, number, text_of(error))
        directory = snapshot_staging.staging_directory(self._data_path, operation, collection)
        await asyncio.to_thread(snapshot_staging.remove_staging, directory)


def combine(
    objects_directory: Path, objects_names: tuple[str, ...], directory: Path, names: tuple[str, ...]
) -> tuple[ShardFile, ...]:
    """Objects from the earlier cut, everything else from the later one, in the later one's order.

    All sources are private to the cut (sealed segments, or copies), so none of them changes in place.
    """
    objects = [
        ShardFile(name, objects_directory / name, mutable=False) for name in objects_names if name.startswith(OBJECTS)
    ]
    others = [ShardFile(name, directory / name, mutable=False) for name in names if not name.startswith(OBJECTS)]
    return (*objects, *others)


def snapshot_failure(error: grpc.aio.AioRpcError, *, what: str) -> BackupError:
    """Codes say little here: INTERNAL is everything from an unknown tenant to a failed flush, so the text decides."""
    code, said = error.code(), text_of(error)
    if code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.FAILED_PRECONDITION):
        return failure_of(error, what=what)
    lowered = said.lower()
    for words, kind, reason, cure in REFUSALS:
        if any(word in lowered for word in words):
            return kind(reason, f"{what}: {said}{cure}")
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return Transient("ShardBusy", f"{what}: {said}")
    return Transient("SnapshotFailed", f"{what}: {said}")


REFUSALS: tuple[tuple[tuple[str, ...], type[Transient | Permanent], str, str], ...] = (
    (("maintenance mode",), Transient, "MaintenanceMode", "; no shard of the node can be halted until that ends"),
    (("reindex", "in progress"), Transient, "ShardBusy", ""),
    (("deadline", "timeout", "timed out", "canceled", "waiting for"), Transient, "ServerTimeout", ""),
    (
        ("read-only", "readonly", "read only"),
        Permanent,
        "ShardReadOnly",
        "; Weaviate cannot flush a read-only shard: free disk space, then set it READY",
    ),
    (("not found",), Permanent, "ShardNotFound", " (an inactive tenant is read from disk)"),
)
