"""Real Weaviate servers on loopback: one node, or three that form a cluster, on ephemeral ports.

`WeaviateCluster` starts the server binary with its data in a directory the caller gives, waits until raft is
synchronized and stops everything it started. `load` helpers speak REST. Nothing here knows what is tested.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from tests.ports import HOST, free_port, free_run

START_SECONDS = 180
STOP_SECONDS = 30
BATCH = 200


def server_binary(version: str | None = None) -> Path:
    """Of that version; without one `WEAVIATE_SERVER` may name another binary than the lab's."""
    named = os.environ.get("WEAVIATE_SERVER")
    if named and version is None:
        return Path(named)
    from e2e.lab.programs import program

    return program(f"weaviate-server-{version or '1.39.1'}")


@dataclass
class WeaviateNode:
    """One server process: where its ports and its data are. Each port of the cluster is as far from the node's others
    as on any other node, as where all nodes have the same ports."""

    name: str
    data_path: Path
    rest_port: int
    grpc_port: int
    gossip_port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        return HOST

    @property
    def data_port(self) -> int:
        return self.gossip_port + 1

    @property
    def raft_port(self) -> int:
        return self.gossip_port + 2

    @property
    def raft_rpc_port(self) -> int:
        return self.raft_port + 1

    @property
    def rest_url(self) -> str:
        return f"http://{HOST}:{self.rest_port}"

    @property
    def log_path(self) -> Path:
        return self.data_path.with_suffix(".log")


def _node(directory: Path, name: str) -> WeaviateNode:
    return WeaviateNode(
        name,
        directory / name,
        rest_port=free_port(),
        grpc_port=free_port(),
        gossip_port=free_run(4),
    )


class WeaviateCluster:
    """Nodes `weaviate-0` …, or of another `name`, that know each other. Use through `weaviate_cluster`."""

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 1,
        environment: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        version: str | None = None,
        name: str = "weaviate",
    ) -> None:
        self.nodes = [_node(directory, f"{name}-{i}") for i in range(nodes)]
        self._environment = environment or {}
        self._headers = headers or {}
        self._binary = server_binary(version)
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(total=120))
        return self._session

    async def start(self) -> None:
        for node in self.nodes:
            self.start_node(node)
        await self.wait_until_synchronized()

    def start_node(self, node: WeaviateNode) -> None:
        node.data_path.mkdir(parents=True, exist_ok=True)
        with node.log_path.open("ab") as log:
            node.process = subprocess.Popen(
                [str(self._binary), "--scheme", "http", "--host", HOST, "--port", str(node.rest_port)],
                env=self._variables(node),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _variables(self, node: WeaviateNode) -> dict[str, str]:
        several = len(self.nodes) > 1
        variables = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(node.data_path),
            "PERSISTENCE_DATA_PATH": str(node.data_path),
            "CLUSTER_HOSTNAME": node.name,
            "CLUSTER_GOSSIP_BIND_PORT": str(node.gossip_port),
            "CLUSTER_DATA_BIND_PORT": str(node.data_port),
            "CLUSTER_ADVERTISE_ADDR": HOST,
            "RAFT_PORT": str(node.raft_port),
            "RAFT_INTERNAL_RPC_PORT": str(node.raft_rpc_port),
            "RAFT_JOIN": ",".join(f"{each.name}:{each.raft_port}" for each in self.nodes),
            "RAFT_BOOTSTRAP_EXPECT": str(len(self.nodes)),
            "RAFT_BOOTSTRAP_TIMEOUT": str(START_SECONDS),
            "GRPC_PORT": str(node.grpc_port),
            "GO_PROFILING_DISABLE": "true",
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true",
            "DEFAULT_VECTORIZER_MODULE": "none",
            "ENABLE_MODULES": "",
            "DISABLE_TELEMETRY": "true",
            "DISK_USE_READONLY_PERCENTAGE": "0",
            "DISK_USE_WARNING_PERCENTAGE": "0",
            "LOG_LEVEL": "info",
        }
        if several:
            variables["CLUSTER_IN_LOCALHOST"] = "true"
            if node is not self.nodes[0]:
                variables["CLUSTER_JOIN"] = f"{HOST}:{self.nodes[0].gossip_port}"
        return variables | self._environment

    async def wait_until_synchronized(self) -> None:
        """Every node ready, one raft position. Fails with the tail of a log when a process ends instead."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await self._synchronized():
            for node in self.nodes:
                if node.process is None or node.process.poll() is not None:
                    raise RuntimeError(f"{node.name} ended:\n" + tail(node.log_path))
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError("the cluster did not synchronize:\n" + tail(self.nodes[0].log_path))
            await asyncio.sleep(0.1)

    async def _synchronized(self) -> bool:
        try:
            for node in self.nodes:
                async with self.session.get(f"{node.rest_url}/v1/.well-known/ready") as ready:
                    if ready.status != 200:
                        return False
            async with self.session.get(f"{self.nodes[0].rest_url}/v1/cluster/statistics") as answer:
                statistics = await answer.json()
        except (aiohttp.ClientError, TimeoutError):
            return False
        return bool(statistics.get("synchronized")) and len(statistics.get("statistics", [])) == len(self.nodes)

    async def stop_node(self, node: WeaviateNode, *, kill: bool = False) -> None:
        process = node.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def stop(self) -> None:
        await asyncio.gather(*(self.stop_node(node) for node in self.nodes))
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, *, node: int = 0) -> Any:
        """One REST call that must succeed; its JSON, if any."""
        async with self.session.request(method, self.nodes[node].rest_url + path, json=body) as answer:
            text = await answer.text()
            assert answer.status < 300, f"{method} {path}: {answer.status}: {text[:500]}"
            return await answer.json(content_type=None) if text else None

    async def create(self, collection: dict[str, Any]) -> None:
        await self.call("POST", "/v1/schema", collection)

    async def insert(self, objects: Sequence[dict[str, Any]]) -> None:
        """Objects as the batch route takes them, every one acknowledged."""
        for start in range(0, len(objects), BATCH):
            answers = await self.call("POST", "/v1/batch/objects", {"objects": list(objects[start : start + BATCH])})
            failed = [each["result"] for each in answers if (each.get("result") or {}).get("errors")]
            assert not failed, failed[0]

    async def wait_until_indexed(self) -> None:
        """No shard has vectors queued or an index being built."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            nodes = (await self.call("GET", "/v1/nodes?output=verbose"))["nodes"]
            shards = [shard for node in nodes for shard in node["shards"] or ()]
            if all(not shard["vectorQueueLength"] and shard["vectorIndexingStatus"] == "READY" for shard in shards):
                return
            assert asyncio.get_running_loop().time() < deadline, shards
            await asyncio.sleep(0.2)

    async def graphql(self, query: str) -> Any:
        answer = await self.call("POST", "/v1/graphql", {"query": query})
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]


def tail(path: Path, limit: int = 3000) -> str:
    return path.read_text(errors="replace")[-limit:] if path.exists() else "(no log)"


@asynccontextmanager
async def weaviate_cluster(
    directory: Path,
    *,
    nodes: int = 1,
    environment: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    version: str | None = None,
    name: str = "weaviate",
) -> AsyncIterator[WeaviateCluster]:
    """A running, synchronized cluster; stopped and gone afterwards."""
    cluster = WeaviateCluster(
        directory, nodes=nodes, environment=environment, headers=headers, version=version, name=name
    )
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
