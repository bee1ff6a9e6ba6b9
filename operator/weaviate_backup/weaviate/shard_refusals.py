"""What it means when the file replication service refuses a call about a shard."""

import grpc

from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.weaviate.rpc import failure_of, text_of


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
