"""What the API server may hold, read without harm: any depth, any metadata, any type."""

import json
from typing import Any

import pytest

from weaviate_backup.api.crd import definitions
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.location_status import LocationStatus
from weaviate_backup.api.reading import read_object
from weaviate_backup.api.stored_objects import MAX_DEPTH, brief, read_json, read_or_new
from weaviate_backup.errors import InvalidInput


def test_no_definition_keeps_unknown_fields() -> None:
    """The whole of them, status included: such a field would be of any kind, size and depth."""

    def walk(schema: Any, where: str) -> list[str]:
        if isinstance(schema, list):
            return [place for number, child in enumerate(schema) for place in walk(child, f"{where}[{number}]")]
        if not isinstance(schema, dict):
            return []
        open_here = {"x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"} & schema.keys()
        found = [place for name, child in schema.items() for place in walk(child, f"{where}.{name}")]
        return [where, *found] if open_here else found

    assert {name: walk(crd, "") for name, crd in definitions().items()} == {name: [] for name in definitions()}


@pytest.mark.parametrize("depth", [MAX_DEPTH, 5_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [('{"a\\"[":', "}"), ("[", "]"), ('[{"b":', "}]")])
def test_what_is_too_deep_is_null(depth: int, opening: str, closing: str) -> None:
    """All beside it is read, brackets and quotes in strings included."""
    text = f'{{"first":"]}}\\\\","deep":{opening * depth}1{closing * depth},"then":{{"last":[1]}}}}'
    found = read_json(text.encode())
    assert (found["first"], found["then"]) == ("]}\\", {"last": [1]})
    assert found["deep"]


def test_what_is_no_json_is_said_so() -> None:
    for text in (b"{", b"[" * 5_000, b"nothing"):
        with pytest.raises(ValueError, match=r"."):
            read_json(text)


def test_of_an_object_a_few_fields_are_kept() -> None:
    many = {f"a{number}": "x" * 100 for number in range(1_000)}
    kept = {"backup.weaviate.io/weaviatebackups-delete": "{}"}
    body = {
        "apiVersion": "v",
        "kind": "k",
        "metadata": {
            "name": "n",
            "namespace": "ns",
            "uid": "u",
            "generation": 3,
            "labels": {**many, "app.kubernetes.io/managed-by": "us"},
            "annotations": {**many, **kept},
            "finalizers": [f"a/b{number}" for number in range(1_000)],
            "ownerReferences": [{"uid": str(number), **many} for number in range(1_000)],
            "managedFields": [many],
        },
        "spec": many,
        "status": {"phase": "Pending", "observedGeneration": 2, "nodes": [many]},
    }
    found = brief(body)
    assert len(json.dumps(found)) < 4_000
    assert found["metadata"]["annotations"] == kept
    assert found["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "us"}
    assert found["metadata"]["finalizers"][:2] == ["a/b0", "a/b1"]
    assert found["status"] == {"phase": "Pending", "observedGeneration": 2}


def test_a_spec_that_cannot_be_read_names_its_field() -> None:
    with pytest.raises(InvalidInput) as refused:
        read_object(LocationSpec, {"s3": {"bucket": {"name": "secret-word"}}}, where="spec", cure="correct it")
    assert refused.value.reason == "SpecInvalid"
    assert refused.value.message.startswith("spec.s3.bucket: ")
    assert "secret-word" not in refused.value.message


def test_a_status_that_cannot_be_read_is_a_new_one() -> None:
    assert read_or_new(LocationStatus, {"conditions": 5}) == LocationStatus()
