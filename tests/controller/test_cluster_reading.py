"""A cluster is read within one budget, whatever its pods name, and few are read at once, of one namespace one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from kubernetes.aio import client
from tests.answers.hostile_server import MIB, TRICKS, HostileServer, Peak
from tests.ports import HOST, free_port

from weaviate_backup.controller.cluster_view import ask_weaviate, read_cluster
from weaviate_backup.core.environment import SecretKey
from weaviate_backup.errors import BackupError
from weaviate_backup.kube import Kube

MAPS = 100
PEAK_MIB = 90
"""The server is in this process, too, and has each answer once more."""
Answer = Callable[[str, str, str], dict[str, object]]
"""Of a namespace, a plural and a name."""


@asynccontextmanager
async def api_server(answer: Answer) -> AsyncIterator[Kube]:
    async def say(request: web.Request) -> web.Response:
        _, _, path = request.path.partition("/namespaces/")
        namespace, plural, name = (*path.split("/"), "")[:3]
        return web.json_response(answer(namespace, plural, name))

    app = web.Application()
    app.router.add_get("/{path:.*}", say)
    runner, port = web.AppRunner(app), free_port()
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    try:
        async with Kube(client.ApiClient(configuration=client.Configuration(host=f"http://{HOST}:{port}"))) as kube:
            yield kube
    finally:
        await runner.cleanup()


def cluster_of(container: dict[str, object], *, data: dict[str, str], pods: int = 1) -> Answer:
    """What all maps and Secrets hold, and a container that all pods have."""
    inner = {"name": "weaviate", **container}

    def answer(namespace: str, plural: str, name: str) -> dict[str, object]:
        def named(name: str) -> dict[str, object]:
            return {"name": name, "namespace": namespace, "uid": name, "ownerReferences": [{"uid": "weaviate"}]}

        if plural == "statefulsets":
            return {"metadata": named(name), "spec": {"template": {"spec": {"containers": [inner]}}}}
        if plural == "pods":
            spec = {"containers": [inner], "nodeName": "node"}
            found = [{"metadata": named(f"weaviate-{n}"), "spec": spec, "status": {"podIP": HOST}} for n in range(pods)]
            return {"items": found}
        return {"metadata": named(name), "data": data}

    return answer


def from_all(kind: str) -> dict[str, object]:
    return {"envFrom": [{kind: {"name": f"settings-{number}"}} for number in range(MAPS)]}


async def test_maps_that_are_large_together_are_refused_before_they_are_all_read() -> None:
    answer = cluster_of(from_all("configMapRef"), data={"A": "x" * MIB})
    async with api_server(answer) as kube:
        peak = Peak()
        with pytest.raises(BackupError, match=r"TooManyObjects: get configmaps tenant/settings-\d+: at most 12 MiB of"):
            await read_cluster(kube, "tenant", "weaviate")
        assert peak.mib < PEAK_MIB


async def test_of_secrets_only_the_names_of_keys_are_kept() -> None:
    """And of 100 MiB no more than 32 are read."""
    data = {"CLUSTER_BASIC_AUTH_PASSWORD": "x" * (MIB // 4)}
    async with api_server(cluster_of(from_all("secretRef"), data=data)) as kube:
        peak = Peak()
        view = await read_cluster(kube, "tenant", "weaviate")
        assert peak.mib < PEAK_MIB
    assert view.cluster_auth is not None
    assert view.cluster_auth.password == SecretKey(f"settings-{MAPS - 1}", "CLUSTER_BASIC_AUTH_PASSWORD")
    data = {"CLUSTER_BASIC_AUTH_PASSWORD": "x" * MIB}
    async with api_server(cluster_of(from_all("secretRef"), data=data)) as kube:
        with pytest.raises(BackupError, match=r"TooManyObjects: get secrets tenant/settings-\d+: at most 32 MiB of"):
            await read_cluster(kube, "tenant", "weaviate")


async def test_few_clusters_are_read_at_once_and_of_a_namespace_one() -> None:
    """From the StatefulSet to the last of its maps."""
    under_way: set[str] = set()
    most = 0
    common = cluster_of({"envFrom": [{"configMapRef": {"name": "last"}}]}, data={"A": "x"})

    def answer(namespace: str, plural: str, name: str) -> dict[str, object]:
        nonlocal most
        if plural == "statefulsets":
            assert namespace not in under_way
            under_way.add(namespace)
            most = max(most, len(under_way))
        if plural == "configmaps":
            under_way.discard(namespace)
        return common(namespace, plural, name)

    async with api_server(answer) as kube, asyncio.TaskGroup() as group:
        for number in range(24):
            group.create_task(read_cluster(kube, f"tenant-{number % 8}", "weaviate"))
    assert not under_way
    assert 1 < most <= 4


async def test_of_a_namespace_few_ask_weaviate_at_once() -> None:
    """What a cluster is, and what was said of it so far, lies in memory meanwhile."""
    with HostileServer(TRICKS["silence"]) as server:
        common = cluster_of({"args": ["--port", str(server.port)]}, data={})
        async with api_server(common) as kube:
            views = [await read_cluster(kube, f"tenant-{number % 2}", "weaviate") for number in range(12)]
            asking = [asyncio.create_task(ask_weaviate(kube, view, None)) for view in views]
            await asyncio.sleep(2)
            assert len(server.requests) == 8
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
