"""The objects of one shard of one node, through its data port: what replays and flushes send."""

import aiohttp

from weaviate_backup.errors import Permanent, Transient, excerpt
from weaviate_backup.weaviate.rpc import ClusterCredentials, url_host

OBJECT_LIST = "application/vnd.weaviate.storobj.list+octet-stream"


def objects_url(host: str, data_port: int, *, collection: str, shard: str) -> str:
    return f"http://{url_host(host)}:{data_port}/indices/{collection}/shards/{shard}/objects"


def open_session(credentials: ClusterCredentials | None, *, timeout_seconds: float) -> aiohttp.ClientSession:
    """The caller closes it."""
    headers = {"Authorization": credentials.header()} if credentials else {}
    return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=timeout_seconds))


async def send(session: aiohttp.ClientSession, method: str, url: str, *, reason: str, body: bytes | None = None) -> str:
    """The text of a good answer. `reason` is that of a refusal which may pass; refused credentials do not."""
    headers = {"Content-Type": OBJECT_LIST} if body is not None else {}
    try:
        async with session.request(method, url, data=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status < 300:
                return text
            if answer.status == 401:
                raise Permanent("ClusterAuthenticationFailed", f"{method} {url}: the data port refused the credentials")
            raise Transient(reason, f"{method} {url}: {answer.status}: {excerpt(text)}")
    except TimeoutError as error:
        raise Transient("ServerTimeout", f"{method} {url}: Weaviate did not answer in time") from error
    except aiohttp.ClientError as error:
        raise Transient("ServerUnavailable", f"{method} {url}: {excerpt(str(error))}") from error
