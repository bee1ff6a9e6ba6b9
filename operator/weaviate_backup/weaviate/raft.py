"""Weaviate's raft RPC (port 8301 on the pod IP): the replicated schema read, and the few commands a restore needs.

Any node answers: followers forward to the leader. There is no authentication. Class objects and sharding states are
kept as the server wrote them (`json` keeps 64-bit integers exact) and are never built by hand: a malformed class can
bring down every node. This client never retries; the caller judges `Transient` and `Permanent`.

An agent takes answers that are a share of its memory. The operator, which asks many clusters at once, takes small ones
at any time and larger ones in turn. What a call gives is made of the answer in that turn.

A server that starts answers before it knows all of its schema. With a `watch` no such answer is believed, whatever is
asked: `replayed_log` says how.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from weaviate_backup.answers import FOREIGN, FREE_BYTES, MANY, WAIT_SECONDS, document_bounds, parse, turn, understood
from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.weaviate.protocol import cluster_pb2, cluster_pb2_grpc
from weaviate_backup.weaviate.replayed_log import LogWatch, Looker
from weaviate_backup.weaviate.rpc import failure_of, is_too_large, open_channel, text_of

QUERY_TIMEOUT_SECONDS = 30.0
ALIAS_TIMEOUT_SECONDS = 30.0
RESTORE_TIMEOUT_SECONDS = 600.0
"""A restore answers after the leader has created or loaded its own shards."""
TURN_SECONDS = 5.0
"""For an answer that the server has just sent once: gRPC does not tell how it comes on."""

Json = dict[str, Any]
T = TypeVar("T")
Raft = TypeVar("Raft", bound="RaftClient")


class RaftClient:
    """One connection to one node. Use as an asynchronous context manager, or call `close`.

    With `whose`, the node's owner, large answers are waited for, so that few of them are in this process at once.
    `watch`: of the same node's data port.
    """

    watch: LogWatch | None = None

    def __init__(self, host: str, port: int = 8301, *, whose: str = "") -> None:
        self.address = f"{host}:{port}"
        self._whose = whose
        self._bounds = MANY if whose else document_bounds()
        self._channel = open_channel(host, port, limit_bytes=FREE_BYTES if whose else self._bounds.size_bytes)
        self._large = open_channel(host, port, limit_bytes=self._bounds.size_bytes) if whose else None
        self._stub = cluster_pb2_grpc.ClusterServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()
        if self._large is not None:
            await self._large.close()

    @property
    def leader(self) -> str:
        """Who gave the last answer, as far as the watch knows."""
        return self.watch.leader if self.watch else ""

    async def class_names(self) -> tuple[str, ...]:
        """Names of all collections, sorted."""

        def take(answer: Json | None) -> tuple[str, ...]:
            classes = ((answer or {}).get("Schema") or {}).get("classes") or []
            return tuple(sorted(str(each["class"]) for each in classes))

        return await self._query(cluster_pb2.QUERY_KIND_SCHEMA, {}, take)

    async def collection(self, name: str) -> tuple[Json, int]:
        """The class object as raft stores it, and its version. `CollectionNotFound` when there is none."""

        def take(answer: Json | None) -> tuple[Json, int]:
            found = ((answer or {}).get("Classes") or {}).get(name)
            if found is None:
                raise _not_found(name)
            version = int(found.pop("Version"))
            return dict(found), version

        return await self._query(cluster_pb2.QUERY_KIND_CLASSES, {"Classes": [name]}, take)

    async def sharding_state(self, name: str) -> tuple[Json, int]:
        """Shards, their nodes and tenant statuses, and the version. `CollectionNotFound` when there is none."""
        return await self.in_sharding_state(name, lambda state, version: (dict(state), version))

    async def in_sharding_state(self, name: str, take: Callable[[Json, int], T]) -> T:
        """What is taken of a sharding state and its version: a hundred thousand tenants need not be kept."""

        def taken(answer: Json | None) -> T:
            state = (answer or {}).get("State")
            if answer is None or state is None:
                raise _not_found(name)
            return take(state, int(answer["Version"]))

        return await self._query(cluster_pb2.QUERY_KIND_SHARDING_STATE, {"Class": name}, taken)

    async def tenant_statuses(self, collection: str, tenants: Collection[str]) -> dict[str, str]:
        """Status of those that exist, by name: much less than a whole sharding state, and not on which nodes they are.
        None exist of a collection that is gone."""

        asked = frozenset(tenants)

        def take(answer: Json | None) -> dict[str, str]:
            found = (answer or {}).get("TenantsActivityStatus") or {}
            return {str(tenant): str(status) for tenant, status in found.items() if tenant in asked}

        arguments = {"Class": collection, "Tenants": sorted(tenants)}
        try:
            return await self._query(cluster_pb2.QUERY_KIND_TENANT_STATUSES, arguments, take)
        except Permanent as error:
            if error.reason != "NotFound":
                raise
            return {}

    async def snapshot(self, name: str, *, attempts: int = 5) -> tuple[Json, Json, int]:
        """Class and sharding state that belong together, and the version of the state.

        Two queries are two instants: they are one picture only if the class's version is the same before and after.
        """
        for _ in range(attempts):
            class_json, class_version = await self.collection(name)
            state, state_version = await self.sharding_state(name)
            _, version_after = await self.collection(name)
            if class_version == version_after and class_version <= state_version:
                return class_json, state, state_version
        raise Transient("SchemaChanging", f"collection {name!r} changed during {attempts} readings of its schema")

    async def aliases(self, collection: str = "") -> dict[str, str]:
        """alias -> collection, of one collection or (empty name) of all. Servers before 1.32 have none."""

        def take(answer: Json | None) -> dict[str, str]:
            return {str(alias): str(target) for alias, target in ((answer or {}).get("Aliases") or {}).items()}

        try:
            return await self._query(cluster_pb2.QUERY_KIND_ALIASES, {"Alias": "", "Class": collection}, take)
        except Permanent as error:
            if _unknown_to_old_servers(error):
                return {}
            raise

    async def restore_class(
        self, name: str, class_json: Json, state: Json, *, timeout_seconds: float = RESTORE_TIMEOUT_SECONDS
    ) -> int:
        """Make every node take `.backup.tmp/<name>` and add the class. Returns the raft index of the command.

        A `Transient` failure leaves open whether it happened (`RaftOutcomeUnknown`): look before asking again.
        """
        _check_class(name, class_json, state)
        arguments = json.dumps({"Class": class_json, "State": state}, separators=(",", ":")).encode()
        return await self._apply(
            cluster_pb2.COMMAND_KIND_RESTORE_CLASS,
            arguments,
            collection=name,
            what=f"restoring collection {name!r}",
            timeout_seconds=timeout_seconds,
        )

    async def create_alias(self, alias: str, collection: str) -> int:
        """Add an alias. `AliasExists` when the name is taken, by an alias or a collection, in any spelling of case."""
        return await self._apply(
            cluster_pb2.COMMAND_KIND_CREATE_ALIAS,
            cluster_pb2.CreateAlias(collection=collection, alias=alias).SerializeToString(),
            what=f"creating alias {alias!r} of collection {collection!r}",
            timeout_seconds=ALIAS_TIMEOUT_SECONDS,
        )

    async def delete_alias(self, alias: str) -> int:
        """Remove an alias. Removing one that is not there is success, too."""
        return await self._apply(
            cluster_pb2.COMMAND_KIND_DELETE_ALIAS,
            cluster_pb2.DeleteAlias(alias=alias).SerializeToString(),
            what=f"deleting alias {alias!r}",
            timeout_seconds=ALIAS_TIMEOUT_SECONDS,
        )

    async def _query(
        self, kind: cluster_pb2.QueryKind.ValueType, arguments: Json, take: Callable[[Json | None], T]
    ) -> T:
        """What is taken of the answer's JSON; of None for an empty one: so the server says that nothing was found."""
        return await by_one_leader(self, lambda: self._query_once(kind, arguments, take))

    async def _query_once(
        self, kind: cluster_pb2.QueryKind.ValueType, arguments: Json, take: Callable[[Json | None], T]
    ) -> T:
        what = f"raft query {cluster_pb2.QueryKind.Name(kind)[11:]} at {self.address}"
        request = cluster_pb2.QueryRequest(kind=kind, arguments_json=json.dumps(arguments).encode())

        def taken(response: cluster_pb2.QueryResponse | None) -> T:
            if response is None:  # so grpc gives what is no message of this type
                raise Permanent("UnexpectedAnswer", f"raft query at {self.address}: the answer is no message of raft's")
            content = response.answer_json
            answer = parse(content, self._bounds, what=what) if content else None
            with understood(what):
                return take(answer if isinstance(answer, dict) else None)

        try:
            return await self._answer(request, taken)
        except grpc.aio.AioRpcError as error:
            raise _query_failure(error, what=what) from error
        except TimeoutError as error:
            raise Transient("ServerTimeout", f"{what}: Weaviate did not answer in time") from error

    async def _answer(
        self, request: cluster_pb2.QueryRequest, take: Callable[[cluster_pb2.QueryResponse | None], T]
    ) -> T:
        try:
            return take(await self._stub.Query(request, timeout=QUERY_TIMEOUT_SECONDS))
        except grpc.aio.AioRpcError as error:
            if self._large is None or not is_too_large(error):
                raise
        stub = cluster_pb2_grpc.ClusterServiceStub(self._large)
        async with asyncio.timeout(WAIT_SECONDS) as clock, turn(FOREIGN, self._whose):
            clock.reschedule(asyncio.get_running_loop().time() + TURN_SECONDS)
            return take(await stub.Query(request, timeout=TURN_SECONDS))

    async def _apply(
        self,
        kind: cluster_pb2.CommandKind.ValueType,
        arguments: bytes,
        *,
        what: str,
        timeout_seconds: float,
        collection: str = "",
    ) -> int:
        request = cluster_pb2.ApplyRequest(kind=kind, collection=collection, arguments=arguments)
        try:
            response = await self._stub.Apply(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise _apply_failure(error, what=f"{what} at {self.address}") from error
        if response is None:  # as in `_answer`
            raise Transient("RaftOutcomeUnknown", f"{what} at {self.address}: the answer is no message of raft's")
        return int(response.raft_index)


def watched(raft: Raft, looker: Looker, *, patience_seconds: float | None = None) -> Raft:
    """The same client, which from here on believes no server that has not replayed its log."""
    raft.watch = LogWatch(looker, patience_seconds=patience_seconds)
    return raft


async def by_one_leader(raft: RaftClient, ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` comes to, whose questions to raft are answered by one leader, who had replayed its log: two looks for
    all of them, where each question alone takes one. `SchemaCatchingUp` when there is no such leader now."""
    return await ask() if raft.watch is None else await raft.watch.settled(ask)


async def if_there(asked: Awaitable[T]) -> T | None:
    """What is told of a collection, None when there is none of that name."""
    try:
        return await asked
    except Permanent as error:
        if error.reason != "CollectionNotFound":
            raise
        return None


def _not_found(name: str) -> Permanent:
    return Permanent("CollectionNotFound", f"the cluster has no collection {name!r}")


def _query_failure(error: grpc.aio.AioRpcError, *, what: str) -> BackupError:
    if error.code() is grpc.StatusCode.NOT_FOUND or "not found" in text_of(error):
        return Permanent("NotFound", f"{what}: {text_of(error)}")
    return failure_of(error, what=what)


def _unknown_to_old_servers(error: Permanent) -> bool:
    return "unknown" in error.message and ("command" in error.message or "type" in error.message)


def _apply_failure(error: grpc.aio.AioRpcError, *, what: str) -> BackupError:
    """A refusal says why in its text only. A lost answer is not a refusal: the command may be in the log."""
    said = text_of(error)
    lowered = said.lower()
    if error.code() in (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
    ):
        return Transient(
            "RaftOutcomeUnknown", f"{what}: no answer ({said}); it may have happened, look before repeating"
        )
    if "alias" in lowered and "exist" in lowered and "creating alias" in what:
        return Permanent("AliasExists", f"{what}: {said}")
    if "already exists" in lowered or "found similar" in lowered:
        return Permanent("CollectionExists", f"{what}: {said}; a restore never overwrites, delete it first")
    if "not found" in lowered or "does not exist" in lowered:
        return Permanent("CollectionNotFound", f"{what}: {said}")
    return failure_of(error, what=what)


def _check_class(name: str, class_json: Json, state: Json) -> None:
    """Refuse what the server would dereference without looking: such a class breaks the index, or every node."""
    problems = []
    if class_json.get("class") != name:
        problems.append(f"class is {class_json.get('class')!r}")
    if not isinstance(class_json.get("invertedIndexConfig"), dict):
        problems.append("invertedIndexConfig is missing")
    replication = class_json.get("replicationConfig")
    factor = replication.get("factor") if isinstance(replication, dict) else None
    if not isinstance(factor, int) or factor < 1:
        problems.append("replicationConfig.factor is not at least 1")
    if not isinstance(class_json.get("properties", ""), list | None):  # null: of a class that was made without any
        problems.append("properties is no list")
    if not isinstance(state.get("physical"), dict):
        problems.append("the sharding state has no physical shards")
    if problems:
        raise Permanent("MalformedClass", f"collection {name!r} cannot be restored: {'; '.join(problems)}")
