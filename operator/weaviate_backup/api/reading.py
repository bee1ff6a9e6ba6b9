"""Objects as they come from the API server, which may have stored them under another schema than ours.

What a model cannot read, and a string that is not of its field's shape, is `InvalidInput` with field, value and cure.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError

from weaviate_backup.api.model import ApiModel, dump
from weaviate_backup.api.patterns import fits
from weaviate_backup.api.rules import JsonSchema
from weaviate_backup.api.structural import spec_schema
from weaviate_backup.errors import InvalidInput, excerpt

SPEC_INVALID = "SpecInvalid"
_AnyModel = TypeVar("_AnyModel", bound=ApiModel)


def read_object(model: type[_AnyModel], body: Any, *, where: str = "", cure: str) -> _AnyModel:
    """The object; raises `InvalidInput` for one that no schema of ours allows. `where`: what the body is, if a part."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in ((where,) if where else ()) + first["loc"])
        raise InvalidInput(
            SPEC_INVALID, f"{_said(field, first['input'])}: {excerpt(first['msg'], 120)}; {cure}"
        ) from None


def check_shapes(spec: ApiModel, *, where: str = "spec", cure: str) -> None:
    """Raises `InvalidInput` for the first string that is not as the schema of the spec says."""
    for field, value, pattern in _misshapen(_schema(type(spec)), dump(spec), where):
        raise InvalidInput(SPEC_INVALID, f"{_said(field, value)}, which does not match {pattern}; {cure}")


@cache
def _schema(model: type[ApiModel]) -> JsonSchema:
    return spec_schema(model)


def _misshapen(schema: JsonSchema, value: Any, field: str) -> Iterator[tuple[str, str, str]]:
    """Field, value and pattern of every string that does not fit."""
    pattern = schema.get("pattern", "")
    if isinstance(value, str) and pattern and not fits(pattern, value):
        yield field, value, pattern
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _misshapen(schema.get("items", {}), item, f"{field}[{number}]")
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for name, child in value.items():
            yield from _misshapen(known.get(name, others), child, f"{field}.{name}")


def _said(field: str, value: Any) -> str:
    """An address may hold a password, so it is not repeated."""
    if not isinstance(value, str) or "@" in value or "://" in value:
        return field
    return f"{field} is {excerpt(repr(value), 80)}"
