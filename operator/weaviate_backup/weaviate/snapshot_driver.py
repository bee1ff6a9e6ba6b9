"""The driver of servers from 1.38.3 on: `CreateReplicaSnapshot`, taken more than once and combined.

The call pauses compaction, flushes, links and resumes, but takes no write lock: in one call the vector index is sealed
some milliseconds before the objects, so objects written between would be there and never be found. Therefore:

1. Two calls. If they list the same files, nothing was written between them, and the second is one instant: done.
2. Otherwise the server captures every write from now on (`late_writes`). After a moment, in which writes under way
   reach the indexes, it is called in gaps between writes. Two calls in a row that list the same files, with little left
   to asynchronous indexing, are one instant again; the captured writes are only a precaution then.
3. A shard that is never left alone so long: objects and their postings come from one call, vector indexes from a
   later one, as soon as that has worked off what asynchronous indexing had queued at the first. A graph older than the
   objects would lead through nodes whose vectors went with the objects' former versions, that is nowhere. What was
   written meanwhile is in the captured writes, which travel as a file of the cut and are replayed after the restore.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

import grpc

from weaviate_backup.beneath import Held, Place
from weaviate_backup.errors import BackupError, Transient
from weaviate_backup.tasks import to_its_end
from weaviate_backup.weaviate import snapshot_staging, write_capture
from weaviate_backup.weaviate.protocol import file_replication_pb2, file_replication_pb2_grpc
from weaviate_backup.weaviate.rpc import ClusterCredentials, call_metadata, failure_of, open_channel, text_of
from weaviate_backup.weaviate.shard_refusals import snapshot_failure
from weaviate_backup.weaviate.shard_source import GONE, ShardCut, ShardFile, if_it_can, server_holds
from weaviate_backup.weaviate.write_capture import WriteCapture

DRIVER = "replica-snapshot"
CALLS = 4
"""Snapshots that may exist at once: two before a capture, two after."""
GAP_CALLS = 6
"""Calls in gaps between writes, hoping for two that list the same files."""
GAP_SECONDS = 0.02
"""Writers that wrote nothing for so long are taken to pause."""
GAP_WAIT_SECONDS = 0.5
GAP_POLL_SECONDS = 0.002
DRAIN_SECONDS = 30.0
"""How long asynchronous indexing is waited for, unless more than `DRAIN_BYTES` are queued, as by a bulk import."""
DRAIN_BYTES = 64 << 20
DRAIN_POLL_SECONDS = 0.2
SETTLE_SECONDS = 1.0
"""Time for a write that was not captured, because it began before, to reach every index."""
CUT_TIMEOUT_SECONDS = 1800.0
"""Waiting for a running compaction can take minutes, and a client that gives up undoes the halt."""
SHORT_TIMEOUT_SECONDS = 60.0
SMALL_QUEUE = 0.02
"""Of the bytes of the objects."""
OBJECTS = "lsm/objects/"
POSTED = (OBJECTS, "lsm/property")
"""Objects and what finds them by value: these are of one call."""
QUEUE = re.compile(r"(main|vectors_.+|geo\..+)\.queue\.d/")
"""Vectors that asynchronous indexing has not brought into their index yet; an index's own chores are others."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Staged:
    """One snapshot in the server: the answer of one call."""

    operation: str
    directory: Place
    names: tuple[str, ...]
    seconds: float

    @property
    def queued(self) -> frozenset[str]:
        """Files of vectors that asynchronous indexing has not brought into their index yet."""
        return frozenset(name for name in self.names if QUEUE.match(name))

    def queued_bytes(self) -> int:
        return self._bytes_of(self.queued)

    def is_indexed(self) -> bool:
        """Whether so little is queued that the graph is as good as of the objects' age."""
        objects = self._bytes_of(name for name in self.names if name.startswith(OBJECTS))
        return self.queued_bytes() <= SMALL_QUEUE * objects

    def _bytes_of(self, names: Iterable[str]) -> int:
        with Held() as held:
            return sum(held.stat(self.directory / name).st_size for name in names)


@dataclass(frozen=True)
class _Pair:
    """The calls a cut is made of, and the longest halt of all. `queued` is what neither `vectors` nor a later has."""

    objects: _Staged
    vectors: _Staged
    queued: frozenset[str]
    longest_seconds: float


class SnapshotDriver:
    """A `ShardSource`. One instance per operation and node; shards may be cut concurrently."""

    def __init__(
        self,
        host: str,
        data_port: int,
        *,
        data_root: Place,
        operation_uid: str,
        credentials: ClusterCredentials | None = None,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._address = f"{host}:{data_port}"
        self._data_root = data_root
        self._operation_uid = operation_uid
        self._settle_seconds = settle_seconds
        self._channel = open_channel(host, data_port)
        self._stub = file_replication_pb2_grpc.FileReplicationServiceStub(self._channel)
        self._metadata = call_metadata(credentials)
        self._capture = WriteCapture(self._stub, self._metadata, address=self._address)

    async def close(self) -> None:
        await self._channel.close()

    async def cut(self, collection: str, shard: str, *, schema_version: int) -> ShardCut:
        """Freeze the shard for some instants. Raises ShardBusy, ShardNotFound, HardLinksUnsupported and others.

        Whatever goes wrong, nothing stays pinned in a server that answers.
        """
        try:
            return await self._cut(collection, shard, schema_version)
        except BaseException:
            await to_its_end(if_it_can(self._release(collection, shard)))
            raise

    async def release(self, cut: ShardCut) -> None:
        """Let the server forget all snapshots of the cut and delete their directories, even of a class that is gone."""
        await self._release(cut.collection, cut.shard)

    async def _cut(self, collection: str, shard: str, schema_version: int) -> ShardCut:
        live = snapshot_staging.shard_directory(self._data_root, collection, shard)
        made = _made(live)
        pair = await self._cut_quiet(collection, shard, schema_version)
        late: tuple[str, ...] = ()
        if pair is None:
            capture = self._capture_id(collection, shard)
            captured = await self._capture.start(collection, shard, capture)
            await asyncio.sleep(self._settle_seconds)
            pair = await self._cut_busy(collection, shard, schema_version)
            if captured:
                late = await self._capture.fetch(collection, shard, capture, pair.vectors.directory)
        last = pair.vectors
        try:
            names = await asyncio.to_thread(snapshot_staging.complete, last.directory, live, (*late, *last.names))
        except FileNotFoundError as error:
            raise Transient("CutIncomplete", f"{collection}/{shard} lost a file while it was cut") from error
        if made is not None and _made(live) != made:
            raise Transient("CutIncomplete", f"{collection}/{shard} was deleted and made again while it was cut")
        return ShardCut(
            collection=collection,
            shard=shard,
            driver=DRIVER,
            files=combine(pair.objects.directory, pair.objects.names, last.directory, names, queued=pair.queued),
            halt_seconds=pair.longest_seconds,
        )

    async def _cut_quiet(self, collection: str, shard: str, schema_version: int) -> _Pair | None:
        """Two calls that list the same files, or nothing."""
        first, second = [await self._create(collection, shard, number, schema_version) for number in (0, 1)]
        if set(first.names) != set(second.names):
            return None
        return _Pair(second, second, second.queued, max(first.seconds, second.seconds))

    async def _cut_busy(self, collection: str, shard: str, schema_version: int) -> _Pair:
        """Calls until two in a row are one instant, or else the best call and one whose vector index has caught up.

        The best is the one during which the least was written. The server replaces the snapshot of an id that is used
        again, so never more than two of these are pinned.
        """
        captured = write_capture.log_place(self._data_root, collection, shard, self._capture_id(collection, shard))
        best: _Staged | None = None
        last: _Staged | None = None
        least, free, longest = 0, 2, 0.0
        for _ in range(GAP_CALLS):
            await asyncio.to_thread(_wait_for_gap, captured)
            size = _size(captured)
            before, last = last, await self._create(collection, shard, free, schema_version)
            written, longest = _size(captured) - size, max(longest, last.seconds)
            same = before is not None and set(before.names) == set(last.names)
            if same and last.is_indexed():
                return _Pair(last, last, last.queued, longest)
            if same or best is None or written < least:
                best, least, free = last, written, 5 - free
            if same:
                break
        assert best is not None
        queued, patient = best.queued, best.queued_bytes() <= DRAIN_BYTES
        deadline = time.monotonic() + DRAIN_SECONDS
        while patient and queued and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
            staged = await self._create(collection, shard, free, schema_version)
            longest, queued = max(longest, staged.seconds), queued & staged.queued
        # once more: what was worked off while a list was made is in the logs of the next call only
        vectors = await self._create(collection, shard, free, schema_version)
        return _Pair(best, vectors, queued, max(longest, vectors.seconds))

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
        directory = snapshot_staging.staging_directory(self._data_root, operation, collection)
        await asyncio.to_thread(snapshot_staging.check_staging, directory, names)
        return _Staged(operation, directory, names, seconds)

    async def _release(self, collection: str, shard: str) -> None:
        """All of it is tried before it raises."""
        failed: BackupError | None = None
        for each in (
            self._end_capture(collection, shard),
            *(self._release_one(collection, shard, number) for number in range(CALLS)),
        ):
            try:
                await each
            except BackupError as error:
                failed = failed or error
        if failed is not None:
            raise server_holds(collection, shard, failed) from failed

    async def _end_capture(self, collection: str, shard: str) -> None:
        """That of a tenant ends when it is put to sleep. The server leaves its file until it loads the shard again,
        whatever it is told."""
        operation = self._capture_id(collection, shard)
        await self._capture.stop(collection, shard, operation)
        captured = write_capture.log_place(self._data_root, collection, shard, operation)
        await asyncio.to_thread(write_capture.remove_left, captured)

    async def _release_one(self, collection: str, shard: str, number: int) -> None:
        """The server forgets, then we delete what it may have left: it refuses when the class is gone."""
        operation = snapshot_staging.operation_id(self._operation_uid, collection, shard, number)
        request = file_replication_pb2.ReleaseSnapshotRequest(collection=collection, operation_id=operation)
        failed: BackupError | None = None
        try:
            await self._stub.ReleaseReplicaSnapshot(request, timeout=SHORT_TIMEOUT_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            log.warning("release of %s/%s cut %d: %s; deleting it", collection, shard, number, text_of(error))
            failed = None if error.code() in GONE else failure_of(error, what=f"release of {collection}/{shard}")
        directory = snapshot_staging.staging_directory(self._data_root, operation, collection)
        await asyncio.to_thread(snapshot_staging.let_go_of, directory)
        if failed is not None:
            raise failed


def _made(live: Place) -> tuple[int, int] | None:
    """What tells a shard from one of the same name made later: its version file is written once."""
    status = (live / "version").look()
    return None if status is None else (status.st_ino, status.st_mtime_ns)


def _wait_for_gap(captured: Place) -> None:
    """Until the file of captured writes did not grow for a moment, or there seems to be no gap."""
    deadline = time.monotonic() + GAP_WAIT_SECONDS
    size, since = _size(captured), time.monotonic()
    while (now := time.monotonic()) < deadline and now < since + GAP_SECONDS:
        time.sleep(GAP_POLL_SECONDS)
        if (grown := _size(captured)) != size:
            size, since = grown, time.monotonic()


def _size(place: Place) -> int:
    status = place.look()
    return 0 if status is None else status.st_size


def combine(
    objects_directory: Place,
    objects_names: tuple[str, ...],
    directory: Place,
    names: tuple[str, ...],
    *,
    queued: frozenset[str],
) -> tuple[ShardFile, ...]:
    """Objects and postings from the earlier call, everything else from the later one, in the later one's order.

    Of the queues only `queued` is taken, from the earlier call: what came later is in the captured writes. All sources
    are private to the cut (sealed segments, or copies), so none of them changes in place.
    """
    earlier = [name for name in objects_names if name.startswith(POSTED) or name in queued]
    later = [name for name in names if not name.startswith(POSTED) and not QUEUE.match(name)]
    return (
        *(ShardFile(name, objects_directory / name, mutable=False) for name in earlier),
        *(ShardFile(name, directory / name, mutable=False) for name in later),
    )
