"""The driver of servers from 1.38.3 on: `CreateReplicaSnapshot`, taken more than once and combined.

The call pauses compaction, flushes, links and resumes, but takes no write lock: in one call the vector index is sealed
some milliseconds before the objects, so objects written between would be there and never be found. Therefore:

1. Two calls. If they list the same files, nothing was written between them, and the second is one instant: done.
2. Otherwise the server captures every write from now on (`late_writes`); after a moment, in which writes under way
   reach the indexes, two more calls. The objects come from the third call, everything else from the fourth: whatever
   object is in the cut, the indexes have seen it. Index entries without an object are skipped by Weaviate.
3. What was updated or deleted between those two is in the captured writes, which travel as a file of the cut, beside
   the objects written between them.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from weaviate_backup.errors import Transient
from weaviate_backup.weaviate import late_writes, snapshot_staging
from weaviate_backup.weaviate.protocol import file_replication_pb2, file_replication_pb2_grpc
from weaviate_backup.weaviate.rpc import ClusterCredentials, open_channel, text_of
from weaviate_backup.weaviate.shard_refusals import snapshot_failure
from weaviate_backup.weaviate.shard_source import ShardCut, ShardFile
from weaviate_backup.weaviate.write_capture import WriteCapture

DRIVER = "replica-snapshot"
CALLS = 4
SETTLE_SECONDS = 1.0
"""Time for a write that was not captured, because it began before, to reach every index."""
CUT_TIMEOUT_SECONDS = 1800.0
"""Waiting for a running compaction can take minutes, and a client that gives up undoes the halt."""
SHORT_TIMEOUT_SECONDS = 60.0
OBJECTS = "lsm/objects/"
QUEUE = ".queue.d/"

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
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._address = f"{host}:{data_port}"
        self._data_path = data_path
        self._operation_uid = operation_uid
        self._settle_seconds = settle_seconds
        self._channel = open_channel(host, data_port)
        self._stub = file_replication_pb2_grpc.FileReplicationServiceStub(self._channel)
        self._metadata = (("authorization", credentials.header()),) if credentials else ()
        self._capture = WriteCapture(self._stub, self._metadata, address=self._address)

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
        staged = [await self._create(collection, shard, number, schema_version) for number in (0, 1)]
        late: tuple[str, ...] = ()
        if set(staged[0].names) != set(staged[1].names):
            capture = self._capture_id(collection, shard)
            captured = await self._capture.start(collection, shard, capture)
            await asyncio.sleep(self._settle_seconds)
            staged += [await self._create(collection, shard, number, schema_version) for number in (2, 3)]
            if captured:
                late = await self._capture.fetch(collection, shard, capture, staged[-1].directory)
        objects, last = staged[-2:]
        live = snapshot_staging.shard_directory(self._data_path, collection, shard)
        try:
            names = await asyncio.to_thread(snapshot_staging.complete, last.directory, live, (*late, *last.names))
        except FileNotFoundError as error:
            raise Transient("CutIncomplete", f"{collection}/{shard} lost a file while it was cut") from error
        return ShardCut(
            collection=collection,
            shard=shard,
            driver=DRIVER,
            files=combine(objects.directory, objects.names, last.directory, names, captured=bool(late)),
            halt_seconds=max(each.seconds for each in staged),
        )

    def _capture_id(self, collection: str, shard: str) -> str:
        return snapshot_staging.operation_id(self._operation_uid, collection, shard, CALLS)

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
        await self._capture.stop(collection, shard, self._capture_id(collection, shard))
        for number in range(CALLS):
            await self._release_one(collection, shard, number)

    async def _release_one(self, collection: str, shard: str, number: int) -> None:
        """The server forgets, then we delete what it may have left: it refuses when the class is gone.

        A server that cannot be reached has lost its snapshots with its process or will serve nobody from them; what
        pins disk is the directory, and that we delete ourselves.
        """
        operation = snapshot_staging.operation_id(self._operation_uid, collection, shard, number)
        request = file_replication_pb2.ReleaseSnapshotRequest(collection=collection, operation_id=operation)
        try:
            await self._stub.ReleaseReplicaSnapshot(request, timeout=SHORT_TIMEOUT_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            log.warning("release of %s/%s cut %d: %s; deleting it", collection, shard, number, text_of(error))
        directory = snapshot_staging.staging_directory(self._data_path, operation, collection)
        await asyncio.to_thread(snapshot_staging.remove_staging, directory)


def combine(
    objects_directory: Path, objects_names: tuple[str, ...], directory: Path, names: tuple[str, ...], *, captured: bool
) -> tuple[ShardFile, ...]:
    """Objects from the earlier cut, everything else from the later one, in the later one's order.

    Queues of vectors not yet indexed come from both: a chunk that was worked off while the later cut was made may be in
    neither its list nor its sealed logs, and working one off twice changes nothing.

    All sources are private to the cut (sealed segments, or copies), so none of them changes in place. With captured
    writes the later objects are added where only a restore that replays will take them from.
    """
    objects = [
        ShardFile(name, objects_directory / name, mutable=False) for name in objects_names if name.startswith(OBJECTS)
    ]
    others = [ShardFile(name, directory / name, mutable=False) for name in names if not name.startswith(OBJECTS)]
    late = [
        ShardFile(late_writes.LATE_OBJECTS + name.removeprefix(OBJECTS), directory / name, mutable=False)
        for name in late_writes.later_objects(objects_names, names, prefix=OBJECTS)
        if captured
    ]
    queued = [
        ShardFile(name, objects_directory / name, mutable=False)
        for name in objects_names
        if QUEUE in name and name not in names
    ]
    return (*objects, *late, *queued, *others)
