"""Have a server write out what the logs of a shard's indexes hold in memory.

There is no call for that, but every batch begins its own work on indexes by it, and a batch may be empty.
"""

import aiohttp

from weaviate_backup.errors import Transient, excerpt
from weaviate_backup.weaviate.late_writes import OBJECT_LIST
from weaviate_backup.weaviate.rpc import ClusterCredentials

TIMEOUT_SECONDS = 120.0


async def flush_indexes(
    host: str, data_port: int, *, collection: str, shard: str, credentials: ClusterCredentials | None
) -> None:
    """Send an empty batch to an active shard through the data port. It changes nothing."""
    address = f"[{host}]" if ":" in host else host
    url = f"http://{address}:{data_port}/indices/{collection}/shards/{shard}/objects"
    headers = {"Content-Type": OBJECT_LIST} | ({"Authorization": credentials.header()} if credentials else {})
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=b"", headers=headers) as answer,
        ):
            if answer.status >= 300:
                text = excerpt(await answer.text())
                raise Transient("FlushFailed", f"POST {url} (an empty batch): {answer.status}: {text}")
    except TimeoutError as error:
        raise Transient("ServerTimeout", f"POST {url}: Weaviate did not answer in time") from error
    except aiohttp.ClientError as error:
        raise Transient("ServerUnavailable", f"POST {url}: {excerpt(str(error))}") from error
