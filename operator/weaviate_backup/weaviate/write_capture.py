"""The server's change capture (since 1.38.0), as the snapshot driver uses it around the cuts of a busy shard.

A capture that is never stopped grows until the server restarts, so whoever starts one stops it in every path; the id is
derived from the operation, so that a later process can stop what an earlier one left.
"""

import asyncio
import io
import logging
from typing import TYPE_CHECKING, BinaryIO
from uuid import UUID

import grpc

from weaviate_backup.beneath import Place
from weaviate_backup.errors import BackupError
from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.protocol import file_replication_pb2
from weaviate_backup.weaviate.rpc import failure_of, text_of
from weaviate_backup.weaviate.shard_refusals import snapshot_failure
from weaviate_backup.weaviate.shard_source import GONE
from weaviate_backup.weaviate.snapshot_staging import shard_directory

if TYPE_CHECKING:
    from weaviate_backup.weaviate.protocol.file_replication_pb2_grpc import FileReplicationServiceAsyncStub

CALL_TIMEOUT_SECONDS = 60.0
FETCH_TIMEOUT_SECONDS = 600.0
FLUSH_BYTES = 4 << 20

CAPTURED = "changelog"
"""Of a shard: what the server has captured. It deletes what it finds there when it loads the shard."""

log = logging.getLogger(__name__)


def log_place(data_root: Place, collection: str, shard: str, operation: str) -> Place:
    """Where the server keeps the captured writes; it appends each as it happens."""
    return shard_directory(data_root, collection, shard) / CAPTURED / f"{operation}.log"


def remove_left(captured: Place) -> None:
    """Delete the file of a capture that has ended. What keeps it does no harm."""
    try:
        captured.unlink(missing_ok=True)
    except (BackupError, OSError) as error:
        log.warning("%s stays for now: %s", captured, error)


class WriteCapture:
    """Start, fetch and stop the capture of one shard's writes."""

    def __init__(
        self,
        stub: "FileReplicationServiceAsyncStub",
        metadata: tuple[tuple[str, str], ...],
        *,
        address: str,
    ) -> None:
        self._stub = stub
        self._metadata = metadata
        self._address = address

    async def start(self, collection: str, shard: str, operation: str) -> bool:
        """Begin to capture; False when this server cannot. An older capture of that id is replaced."""
        await self.stop(collection, shard, operation)
        request = file_replication_pb2.StartCaptureRequest(collection=collection, shard=shard, operation_id=operation)
        try:
            await self._stub.StartChangeCapture(request, timeout=CALL_TIMEOUT_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                log.warning(
                    "%s cannot capture writes; updates during the cut of %s/%s may be unsearchable after a restore",
                    self._address,
                    collection,
                    shard,
                )
                return False
            raise snapshot_failure(error, what=f"capture of {collection}/{shard} at {self._address}") from error
        return True

    async def fetch(self, collection: str, shard: str, operation: str, directory: Place) -> tuple[str, ...]:
        """Seal the capture, write it to a file in `directory` and stop it. The file's name, or nothing."""
        what = f"late writes of {collection}/{shard} at {self._address}"
        request = file_replication_pb2.CaptureRequest(collection=collection, shard=shard, operation_id=operation)
        captured = directory / late_writes.LATE_WRITES
        try:
            sealed = await self._stub.FinalizeChangeLog(request, timeout=CALL_TIMEOUT_SECONDS, metadata=self._metadata)
            if sealed.last_number:
                captured.unlink(missing_ok=True)
                with captured.create() as file, io.BufferedWriter(file) as stream:
                    await self._copy(collection, shard, operation, sealed.last_number, stream)
        except grpc.aio.AioRpcError as error:
            raise snapshot_failure(error, what=what) from error
        await self.stop(collection, shard, operation)
        return (late_writes.LATE_WRITES,) if sealed.last_number else ()

    async def _copy(self, collection: str, shard: str, operation: str, until: int, stream: BinaryIO) -> None:
        request = file_replication_pb2.ChangesRequest(
            collection=collection, shard=shard, operation_id=operation, until_number=until
        )
        pending, size = [late_writes.MAGIC], 0
        async for change in self._stub.GetChangeLog(request, timeout=FETCH_TIMEOUT_SECONDS, metadata=self._metadata):
            stored = b"" if change.is_delete else change.object
            frame = late_writes.encode(late_writes.Write(UUID(bytes=change.uuid), change.updated_milliseconds, stored))
            pending.append(frame)
            size += len(frame)
            if size > FLUSH_BYTES:
                await asyncio.to_thread(stream.writelines, pending)
                pending, size = [], 0
        await asyncio.to_thread(stream.writelines, pending)

    async def stop(self, collection: str, shard: str, operation: str) -> None:
        """End a capture. One that is not there, or whose collection is gone, is ended already; raises when it may go
        on: nobody else ends it, and it grows with every write."""
        request = file_replication_pb2.CaptureRequest(collection=collection, shard=shard, operation_id=operation)
        try:
            await self._stub.StopChangeCapture(request, timeout=CALL_TIMEOUT_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() not in GONE:
                raise failure_of(error, what=f"end of the capture of {collection}/{shard}") from error
            log.debug("no capture of %s/%s at %s: %s", collection, shard, self._address, text_of(error))
