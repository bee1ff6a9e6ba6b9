"""Weaviate's REST API (port 8080) and the node status of its data port (7001), as far as backups need them.

Small on purpose: one method per route, plain dictionaries out, no retries. The API key is optional and never logged.
Lists are filtered by the key's permissions, so a short list is no proof of absence: raft is asked where that matters.
Who answers may be anybody: each call says how large its answer can be, and values are looked at before they are used.
What a call gives is made of the answer in the answer's own turn (see `answers`), so that nothing else of it is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp

from weaviate_backup.answers import FEW, MANY, SOME, Answer, ask, open_session, parse, understood, whole
from weaviate_backup.errors import BackupError, Permanent, Transient, excerpt
from weaviate_backup.layout.json_bounds import JsonBounds
from weaviate_backup.weaviate.raft_position import Position, read_position
from weaviate_backup.weaviate.rpc import ClusterCredentials, url_host

TIMEOUT_SECONDS = 60.0
"""The nodes route asks every node and may take 30 s by itself."""
BACKUP_MODULES = {"backup-s3": "s3", "backup-gcs": "gcs", "backup-azure": "azure", "backup-filesystem": "filesystem"}
ACTIVE_BACKUPS = 16
"""So many are told; one of them is enough to wait for."""
FINISHED_BACKUP = {"SUCCESS", "FAILED", "CANCELED", "CANCELLED"}

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class NativeBackup:
    """A backup of Weaviate's own engine that has not ended."""

    backend: str
    backup_id: str
    status: str


@dataclass(frozen=True)
class ShardStatus:
    """One shard in the memory of one node. `object_count` is cheap and lags; it is 0 while `loaded` is false."""

    collection: str
    shard: str
    object_count: int
    loaded: bool
    vector_indexing_status: str
    vector_queue_length: int


class RestClient:
    """One node's REST API. Use as an asynchronous context manager, or call `close`. `whose`: its owner, by whom
    answers take turns."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        ssl: Any = True,
        timeout_seconds: float = TIMEOUT_SECONDS,
        whose: str = "",
    ) -> None:
        self.base_url = base_url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._json = _JsonOverHttp(self.base_url, headers, ssl=ssl, timeout_seconds=timeout_seconds, whose=whose)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._json.close()

    async def call(self, method: str, path: str, *, query: dict[str, str] | None = None, body: Any = None) -> Any:
        """Any other route with a small answer: parsed JSON, None for an empty one."""
        return await self._json.call(method, path, whole, query=query, body=body)

    async def ready(self) -> bool:
        """Whether this node takes requests. A node that cannot be reached is not ready."""
        try:
            await self._json.call("GET", "/v1/.well-known/ready", _nothing, bounds=FEW)
        except (Transient, Permanent):
            return False
        return True

    async def meta(self) -> Json:
        """`version`, `hostname` and the enabled `modules` with their settings."""
        return await self._json.call("GET", "/v1/meta", _object)

    async def nodes(self, take: Callable[[tuple[Json, ...]], T], *, verbose: bool = True) -> T:
        """What is taken of the members that are alive, with their shards when `verbose`. A dead node is missing."""
        query, bounds = {"output": "verbose" if verbose else "minimal"}, MANY if verbose else SOME

        def taken(answer: Any) -> T:
            return take(_objects(_object(answer).get("nodes")))

        return await self._json.call("GET", "/v1/nodes", taken, query=query, bounds=bounds)

    async def positions(self) -> tuple[Position, ...]:
        """Every node's in raft, as this one heard of them."""
        return await self._json.call("GET", "/v1/cluster/statistics", lambda answer: read_positions(_object(answer)))

    async def schema(self, take: Callable[[tuple[Json, ...]], T]) -> T:
        """What is taken of the classes, which are filtered by the key's permissions."""

        def taken(answer: Any) -> T:
            return take(_objects(_object(answer).get("classes")))

        return await self._json.call("GET", "/v1/schema", taken, bounds=MANY)

    async def tenants(self, collection: str) -> dict[str, str]:
        """tenant -> activity status (HOT, COLD, FROZEN, … or the newer words). Empty for a class without tenants."""

        def take(answer: Any) -> dict[str, str]:
            return {str(each["name"]): str(each["activityStatus"]) for each in _objects(answer)}

        try:
            return await self._json.call("GET", f"/v1/schema/{_part(collection)}/tenants", take, bounds=MANY)
        except Permanent as error:
            if "multi-tenancy" in error.message.lower():
                return {}
            raise

    async def aliases(self, collection: str = "") -> dict[str, str]:
        """alias -> collection."""

        def take(answer: Any) -> dict[str, str]:
            return {str(each["alias"]): str(each["class"]) for each in _objects(_object(answer).get("aliases"))}

        query = {"class": collection} if collection else {}
        return await self._json.call("GET", "/v1/aliases", take, query=query, bounds=MANY)

    async def create_alias(self, alias: str, collection: str) -> None:
        await self._json.call("POST", "/v1/aliases", _nothing, body={"alias": alias, "class": collection})

    async def delete_alias(self, alias: str) -> None:
        """Remove an alias; one that is not there is success."""
        try:
            await self._json.call("DELETE", f"/v1/aliases/{_part(alias)}", _nothing)
        except Permanent as error:
            if error.reason != "NotFound":
                raise

    async def users_enabled(self) -> bool | None:
        """Whether dynamic users are switched on; None when the key's user may not know. There need not be any user."""
        try:
            await self._json.call("GET", "/v1/users/db/nobody", _nothing)
        except Permanent as error:
            return {"NotFound": True, "ServerRefused": False}.get(error.reason)
        return True

    async def native_backups_active(self) -> tuple[NativeBackup, ...]:
        """Backups of the server's own engine that have not ended, over all backends it has enabled.

        The list comes from the bucket, so one whose coordinator died looks active for ever; the caller has deadlines.
        """
        active: list[NativeBackup] = []
        for backend in await self._json.call("GET", "/v1/meta", lambda answer: enabled_backends(_object(answer))):
            take = partial(read_active, backend)
            active += await self._json.call("GET", f"/v1/backups/{backend}", take, bounds=MANY)
        return tuple(active[:ACTIVE_BACKUPS])


class NodeClient:
    """One node's data port: what that node alone holds, with cluster basic authentication when the cluster has it."""

    def __init__(self, host: str, port: int = 7001, credentials: ClusterCredentials | None = None) -> None:
        headers = {"Authorization": credentials.header()} if credentials else {}
        self._json = _JsonOverHttp(
            f"http://{url_host(host)}:{port}", headers, ssl=True, timeout_seconds=TIMEOUT_SECONDS
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._json.close()

    async def status(self, collection: str = "") -> Json:
        """`name`, `version`, `status`, `shards` of this node."""
        path = f"/nodes/status/{_part(collection)}" if collection else "/nodes/status"
        return await self._json.call("GET", path, _object, query={"output": "verbose"}, bounds=MANY)

    async def shards(self, collection: str = "") -> tuple[ShardStatus, ...]:
        """Active shards of this node. Inactive tenants are not in memory, so not here."""
        status = await self.status(collection)
        with understood("GET /nodes/status"):
            return tuple(read_shard(each) for each in _objects(status.get("shards")))

    async def has_open(self, collection: str, shard: str) -> bool:
        """Whether the node has a shard in memory, as it has those of active tenants. It loads none to answer."""
        path = f"/indices/{_part(collection)}/shards/{_part(shard)}/status"
        try:
            await self._json.call("GET", path, lambda _: None)
        except Transient as error:  # as it answers, 500, of a tenant that is asleep, too
            if "shard not found" not in error.message:
                raise
            return False
        except Permanent as error:  # 422 of a collection that is gone or a shard that loads, 418 in maintenance
            if error.reason != "ServerRefused":
                raise
            raise Transient("ShardBusy", error.message) from error
        return True

    async def position(self) -> Position:
        """This node's in raft, without the REST API's key."""

        def taken(answer: Any) -> Position:
            return read_position(_object(answer), what="GET /nodes/statistics")

        return await self._json.call("GET", "/nodes/statistics", taken)


class _JsonOverHttp:
    """One session. What is taken is taken of parsed JSON, or of None; failures are ours."""

    def __init__(
        self, base_url: str, headers: dict[str, str], *, ssl: Any, timeout_seconds: float, whose: str = ""
    ) -> None:
        self._base_url = base_url
        self._headers = headers
        self._ssl = ssl
        self._timeout_seconds = timeout_seconds
        self._whose = whose
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        path: str,
        take: Callable[[Any], T],
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        bounds: JsonBounds = SOME,
    ) -> T:
        if self._session is None:
            self._session = open_session(self._headers)
        url, what = self._base_url + path, f"{method} {self._base_url}{path}"

        def taken(answer: Answer) -> T:
            if not answer.is_good:
                raise _failure(answer.status, answer.text, what=what)
            found = parse(answer.body, bounds, what=what) if answer.body else None
            with understood(what):
                return take(found)

        try:
            return await ask(
                self._session, method, url, taken, what=what, limit_bytes=bounds.size_bytes,
                total_seconds=self._timeout_seconds, whose=self._whose, params=query, json=body, ssl=self._ssl,
            )  # fmt: skip
        except TimeoutError as error:
            raise Transient("ServerTimeout", f"{what}: Weaviate did not answer in time") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise Transient("ServerUnavailable", f"{what}: {excerpt(str(error))}") from error


def read_positions(answer: Json) -> tuple[Position, ...]:
    return tuple(read_position(each, what="statistics") for each in _objects(answer.get("statistics")))


def read_active(backend: str, answer: Any) -> tuple[NativeBackup, ...]:
    """The first of a backend's backups that have not ended."""
    statuses = ((each, str(each.get("status", ""))) for each in _objects(answer))
    found = (
        NativeBackup(backend, excerpt(str(each.get("id", ""))), excerpt(status))
        for each, status in statuses
        if status not in FINISHED_BACKUP
    )
    return tuple(islice(found, ACTIVE_BACKUPS))


def read_shard(entry: Json) -> ShardStatus:
    return ShardStatus(
        collection=str(entry.get("class", "")),
        shard=str(entry.get("name", "")),
        object_count=int(entry.get("objectCount") or 0),
        loaded=bool(entry.get("loaded", True)),
        vector_indexing_status=str(entry.get("vectorIndexingStatus", "")),
        vector_queue_length=int(entry.get("vectorQueueLength") or 0),
    )


def enabled_backends(meta: Json) -> tuple[str, ...]:
    """Names under `/v1/backups/` of the backup modules a server has enabled."""
    modules = meta.get("modules")
    names = modules if isinstance(modules, dict) else {}
    return tuple(backend for module, backend in BACKUP_MODULES.items() if module in names)


def _failure(status: int, text: str, *, what: str) -> BackupError:
    said = excerpt(text) or "no text"
    if status == 401:
        return Permanent(
            "AuthenticationFailed",
            f"{what}: 401: Weaviate does not accept the credentials, or wants some; the Secret must hold a valid "
            "API key (for the data port: the CLUSTER_BASIC_AUTH_* values of the running pods)",
        )
    if status == 403:
        return Permanent("PermissionDenied", f"{what}: 403: the API key's user lacks a permission: {said}")
    if status == 404:
        return Permanent("NotFound", f"{what}: 404: {said}")
    if status == 429 or status >= 500:
        return Transient("ServerUnavailable", f"{what}: {status}: {said}")
    if 300 <= status < 400:
        return Permanent("UnexpectedAnswer", f"{what}: {status}: a redirect; the address must be Weaviate's own")
    return Permanent("ServerRefused", f"{what}: {status}: {said}")


def _nothing(_: Any) -> None:
    return None


def _object(answer: Any) -> Json:
    if not isinstance(answer, dict):
        raise Permanent("UnexpectedAnswer", f"expected a JSON object from Weaviate, got {type(answer).__name__}")
    return answer


def _objects(answer: Any) -> tuple[Json, ...]:
    """A list of objects; null is an empty one."""
    found = [] if answer is None else answer
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Permanent("UnexpectedAnswer", "expected a list of JSON objects from Weaviate")
    return tuple(found)


def _part(name: str) -> str:
    return quote(name, safe="")
