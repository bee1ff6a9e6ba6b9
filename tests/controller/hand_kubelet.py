"""Does by hand what kubelet and scheduler would: a scripted agent for every agent pod, and its status."""

import asyncio
import base64
import contextlib
import itertools
from typing import Any

from tests.api_server import ApiServer, Json
from tests.controller.scripted_agent import Script, ScriptedAgent

ADDRESSES = (f"127.0.{first}.{second}" for first, second in itertools.product(range(7, 250), range(1, 250)))


class HandKubelet:
    """Serves one namespace while its context lasts."""

    def __init__(self, server: ApiServer, namespace: str, script: Script) -> None:
        self._server = server
        self._namespace = namespace
        self._script = script
        self.agents: dict[str, ScriptedAgent] = {}
        """By pod uid."""
        self.pods: dict[str, Json] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "HandKubelet":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for agent in self.agents.values():
            await agent.stop()

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
            found = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
            for uid in [uid for uid in self.agents if uid not in found]:
                await self.agents.pop(uid).stop()
            for uid, pod in found.items():
                if uid not in self.pods:
                    self.pods[uid] = pod
                    await self._start(uid, pod)
            await asyncio.sleep(0.1)

    async def _start(self, uid: str, pod: Json) -> None:
        assert "app" not in pod["metadata"]["labels"]
        volume = next(each["secret"] for each in pod["spec"]["volumes"] if each["name"] == "tls")
        path = f"/api/v1/namespaces/{self._namespace}/secrets/{volume['secretName']}"
        _, secret = await asyncio.to_thread(self._server.request, "GET", path)
        files = {item["path"]: base64.b64decode(secret["data"][item["key"]]) for item in volume["items"]}
        address = next(ADDRESSES)
        agent = ScriptedAgent(_variable(pod, "WVB_NODE"), self._script)
        await agent.start(address, files)
        self.agents[uid] = agent
        await self._say(pod, {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]})

    async def _say(self, pod: Json, status: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod['metadata']['name']}/status"
        content = "application/merge-patch+json"
        with contextlib.suppress(KeyError):
            await asyncio.to_thread(self._server.request, "PATCH", path, {"status": status}, content_type=content)


def _variable(pod: Json, name: str) -> str:
    environment = pod["spec"]["containers"][0]["env"]
    return str(next(entry["value"] for entry in environment if entry["name"] == name))
