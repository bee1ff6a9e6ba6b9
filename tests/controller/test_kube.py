"""A name is one part of a path, whatever it holds, and an answer is about the object that was asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.aio import client
from tests.ports import free_port
from yarl import URL

from weaviate_backup import kube
from weaviate_backup.controller.leases import lease_name
from weaviate_backup.errors import InvalidInput, Permanent
from weaviate_backup.kube import BACKUPS, LEASES, SECRETS, Kube, Resource

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
async def answering(body: dict[str, Any]) -> AsyncIterator[Kube]:
    """A server that says the same to everything."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body)

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
            await connected.list(SECRETS, "own")
    async with answering({"items": [_secret("own", "mine")]}) as connected:
        assert len(await connected.list(SECRETS, "own")) == 1


async def test_the_object_that_was_asked_for_is_taken() -> None:
    async with answering(_secret("own", "mine")) as connected:
        assert await connected.get(SECRETS, "own", "mine") == _secret("own", "mine")
        assert await connected.version(SECRETS, "own", "mine") == "u/1"
        named_by_the_server = {"metadata": {"namespace": "own", "generateName": "mine-"}}
        assert await connected.create(SECRETS, named_by_the_server)
