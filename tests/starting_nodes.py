"""What two nodes of a Weaviate tell of their positions in raft: real data ports, made-up positions."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from tests.ports import HOST, free_run

from weaviate_backup.weaviate import replayed_log
from weaviate_backup.weaviate.protocol import cluster_pb2
from weaviate_backup.weaviate.replayed_log import DataPorts, LogWatch, Statistics
from weaviate_backup.weaviate.rest import RestClient
from weaviate_backup.weaviate.rpc import ClusterCredentials

RAFT_PORT = 8300
NOTHING = cluster_pb2.QueryResponse().SerializeToString()
"""What raft answers to any question about what it does not know."""


class Nodes:
    """The data ports of two nodes of one address: `a` leads, `b` follows. What each tells, and how often it did."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self.told: Counter[str] = Counter()
        self.says: dict[str, dict[str, Any]] = {name: {"ready": True, "leaderId": "a", "name": name} for name in "ab"}
        self.raft: dict[str, dict[str, Any]] = {
            name: {"state": state, "term": "3", "appliedIndex": "7", "lastLogIndex": "7", "fsmPending": "0"}
            for name, state in (("a", "Leader"), ("b", "Follower"))
        }
        self.credentials: ClusterCredentials | None = None
        """What they ask for."""
        self.at_look: Callable[[], None] = lambda: None
        self.rests: list[RestClient] = []

    def lead_from(self, term: int) -> None:
        for each in self.raft.values():
            each["term"] = str(term)

    async def positions(self, request: web.Request) -> web.Response:
        """As REST has them of all nodes."""
        answers = [await self.statistics(name, request) for name in "ab"]
        return web.json_response({"statistics": [json.loads(answer.text or "") for answer in answers]})

    def by_rest(self, name: str = "a") -> LogWatch:
        """The same, of what REST tells."""
        self.rests.append(RestClient(f"http://{HOST}:{self.ports[name]}"))
        return LogWatch(Statistics(name, self.rests[-1]))

    def watch(self, name: str = "a", credentials: ClusterCredentials | None = None) -> LogWatch:
        return LogWatch(DataPorts(name, HOST, self.ports[name], credentials))

    async def statistics(self, name: str, request: web.Request) -> web.Response:
        if self.credentials and request.headers.get("Authorization") != self.credentials.header():
            return web.Response(status=401)
        self.told[name] += 1
        self.at_look()
        servers = [{"id": each, "address": f"{HOST}:{self._raft_port(each)}"} for each in "ab"]
        raft = self.raft[name] | {"latestConfiguration": servers}
        return web.json_response({"leaderAddress": f"{HOST}:{self._raft_port('a')}", "raft": raft} | self.says[name])

    def _raft_port(self, name: str) -> int:
        return RAFT_PORT + self.ports[name] - self.ports["a"]

    async def listen(self, name: str, port: int) -> web.AppRunner:
        application = web.Application()
        application.router.add_get("/nodes/statistics", partial(self.statistics, name))
        application.router.add_get("/v1/cluster/statistics", self.positions)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, HOST, port).start()
        self.ports[name] = port
        return runner


@pytest_asyncio.fixture
async def nodes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nodes]:
    monkeypatch.setattr(replayed_log, "CATCH_UP_SECONDS", 0.3)
    monkeypatch.setattr(replayed_log, "PAUSE_SECONDS", 0.01)
    nodes = Nodes()
    first = free_run(2)  # so that their raft ports are ports, too
    runners = [await nodes.listen(name, first + number) for number, name in enumerate("ab")]
    yield nodes
    for rest in nodes.rests:
        await rest.close()
    for runner in runners:
        await runner.cleanup()
