"""Which driver a server is cut with: asked, never read from a version string.

The probe names a collection that cannot exist, so no shard is halted and nothing has to be undone: a server that knows
the call answers that it does not know the collection, any other that it does not know the call.
"""

from typing import Any

import grpc

from weaviate_backup.beneath import Place
from weaviate_backup.errors import Permanent
from weaviate_backup.weaviate.pause_driver import PauseDriver
from weaviate_backup.weaviate.protocol import file_replication_pb2, file_replication_pb2_grpc
from weaviate_backup.weaviate.rpc import ClusterCredentials, call_metadata, failure_of, open_channel
from weaviate_backup.weaviate.shard_refusals import snapshot_failure
from weaviate_backup.weaviate.shard_source import ShardSource
from weaviate_backup.weaviate.snapshot_driver import SnapshotDriver

PROBE_TIMEOUT_SECONDS = 30.0
NO_COLLECTION = "WeaviateBackupOperatorProbe"


async def choose_driver(
    host: str,
    data_port: int,
    *,
    data_root: Place,
    operation_uid: str,
    server_version: str,
    credentials: ClusterCredentials | None = None,
) -> ShardSource:
    """The driver for the server at that data port; `DriverUnsupported` when it has none of the calls we use."""
    channel = open_channel(host, data_port)
    try:
        stub = file_replication_pb2_grpc.FileReplicationServiceStub(channel)
        metadata = call_metadata(credentials)
        what = f"probe of {host}:{data_port}"
        snapshot = file_replication_pb2.CreateSnapshotRequest(
            collection=NO_COLLECTION, shard="none", operation_id="wvb-probe"
        )
        if await _knows(stub.CreateReplicaSnapshot(snapshot, timeout=PROBE_TIMEOUT_SECONDS, metadata=metadata), what):
            return SnapshotDriver(
                host, data_port, data_root=data_root, operation_uid=operation_uid, credentials=credentials
            )
        pause = file_replication_pb2.PauseRequest(collection=NO_COLLECTION, shard="none")
        pausable = await _knows(stub.PauseFileActivity(pause, timeout=PROBE_TIMEOUT_SECONDS, metadata=metadata), what)
    finally:
        await channel.close()
    if pausable:
        return PauseDriver(host, data_port, data_root=data_root, operation_uid=operation_uid, credentials=credentials)
    raise Permanent(
        "DriverUnsupported",
        f"Weaviate {server_version} at {host}:{data_port} has none of the calls that halt a shard; "
        "upgrade to 1.38.3 or newer (CreateReplicaSnapshot), or use method: Server",
    )


async def _knows(call: grpc.aio.UnaryUnaryCall[Any, Any], what: str) -> bool:
    """Whether the server has the call. Wrong credentials or an absent server are errors, not an answer."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        match error.code():
            case grpc.StatusCode.UNIMPLEMENTED:
                return False
            case grpc.StatusCode.INTERNAL:
                return True
            case grpc.StatusCode.FAILED_PRECONDITION:
                raise snapshot_failure(error, what=what) from error
            case _:
                raise failure_of(error, what=what) from error
    return True
