"""Every call to Weaviate's raft port, whatever answers there: a value, or one of our errors."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from tests.answers.test_clients_of_others import ARGUMENTS, calls_of
from tests.ports import HOST

from weaviate_backup.errors import BackupError
from weaviate_backup.weaviate.protocol import cluster_pb2
from weaviate_backup.weaviate.raft import RaftClient

WRONG: tuple[Any, ...] = (5, "x", "\ud800\x1b[2J", [1, None], {"b": 1}, {"b": {"Version": "y"}}, {"b": [7]}, True)
KEYS = ("Schema", "Classes", "State", "Aliases", "Class", "Version", "TenantsActivityStatus")
ANSWERS: dict[str, bytes] = {
    "no message": b"\xff" * 100,
    "no JSON": cluster_pb2.QueryResponse(answer_json=b"\xff\x00{").SerializeToString(),
    "a list": cluster_pb2.QueryResponse(answer_json=b"[1, null]").SerializeToString(),
    "deep": cluster_pb2.QueryResponse(answer_json=b"[" * 5000).SerializeToString(),
    "collections of other types": cluster_pb2.QueryResponse(
        answer_json=b'{"Schema": {"classes": [1, {"class": {}}]}}'
    ).SerializeToString(),
} | {
    f"{wrong!r}"[:30]: cluster_pb2.QueryResponse(
        answer_json=json.dumps(dict.fromkeys(KEYS, wrong)).encode()
    ).SerializeToString()
    for wrong in WRONG
}  # fmt: skip
RESTORED = {
    "class_json": {
        "class": "b", "invertedIndexConfig": {}, "replicationConfig": {"factor": "many"},
    },
    "state": {"physical": {}},
}  # fmt: skip


class _Foreign(grpc.GenericRpcHandler):
    """Answers every method with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.asked: list[str] = []
        self._answer = answer

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        async def answer(_: bytes, __: Any) -> bytes:
            self.asked.append(call.method)
            return self._answer

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def served(answer: bytes) -> AsyncIterator[tuple[int, _Foreign]]:
    server, foreign = grpc.aio.server(), _Foreign(answer)
    server.add_generic_rpc_handlers((foreign,))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield port, foreign
    finally:
        await server.stop(None)


@pytest.mark.parametrize("whose", ["", "a"], ids=["an agent", "the operator"])
@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_answer_to_every_call(answer: str, whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in RESTORED.items():
        monkeypatch.setitem(ARGUMENTS, name, value)
    calls = calls_of(RaftClient)
    assert len(calls) >= 8
    async with served(ANSWERS[answer]) as (port, foreign), RaftClient(HOST, port, whose=whose) as raft:
        for call in calls.values():
            try:
                await call(raft)
            except BackupError as error:
                assert all(each.isprintable() for each in error.message), repr(error.message)
                assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", error.reason)
        assert len(foreign.asked) >= len(calls) - 1
