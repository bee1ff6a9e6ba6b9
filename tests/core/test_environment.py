"""A container's variables are read as Kubernetes makes them, and what must be read beside them is named."""

from typing import Any

import pytest

from weaviate_backup.core.environment import (
    SecretKey,
    Sources,
    argument_of,
    claim_names,
    config_map_names,
    number_of,
    read_environment,
    secret_names,
    text_of,
    weaviate_container,
)
from weaviate_backup.errors import Permanent

Json = dict[str, Any]


def reference(kind: str, name: str, key: str) -> Json:
    return {"valueFrom": {kind: {"name": name, "key": key}}}


CONTAINER: Json = {
    "name": "weaviate",
    "envFrom": [
        {"prefix": "WV_", "configMapRef": {"name": "general"}},
        {"configMapRef": {"name": "absent"}},
        {"prefix": "S_", "secretRef": {"name": "keys"}},
        {"secretRef": {"name": "more"}},
    ],
    "env": [
        {"name": "PLAIN", "value": "1"},
        {"name": "EMPTY"},
        {"name": "OF_MAP", **reference("configMapKeyRef", "other", "present")},
        {"name": "NOT_OF_MAP", **reference("configMapKeyRef", "other", "gone")},
        {"name": "SECRET", **reference("secretKeyRef", "auth", "password")},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "BOTH", "value": "$(PLAIN)-$(SECRET)-$(LATER)-$(WV_A)"},
        {"name": "LATER", "value": "x"},
    ],
    "command": ["/bin/weaviate", "--port", "$(PLAIN)"],
    "args": ["--scheme=https", "--host", "--read-timeout=60s=", "--write-timeout"],
}
SOURCES = Sources(
    config_maps={"general": {"A": "a", "B": "b"}, "other": {"present": "p"}},
    secret_keys={"keys": ("one", "two"), "more": ("three",)},
)


def test_every_source_of_variables_is_followed() -> None:
    assert read_environment(CONTAINER, SOURCES) == {
        "WV_A": "a",
        "WV_B": "b",
        "S_one": SecretKey("keys", "one"),
        "S_two": SecretKey("keys", "two"),
        "three": SecretKey("more", "three"),
        "PLAIN": "1",
        "EMPTY": "",
        "OF_MAP": "p",
        "SECRET": SecretKey("auth", "password"),
        "POD": "$(field:metadata.name)",
        "BOTH": "1-$(SECRET)-$(LATER)-a",
        "LATER": "x",
    }


def test_what_must_be_read_for_it_is_named() -> None:
    spec = {"containers": [CONTAINER]}
    assert config_map_names(spec) == {"general", "absent", "other"}
    assert secret_names(spec) == {"keys", "more"}
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data-0"}}, {"name": "e", "emptyDir": {}}]
    assert claim_names([{"spec": {"volumes": volumes}}, {"spec": {}}]) == {"data-0"}
    bare = {"containers": [{"name": "weaviate"}]}
    assert not config_map_names(bare) | secret_names(bare) | claim_names([])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("port", "1"), ("scheme", "https"), ("host", "--read-timeout=60s=")),
        *(("read-timeout", "60s="), ("write-timeout", None), ("por", None), ("origin", None)),
    ],
)
def test_an_argument_is_read_in_both_spellings(name: str, value: str | None) -> None:
    assert argument_of(CONTAINER, read_environment(CONTAINER, SOURCES), name) == value


def test_a_secret_is_no_text_and_text_no_number() -> None:
    found = read_environment(CONTAINER, SOURCES)
    assert [text_of(found, name) for name in ("PLAIN", "EMPTY", "SECRET", "NONE")] == ["1", None, None, None]
    assert [number_of(found, name) for name in ("PLAIN", "EMPTY", "LATER", "NONE")] == ["1", None, None, None]


def with_path(name: str) -> Json:
    return {"name": name, "env": [{"name": "OTHER"}, {"name": "PERSISTENCE_DATA_PATH"}]}


@pytest.mark.parametrize(
    ("containers", "chosen"),
    [
        ([{"name": "proxy"}, {"name": "weaviate"}], "weaviate"),
        ([with_path("db"), {"name": "weaviate"}], "weaviate"),
        ([{"name": "db"}], "db"),
        ([{"name": "proxy", "env": [{"name": "OTHER"}]}, {"name": "bare"}, with_path("db")], "db"),
    ],
)
def test_weaviates_container_is_told_from_others(containers: list[Json], chosen: str) -> None:
    assert weaviate_container({"containers": containers})["name"] == chosen


def test_containers_that_could_all_be_it_are_named() -> None:
    containers = [{"name": "a"}, {"name": "b", "env": [{"name": "OTHER"}]}]
    with pytest.raises(Permanent, match=r"ContainerNotFound: none of the containers \(a, b\)"):
        weaviate_container({"containers": containers})
    with pytest.raises(Permanent, match="ContainerNotFound"):
        weaviate_container({})
