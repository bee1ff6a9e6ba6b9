"""The objects of one shard of one node, through its data port: what replays and flushes send."""

from dataclasses import dataclass

import aiohttp

from weaviate_backup import answers
from weaviate_backup.errors import Permanent, Transient, excerpt
from weaviate_backup.weaviate.rpc import ClusterCredentials, url_host

OBJECT_LIST = "application/vnd.weaviate.storobj.list+octet-stream"


def objects_url(host: str, data_port: int, *, collection: str, shard: str) -> str:
    return f"http://{url_host(host)}:{data_port}/indices/{collection}/shards/{shard}/objects"


def digest_url(host: str, data_port: int, *, collection: str, shard: str) -> str:
    """Tells of objects, whose ids are sent, when they were last written or deleted: replicas ask each other so."""
    return f"http://{url_host(host)}:{data_port}/replicas/indices/{collection}/shards/{shard}/objects/_digest"


@dataclass(frozen=True)
class DataPort:
    """A session of some requests, each of which may take that long."""

    session: aiohttp.ClientSession
    timeout_seconds: float

    async def __aenter__(self) -> "DataPort":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def send(self, method: str, url: str, *, reason: str, body: bytes | None = None) -> bytes:
        """The body of a good answer. `reason` is that of a refusal which may pass; refused credentials do not."""
        headers, what = {"Content-Type": OBJECT_LIST} if body is not None else {}, f"{method} {url}"
        try:
            answer = await answers.ask(
                self.session, method, url, answers.whole, what=what, limit_bytes=answers.SOME.size_bytes,
                total_seconds=self.timeout_seconds, data=body, headers=headers,
            )  # fmt: skip
        except TimeoutError as error:
            raise Transient("ServerTimeout", f"{what}: Weaviate did not answer in time") from error
        except aiohttp.ClientError as error:
            raise Transient("ServerUnavailable", f"{what}: {excerpt(str(error))}") from error
        if answer.is_good:
            return answer.body
        if answer.status == 401:
            raise Permanent("ClusterAuthenticationFailed", f"{what}: the data port refused the credentials")
        raise Transient(reason, f"{what}: {answer.status}: {excerpt(answer.text)}")


def open_data_port(credentials: ClusterCredentials | None, *, timeout_seconds: float) -> DataPort:
    """Use as an asynchronous context manager."""
    headers = {"Authorization": credentials.header()} if credentials else {}
    return DataPort(answers.open_session(headers), timeout_seconds)
