"""The driver of servers up to 1.38.2: `PauseFileActivity`, `ListFiles`, `ResumeFileActivity`.

Pause stops compaction and the upkeep of indexes, not writes, and switches commit logs; List then blocks writes while it
flushes and lists. The cut is that instant (`locked_instant`): what List names, and of the logs that Pause left active
as much as belongs to it (`commit_log`). It is staged privately while the shard is halted, so a halt lasts as long as
the calls and some links.

Halts are counted by the server: one resume for each pause, in every path. What cannot be undone at once (a killed
agent, an unreachable server) is remembered beside the data and undone by the next `release`, or by the server itself
after `TRANSFER_INACTIVITY_TIMEOUT`. Resuming a shard that is not halted does nothing.
"""

import asyncio
import logging
import time

import grpc

from weaviate_backup.beneath import Place
from weaviate_backup.errors import BackupError, Transient
from weaviate_backup.tasks import to_its_end
from weaviate_backup.weaviate import pause_staging, snapshot_staging
from weaviate_backup.weaviate.index_flush import flush_indexes
from weaviate_backup.weaviate.locked_instant import InstantWatch, Lengths
from weaviate_backup.weaviate.protocol import file_replication_pb2, file_replication_pb2_grpc
from weaviate_backup.weaviate.rpc import ClusterCredentials, call_metadata, failure_of, open_channel, text_of
from weaviate_backup.weaviate.shard_refusals import snapshot_failure
from weaviate_backup.weaviate.shard_source import GONE, ShardCut, ShardFile, if_it_can, server_holds

DRIVER = "pause-file-activity"
CALL_TIMEOUT_SECONDS = 1800.0
"""Waiting for a running compaction can take minutes, and a client that gives up undoes the halt."""
RESUME_TIMEOUT_SECONDS = 60.0
RESUME_ATTEMPTS = 3
BETWEEN_HALTS_SECONDS = 2.0
"""From a resume to the next pause of a shard: sooner, some releases halt it without a watchdog."""
LISTS = 10
BETWEEN_LISTS_SECONDS = 0.02
"""More than a tick of the clock that stamps files: two lists must be told apart."""
DEFINITE = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)
"""Answers of the server itself, which undid the halt it refused. After any other the shard may be halted."""

log = logging.getLogger(__name__)


class PauseDriver:
    """A `ShardSource`. One instance per operation and node; shards may be cut concurrently."""

    def __init__(
        self,
        host: str,
        data_port: int,
        *,
        data_root: Place,
        operation_uid: str,
        credentials: ClusterCredentials | None = None,
    ) -> None:
        self._host, self._data_port, self._credentials = host, data_port, credentials
        self._address = f"{host}:{data_port}"
        self._data_root = data_root
        self._operation_uid = operation_uid
        self._channel = open_channel(host, data_port)
        self._stub = file_replication_pb2_grpc.FileReplicationServiceStub(self._channel)
        self._metadata = call_metadata(credentials)
        self._resuming: dict[Place, asyncio.Task[BackupError | None]] = {}
        self._resumed: dict[Place, float] = {}

    async def close(self) -> None:
        await self._channel.close()

    async def cut(self, collection: str, shard: str, *, schema_version: int) -> ShardCut:
        """Halt the shard for some instants. Raises ShardBusy, ShardNotFound, CutNotRecognized and others.

        Whatever goes wrong, the shard is resumed and nothing stays behind.
        """
        try:
            return await self._cut(collection, shard, schema_version)
        except BaseException:
            await to_its_end(if_it_can(self._release(collection, shard)))
            raise

    async def release(self, cut: ShardCut) -> None:
        """Delete the staging; resume first if a predecessor that was killed may have left the shard halted."""
        await self._release(cut.collection, cut.shard)

    async def _cut(self, collection: str, shard: str, schema_version: int) -> ShardCut:
        staging = self._staging(collection, shard)
        live = snapshot_staging.shard_directory(self._data_root, collection, shard)
        await self._release(collection, shard)
        earlier = self._resumed.get(staging, float("-inf"))
        await asyncio.sleep(max(0.0, earlier + BETWEEN_HALTS_SECONDS - time.monotonic()))
        await asyncio.to_thread(pause_staging.prepare, staging, live)
        started = time.monotonic()
        await self._pause(collection, shard, schema_version, staging)
        listed, lengths = await self._list_at_one_instant(collection, shard, live)
        next_document = await asyncio.to_thread(pause_staging.document_counter, live)
        await flush_indexes(
            self._host, self._data_port, collection=collection, shard=shard, credentials=self._credentials
        )
        names = await asyncio.to_thread(pause_staging.stage, staging, live, listed, tuple(lengths))
        await self._resume(collection, shard, staging)
        halt_seconds = time.monotonic() - started
        await asyncio.to_thread(pause_staging.end_logs, staging, lengths, next_document)
        return ShardCut(
            collection=collection,
            shard=shard,
            driver=DRIVER,
            files=tuple(ShardFile(name, staging / name, mutable=False) for name in names),
            halt_seconds=halt_seconds,
        )

    def _staging(self, collection: str, shard: str) -> Place:
        operation = snapshot_staging.operation_id(self._operation_uid, collection, shard, 0)
        return snapshot_staging.staging_directory(self._data_root, operation, collection)

    async def _pause(self, collection: str, shard: str, schema_version: int, staging: Place) -> None:
        request = file_replication_pb2.PauseRequest(collection=collection, shard=shard, schema_version=schema_version)
        try:
            await self._stub.PauseFileActivity(request, timeout=CALL_TIMEOUT_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() in DEFINITE:
                pause_staging.no_longer_halted(staging)
            raise snapshot_failure(error, what=f"pause of {collection}/{shard} at {self._address}") from error

    async def _list_at_one_instant(self, collection: str, shard: str, live: Place) -> tuple[tuple[str, ...], Lengths]:
        """What List names, and how long the active logs were then. `CutNotRecognized` when that is in doubt."""
        request = file_replication_pb2.ListRequest(collection=collection, shard=shard)
        for number in range(LISTS):
            watch = await asyncio.to_thread(InstantWatch, live)
            try:
                with watch:
                    answer = await self._stub.ListFiles(request, timeout=CALL_TIMEOUT_SECONDS, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                raise snapshot_failure(error, what=f"list of {collection}/{shard} at {self._address}") from error
            lengths = watch.lengths()
            if lengths is not None:
                log.debug("%s/%s was listed at one instant, call %d", collection, shard, number + 1)
                return pause_staging.shard_relative(tuple(answer.file_names), collection, shard), lengths
            await asyncio.sleep(BETWEEN_LISTS_SECONDS)
        raise Transient(
            "CutNotRecognized",
            f"{collection}/{shard}: in {LISTS} lists the instant at which the server held writes back was not seen; "
            "the agent gets too little CPU, or the volume tells sizes late (a network file system)",
        )

    async def _resume(self, collection: str, shard: str, staging: Place) -> None:
        """Exactly one resume for a pause, also when the caller is cancelled and releases while it is under way. Raises
        `ServerHolds` when the server never answered."""
        task = self._resuming.get(staging)
        if task is None:
            task = self._resuming[staging] = asyncio.create_task(self._call_resume(collection, shard, staging))
            task.add_done_callback(lambda _: self._resuming.pop(staging))
        unanswered = await to_its_end(task)
        if unanswered is not None:
            raise server_holds(collection, shard, unanswered) from unanswered

    async def _call_resume(self, collection: str, shard: str, staging: Place) -> BackupError | None:
        """Repeated only when the server did not answer. If it never does, the next release asks, or its watchdog acts.

        A class or tenant that is gone answers that it is not found: there is nothing to resume.
        """
        request = file_replication_pb2.ResumeRequest(collection=collection, shard=shard)
        unanswered: BackupError | None = None
        for attempt in range(RESUME_ATTEMPTS):
            try:
                await self._stub.ResumeFileActivity(request, timeout=RESUME_TIMEOUT_SECONDS, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                log.warning("resume of %s/%s at %s: %s", collection, shard, self._address, text_of(error))
                if error.code() not in GONE:
                    unanswered = failure_of(error, what=f"resume of {collection}/{shard}")
                    await asyncio.sleep(attempt)
                    continue
            self._resumed[staging] = time.monotonic()
            await asyncio.to_thread(pause_staging.no_longer_halted, staging)
            return None
        return unanswered

    async def _release(self, collection: str, shard: str) -> None:
        """What was not resumed keeps its mark, and so its staging, until a release reaches the server."""
        staging = self._staging(collection, shard)
        if await asyncio.to_thread(pause_staging.may_be_halted, staging):
            await self._resume(collection, shard, staging)
        if not await asyncio.to_thread(pause_staging.may_be_halted, staging):
            await asyncio.to_thread(snapshot_staging.let_go_of, staging)
