"""Does by hand what kubelet and scheduler would: an agent for every agent pod, and its status.

Agents are scripted. Those of probes are real when a test says so, with their Secrets and volumes as a kubelet mounts
them, each on a node of its own.
"""

import asyncio
import base64
import contextlib
import itertools
from pathlib import Path
from typing import Any

from tests.api_server import ApiServer, Json
from tests.controller.real_worker import RealWorker
from tests.controller.scripted_agent import Script, ScriptedAgent

from weaviate_backup.core.orders import PROBING_WORKERS

ADDRESSES = (f"127.0.{first}.{second}" for first, second in itertools.product(range(7, 250), range(1, 250)))


class HandKubelet:
    """Serves one namespace while its context lasts."""

    def __init__(self, server: ApiServer, namespace: str, script: Script) -> None:
        self._server = server
        self._namespace = namespace
        self._script = script
        self.agents: dict[str, ScriptedAgent | RealWorker] = {}
        """By pod uid."""
        self.worker_directory: Path | None = None
        """Where real workers live; None: scripted ones."""
        self.held: dict[str, Json] = {}
        """Status of pods that must not start, by the agent's node name."""
        self.pods: dict[str, Json] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "HandKubelet":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        for agent in self.agents.values():
            await agent.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def kill(self, node: str) -> None:
        """The agent's process ends; its pod says so."""
        for uid, pod in list(self.pods.items()):
            if _variable(pod, "WVB_NODE") == node:
                await self.agents.pop(uid).stop()
                await self._say(pod, {"phase": "Failed", "reason": "Evicted", "message": "by the test"})

    async def _run(self) -> None:
        while True:
            path = f"/api/v1/namespaces/{self._namespace}/pods"
            query = {"labelSelector": "app.kubernetes.io/managed-by=weaviate-backup-operator"}
            _, listed = await asyncio.to_thread(self._server.request, "GET", path, query=query)
            for pod in listed["items"]:
                if pod["metadata"].get("deletionTimestamp"):
                    body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
                    await asyncio.to_thread(self._server.request, "DELETE", f"{path}/{pod['metadata']['name']}", body)
            found = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
            for uid in [uid for uid in self.agents if uid not in found]:
                await self.agents.pop(uid).stop()
            for uid, pod in found.items():
                held = self.held.get(_variable(pod, "WVB_NODE"))
                if uid not in self.pods and held is not None:
                    await self._say(pod, held)
                elif uid not in self.pods and await self._start(uid, pod):
                    self.pods[uid] = pod
            await asyncio.sleep(0.1)

    async def _start(self, uid: str, pod: Json) -> bool:
        """Whether it could be: a volume of a Secret that is not there keeps a pod from starting."""
        assert "app" not in pod["metadata"]["labels"]
        mounts = {each["name"]: each for each in pod["spec"]["volumes"]}
        files = await self._mount(
            [{"secret": {**mounts["tls"]["secret"], "name": mounts["tls"]["secret"]["secretName"]}}]
        )
        node, address = _variable(pod, "WVB_NODE"), next(ADDRESSES)
        agent: ScriptedAgent | RealWorker = ScriptedAgent(node, self._script)
        if self.worker_directory is not None and node in PROBING_WORKERS:
            credentials = await self._mount(mounts.get("credentials", {}).get("projected", {}).get("sources", []))
            authority = mounts.get("ca", {}).get("secret")
            ca = await self._mount([{"secret": {**authority, "name": authority["secretName"]}}] if authority else [])
            if credentials is None or ca is None:
                return False
            agent = RealWorker(self.worker_directory / uid, pod, credentials=credentials, ca=ca)
            await self._bind(pod, f"node-{node[-1]}")
        if files is None:
            return False
        await agent.start(address, files)
        self.agents[uid] = agent
        await self._say(pod, {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]})
        return True

    async def _mount(self, sources: list[Json]) -> dict[str, bytes] | None:
        """File name -> content, as in a projected volume; None while something is missing that is not optional."""
        files: dict[str, bytes] = {}
        for source in (each["secret"] for each in sources):
            path = f"/api/v1/namespaces/{self._namespace}/secrets/{source['name']}"
            status, secret = await asyncio.to_thread(self._server.request, "GET", path)
            data = secret.get("data") or {} if status == 200 else {}
            items = source.get("items") or [{"key": key, "path": key} for key in data]
            if not source.get("optional") and (status != 200 or any(item["key"] not in data for item in items)):
                return None
            files |= {item["path"]: base64.b64decode(data[item["key"]]) for item in items if item["key"] in data}
        return files

    async def _bind(self, pod: Json, node: str) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod['metadata']['name']}/binding"
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}, "target": target}
        status, answer = await asyncio.to_thread(self._server.request, "POST", path, body)
        assert status == 201, answer

    async def _say(self, pod: Json, status: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod['metadata']['name']}/status"
        content = "application/merge-patch+json"
        with contextlib.suppress(KeyError):
            await asyncio.to_thread(self._server.request, "PATCH", path, {"status": status}, content_type=content)


def _variable(pod: Json, name: str) -> str:
    environment = pod["spec"]["containers"][0]["env"]
    return str(next(entry["value"] for entry in environment if entry["name"] == name))
