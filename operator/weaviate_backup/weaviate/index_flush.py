"""Have a server write out what the logs of a shard's indexes hold in memory.

There is no call for that, but every batch begins its own work on indexes by it, and a batch may be empty.
"""

from weaviate_backup.weaviate.rpc import ClusterCredentials
from weaviate_backup.weaviate.shard_objects import objects_url, open_data_port

TIMEOUT_SECONDS = 120.0


async def flush_indexes(
    host: str, data_port: int, *, collection: str, shard: str, credentials: ClusterCredentials | None
) -> None:
    """Send an empty batch to an active shard through the data port. It changes nothing."""
    url = objects_url(host, data_port, collection=collection, shard=shard)
    async with open_data_port(credentials, timeout_seconds=TIMEOUT_SECONDS) as port:
        await port.send("POST", url, body=b"", reason="FlushFailed")
