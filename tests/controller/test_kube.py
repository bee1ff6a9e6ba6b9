"""A name is one part of a path, whatever it holds, and an answer is about the object that was asked for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.aio import client
from tests.ports import free_port
from yarl import URL

from weaviate_backup import answers, kube
from weaviate_backup.answers import API_SERVER, FOREIGN, turn
from weaviate_backup.api.resources import Resource
from weaviate_backup.controller.leases import lease_name
from weaviate_backup.core.read_budget import ReadBudget
from weaviate_backup.errors import InvalidInput, Permanent
from weaviate_backup.kube import BACKUPS, LEASES, PODS, SECRETS, Kube
from weaviate_backup.layout.json_bounds import MIB

RESOURCES = [found for found in vars(kube).values() if isinstance(found, Resource)]
LOOKALIKES = st.sampled_from(
    ["..", ".", "", "/", "%2e%2e", "%2F", "\\", "?", "#", "\x00", "\n", "a", "secrets", "victim", "é", "A", "-", "0"]
)
NAMES = st.text() | st.lists(LOOKALIKES, max_size=8).map("".join) | st.from_regex(r"[a-z0-9.-]{1,300}", fullmatch=True)


@given(st.sampled_from(RESOURCES), NAMES, NAMES, st.sampled_from([None, "status"]))
def test_a_path_has_the_parts_it_was_made_of_or_is_none(
    resource: Resource, namespace: str, name: str, subresource: str | None
) -> None:
    """Also once a client library has resolved and decoded it."""
    try:
        path = resource.path(namespace, name, subresource)
    except InvalidInput as error:
        assert error.reason == "NameInvalid"
        assert error.message.isprintable()
        return
    sent = URL("https://kubernetes" + path)
    assert (sent.raw_path, sent.query_string, sent.fragment) == (path, "", "")
    expected = [*resource.root.split("/"), "namespaces", namespace, resource.plural, name]
    assert sent.path.split("/") == expected + ([subresource] if subresource else [])


@given(NAMES)
def test_a_namespace_has_no_other_objects(namespace: str) -> None:
    try:
        path = SECRETS.path(namespace)
    except InvalidInput:
        return
    assert URL("https://kubernetes" + path).path == f"/api/v1/namespaces/{namespace}/secrets"


@pytest.mark.parametrize("name", ["prod-db", "weaviate.default.svc", "0", "a" * 253, "wvb-client-0a1b"])
def test_names_of_objects_are_taken(name: str) -> None:
    assert SECRETS.path("default", name) == f"/api/v1/namespaces/default/secrets/{name}"
    assert BACKUPS.path("default", name, "status").endswith(f"/weaviatebackups/{name}/status")


def test_a_lease_is_named_by_a_uid_alone() -> None:
    uid = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
    assert LEASES.path("default", lease_name(uid)).endswith(f"/leases/wvb-{uid}")
    for other in ("", "x/../../../kube-system/leases/kube-scheduler", f"{uid}\n", uid.upper(), "kube-scheduler"):
        with pytest.raises(InvalidInput, match="PlanUnreadable"):
            lease_name(other)


@asynccontextmanager
async def answering(body: dict[str, Any] | Callable[[web.Request], dict[str, Any]]) -> AsyncIterator[Kube]:
    """A server that says the same to everything, or what is made of a request."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(body(request) if callable(body) else body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner, port = web.AppRunner(app), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    settings = client.Configuration(host=f"http://127.0.0.1:{port}")
    try:
        async with Kube(client.ApiClient(configuration=settings)) as connected:
            yield connected
    finally:
        await runner.cleanup()


def whole(body: dict[str, Any]) -> dict[str, Any]:
    return body


def _secret(namespace: str | None, name: str) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name, "uid": "u", "resourceVersion": "1"}}


@pytest.mark.parametrize("said", [_secret("victim", "mine"), _secret("own", "other"), _secret(None, "mine"), {}])
async def test_an_answer_about_another_object_is_none(said: dict[str, Any]) -> None:
    body = _secret("own", "mine")
    async with answering(said) as connected:
        for call in (
            connected.get(SECRETS, "own", "mine"),
            connected.version(SECRETS, "own", "mine"),
            connected.create(SECRETS, body),
            connected.apply(SECRETS, body),
            connected.replace(SECRETS, body),
        ):
            with pytest.raises(Permanent, match="ForeignAnswer"):
                await call


async def test_a_list_is_of_one_namespace() -> None:
    async with answering({"items": [_secret("own", "mine"), _secret("victim", "theirs")]}) as connected:
        with pytest.raises(Permanent, match=r"ForeignAnswer.*victim/theirs"):
            await connected.pick(SECRETS, "own", whole)
    async with answering({"items": [_secret("own", "mine")]}) as connected:
        assert len(await connected.pick(SECRETS, "own", whole)) == 1


async def test_a_page_has_no_more_objects_than_were_asked_for() -> None:
    pods = [_secret("own", f"mine-{number}") for number in range(kube.LIST_CHUNK + 1)]
    async with answering({"items": pods}) as connected:
        with pytest.raises(Permanent, match=r"UnexpectedAnswer: list pods in own: .* 21 objects; 20 were asked for"):
            await connected.pick(PODS, "own", whole)


@pytest.mark.parametrize("page", [[], [_secret("own", "mine")] * 20], ids=["empty", "full"])
async def test_an_endless_list_ends(page: list[dict[str, Any]]) -> None:
    endless = {"items": page, "metadata": {"continue": "more"}}
    async with answering(endless) as connected:
        with pytest.raises(Permanent, match="TooManyObjects: list pods in own: at most 100 objects"):
            await connected.pick(PODS, "own", lambda _: None, budget=ReadBudget(objects=100))
        if page:
            assert len(await connected.pick(PODS, "own", whole, most=3)) == 3


async def test_a_list_keeps_what_is_looked_at_within_one_budget() -> None:
    """Each page is small; the annotations are read and let go, the tolerations are kept."""
    asked: list[web.Request] = []

    def answer(request: web.Request) -> dict[str, Any]:
        asked.append(request)
        spec = {"tolerations": [{"key": "k" * 50_000}], "nodeSelector": {"a": "b"}}
        pod = {**_secret("own", "mine"), "spec": spec}
        pod["metadata"]["annotations"] = {"a": "x" * 200_000}
        return {"items": [pod], "metadata": {"continue": str(len(asked)) if len(asked) % 40 else ""}}

    async with answering(answer) as connected:
        pods = await connected.pick(PODS, "own", whole)
        assert len(pods) == len(asked) == 40
        assert {tuple(pod["metadata"]) for pod in pods} == {("name", "namespace", "uid")}
        assert {tuple(pod["spec"]) for pod in pods} == {("tolerations",)}
        for budget, said in (
            (ReadBudget(kept_bytes=MIB), "1 MiB of what is needed of them"),
            (ReadBudget(read_bytes=MIB), "1 MiB of objects"),
            (ReadBudget(objects=39), "39 objects"),
        ):
            asked.clear()
            with pytest.raises(Permanent, match=f"TooManyObjects: list pods in own: at most {said} are read at a time"):
                await connected.pick(PODS, "own", whole, budget=budget)
            assert len(asked) < 41


async def test_objects_that_are_too_large_together_are_read_one_by_one() -> None:
    limits: list[str] = []

    def answer(request: web.Request) -> dict[str, Any]:
        limits.append(request.query["limit"])
        before = int(request.query.get("continue") or 0)
        after = min(before + int(limits[-1]), 4)
        pods = [_secret("own", f"pod-{number}") for number in range(before, after)]
        for pod in pods:
            pod["metadata"]["annotations"] = {"a": "x" * (5 * MIB)}
        return {"items": pods, "metadata": {"continue": str(after) if after < 4 else ""}}

    async with answering(answer) as connected:
        assert [pod["metadata"]["name"] for pod in await connected.pick(PODS, "own", whole)] == [
            f"pod-{n}" for n in range(4)
        ]
    assert limits == ["20", "1", "1", "1", "1"]


async def test_a_large_object_is_reduced_in_a_turn_that_is_none_of_foreign_servers() -> None:
    secret = {**_secret("own", "mine"), "data": {"a": "x" * MIB}}

    def keep(body: dict[str, Any]) -> tuple[int, int]:
        places = answers._lines[asyncio.get_running_loop()][API_SERVER].everybody
        assert places is not None
        return len(body["data"]["a"]), places._value

    async with answering(secret) as connected, turn(FOREIGN, "a"), turn(FOREIGN, "b"), asyncio.timeout(20):
        assert await connected.pick_one(SECRETS, "own", "mine", keep) == (MIB, 1)


async def test_the_object_that_was_asked_for_is_taken() -> None:
    async with answering(_secret("own", "mine")) as connected:
        assert await connected.get(SECRETS, "own", "mine") == _secret("own", "mine")
        assert await connected.version(SECRETS, "own", "mine") == "u/1"
        named_by_the_server = {"metadata": {"namespace": "own", "generateName": "mine-"}}
        assert await connected.create(SECRETS, named_by_the_server)
