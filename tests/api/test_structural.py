"""Each construct of pydantic's schema that the API server would refuse, and what becomes of it."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from weaviate_backup.api.model import ApiModel, Quantity
from weaviate_backup.api.rules import shaped_keys
from weaviate_backup.api.structural import spec_schema, status_schema, structural


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(ApiModel):
    """Something inside."""

    size_bytes: Annotated[int, Field(gt=0)] = 1


class Outer(ApiModel):
    """A model with all constructs."""

    inner: Inner = Inner()
    """Named here."""
    maybe: Inner | None = None
    colour: Colour = Colour.RED
    kind: Literal["one"] = "one"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    names: Annotated[tuple[Annotated[str, Field(max_length=8, pattern="^[a-z]$")], ...], Field(max_length=4)] = ()
    amounts: Annotated[
        dict[str, Quantity], Field(default_factory=dict, max_length=4, json_schema_extra=shaped_keys("^a$", 1, "a"))
    ]


def properties(model: type[BaseModel] = Outer) -> dict[str, Any]:
    found: dict[str, Any] = spec_schema(model)["properties"]
    return found


def test_references_are_inlined_and_described_where_they_are_used() -> None:
    assert properties()["inner"] == {
        "type": "object",
        "description": "Named here.",
        "default": {},
        "properties": {
            "sizeBytes": {
                "type": "integer",
                "format": "int64",
                "default": 1,
                "minimum": 0,
                "exclusiveMinimum": True,
            }
        },
    }


def test_optional_is_its_type_and_has_no_default() -> None:
    assert properties()["maybe"]["type"] == "object"
    assert {"anyOf", "default", "nullable"}.isdisjoint(properties()["maybe"])


def test_enums_and_constants_are_enums() -> None:
    assert properties()["colour"]["enum"] == ["red", "blue"]
    assert properties()["kind"]["enum"] == ["one"]


def test_exclusive_bounds_are_flags() -> None:
    share = properties()["share"]
    assert (share["minimum"], share["exclusiveMinimum"]) == (0, True)
    assert (share["maximum"], share["exclusiveMaximum"]) == (1, True)


def test_empty_lists_and_maps_are_no_defaults() -> None:
    """A default would make `has(self.names)` true for everybody."""
    items = {"type": "string", "maxLength": 8, "pattern": "^[a-z]$"}
    assert properties()["names"] == {"type": "array", "maxItems": 4, "items": items}
    assert "default" not in properties()["amounts"]


def test_quantities_are_numbers_or_strings() -> None:
    amounts = properties()["amounts"]["additionalProperties"]
    assert amounts["x-kubernetes-int-or-string"] is True
    assert amounts["anyOf"] == [{"type": "integer"}, {"type": "string"}]


def test_titles_go_everywhere() -> None:
    assert "title" not in repr(spec_schema(Outer))


def test_a_status_has_no_defaults() -> None:
    assert "default" not in repr(status_schema(Outer))


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "string"}, "without a bound"),
        ({"type": "array", "items": {"type": "integer"}}, "without a bound"),
        ({"type": "object"}, "without a bound"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "without a bound"),
        ({"type": "object", "maxProperties": 1, "x-kubernetes-preserve-unknown-fields": True}, "keeps unknown fields"),
        ({"description": "anything"}, "has no type"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "is a union"),
    ],
)
def test_what_cannot_be_published_is_an_error(schema: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        structural({"type": "object", "properties": {"field": schema}})


class Loose(ApiModel):
    text: Annotated[str, Field(max_length=8)] = ""


class LooseItems(ApiModel):
    texts: Annotated[tuple[Annotated[str, Field(max_length=8)], ...], Field(max_length=4)] = ()


class LooseKeys(ApiModel):
    texts: Annotated[dict[str, Colour], Field(default_factory=dict, max_length=4)]


class LooseValues(ApiModel):
    texts: Annotated[
        dict[str, Annotated[str, Field(max_length=8)]],
        Field(default_factory=dict, max_length=4, json_schema_extra=shaped_keys("^a$", 1, "a")),
    ]


class Nested(ApiModel):
    inner: Loose = Loose()


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (Loose, "text is a string of any shape"),
        (LooseItems, r"texts\[\] is a string of any shape"),
        (LooseKeys, "texts is a map with keys of any shape"),
        (LooseValues, r"texts\.\* is a string of any shape"),
        (Nested, r"inner\.text is a string of any shape"),
    ],
)
def test_a_spec_has_no_string_of_any_shape(model: type[BaseModel], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        spec_schema(model)
    assert status_schema(model)["type"] == "object", "others' words stand in a status"
