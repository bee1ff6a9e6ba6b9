"""No string of a spec may be read as something else. Strings are found in the schemas: a new one cannot escape."""

from collections.abc import Iterator

import pytest
from tests.api.objects import PUBLIC_KEY, Json, manifest
from tests.api.strings import ITEM, KEY, Place, places, with_string
from tests.api_server import ApiServer

HOSTILE = ("../../x", "%2e%2e", "nul\x00", "a" * 10_240)
PLACES = places()


def test_every_string_has_a_shape_and_a_bound() -> None:
    for place in PLACES:
        schema = place.schema
        if place.path[-1] == KEY:
            assert "x-kubernetes-validations" in schema, place
            assert "maxProperties" in schema, place
        else:
            assert "enum" in schema or {"pattern", "maxLength"} <= schema.keys(), place
            assert "enum" in schema or schema["pattern"][0] + schema["pattern"][-1] == "^$", place


@pytest.mark.kubernetes
def test_a_real_api_server_refuses_what_is_no_name(api_server: ApiServer) -> None:
    """Each place with each value: refused, and because of that place."""
    cases = [(place, value) for place in PLACES for value in HOSTILE]
    wrong = [why for place, value in cases if (why := _why_wrong(api_server, place, value))]
    print(f"{len(PLACES)} strings, {len(cases)} objects, {len(wrong)} taken")
    assert wrong == []
    assert len(cases) > 300


@pytest.mark.kubernetes
def test_the_objects_are_right_but_for_that_string(api_server: ApiServer) -> None:
    """Else the refusals would say nothing."""
    for place, value in _harmless():
        status, answer = _create(api_server, place, value)
        assert (status, answer.get("message")) == (201, None), place


def _harmless() -> Iterator[tuple[Place, str]]:
    for place in PLACES:
        special = {"timeout": "1h", "endpoint": "https://abc", "method": "Agent", "algorithm": "AES256"}
        special |= {"backupSHA256": "0f" * 32, "publicKeys": PUBLIC_KEY}
        name, schema = next(part for part in reversed(place.path) if part != ITEM), place.schema
        if {"customerKeySecretRef", "credentialKeyRefs", "kmsKeyID"} & set(place.path):
            continue  # rules say what must stand beside them
        if schema.get("x-kubernetes-int-or-string"):
            yield place, "1"
        elif "enum" in schema:
            yield place, schema["enum"][0]
        else:
            yield place, special.get(name, "/abc" if schema.get("pattern", "").startswith("^/") else "abc")


def _why_wrong(server: ApiServer, place: Place, value: str) -> str:
    status, answer = _create(server, place, value)
    message = str(answer.get("message", ""))
    if status == 422 and place.field in message:
        return ""
    return f"{place} = {ascii(value)[:20]}: {status} {message[:200]}"


def _create(server: ApiServer, place: Place, value: str) -> tuple[int, Json]:
    body = manifest(place.kind, with_string(place, value))
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    return server.request("POST", server.path_of(body, collection=True), body, query=query)
