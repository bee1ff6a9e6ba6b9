"""From pydantic's JSON schema to the structural schema that the API server demands.

References are inlined, Optional collapses to its type, titles go, integers become int64, defaults of objects become
`{}` (the API server fills them from within). What has no structural counterpart is an error here, not a surprise there.
"""

from typing import Any

from pydantic import BaseModel

from weaviate_backup.api.rules import JsonSchema

_DROPPED = frozenset({"title", "$defs", "examples", "const", "prefixItems", "$schema", "additionalProperties"})
_ORDER = (
    "type",
    "description",
    "format",
    "default",
    "enum",
    "required",
    "x-kubernetes-validations",
    "items",
    "additionalProperties",
    "properties",
)
OPEN = "x-kubernetes-preserve-unknown-fields"
_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean"})


def spec_schema(model: type[BaseModel]) -> JsonSchema:
    """Schema of what users write: with defaults and rules, and a shape for every string."""
    schema = _structural_of(model)
    _check_shapes(schema, "")
    return schema


def status_schema(model: type[BaseModel]) -> JsonSchema:
    """Schema of what only we write: no defaults, which would appear out of nowhere, and nothing that others' words in
    it could break but its bounds."""
    schema: JsonSchema = _without(_structural_of(model), frozenset({"default", "pattern", "x-kubernetes-validations"}))
    return schema


def _structural_of(model: type[BaseModel]) -> JsonSchema:
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return structural(schema, definitions=schema.get("$defs", {}))


def structural(schema: JsonSchema, *, definitions: dict[str, JsonSchema] | None = None, path: str = "") -> JsonSchema:
    """One node of the schema and all below it; `path` only names the place in an error."""
    node = _collapsed(_inlined(schema, definitions or {}), definitions or {}, path)
    made = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in node:
        made["enum"] = [node["const"]]
    if "properties" in node:
        made["properties"] = {
            name: structural(child, definitions=definitions, path=f"{path}.{name}")
            for name, child in node["properties"].items()
        }
    elif isinstance(node.get("additionalProperties"), dict) and node["additionalProperties"]:
        made["additionalProperties"] = structural(
            node["additionalProperties"], definitions=definitions, path=f"{path}.*"
        )
    if "items" in node:
        made["items"] = structural(node["items"], definitions=definitions, path=f"{path}[]")
    _tidy_default(made)
    _tidy_bounds(made)
    _check(made, path)
    return {key: made[key] for key in sorted(made, key=_reading_order)}


def _reading_order(keyword: str) -> int:
    """What a reader looks for first stands first; what nests stands last."""
    return _ORDER.index(keyword) if keyword in _ORDER else _ORDER.index("required")


def _inlined(schema: JsonSchema, definitions: dict[str, JsonSchema]) -> JsonSchema:
    """What a reference points at, with what stands beside the reference (description, default) taking precedence."""
    if "$ref" not in schema:
        return schema
    target = _inlined(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def _collapsed(schema: JsonSchema, definitions: dict[str, JsonSchema], path: str) -> JsonSchema:
    """`anyOf: [X, null]` is an optional X: absence says it, so that null needs no place in the schema."""
    if "anyOf" not in schema or schema.get("x-kubernetes-int-or-string"):
        return schema
    members = [member for member in schema["anyOf"] if member.get("type") != "null"]
    if len(members) != 1:
        raise ValueError(f"{path or 'the root'} is a union, which no structural schema can express")
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**_inlined(members[0], definitions), **rest}


def _tidy_default(schema: JsonSchema) -> None:
    default = schema.get("default")
    if default is None or default == []:
        schema.pop("default", None)
    elif isinstance(default, dict):
        schema["default"] = {}


def _tidy_bounds(schema: JsonSchema) -> None:
    if schema.get("type") == "integer":
        schema["format"] = "int64"
    for bound, flag in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if flag in schema and not isinstance(schema[flag], bool):
            schema[bound] = schema[flag]
            schema[flag] = True


def _check(schema: JsonSchema, path: str) -> None:
    """Every node has a type, and everything that can grow has a bound: rules, etcd and our own memory depend on it.

    Unknown fields would be values of any shape and depth.
    """
    where = path or "the root"
    if OPEN in schema:
        raise ValueError(f"{where} keeps unknown fields; name each of them")
    if schema.get("x-kubernetes-int-or-string"):
        return
    kind = schema.get("type")
    if kind not in _TYPES:
        raise ValueError(f"{where} has no type")
    unbounded = {
        "string": "maxLength" not in schema and "enum" not in schema and "format" not in schema,
        "array": "maxItems" not in schema or "items" not in schema,
        "object": "maxProperties" not in schema and "properties" not in schema,
    }
    if unbounded.get(kind, False):
        raise ValueError(f"{where} is a {kind} without a bound")


def _check_shapes(schema: JsonSchema, path: str) -> None:
    """A string that people write becomes a part of a path, a key, a header: each says which it may be, a map's keys
    by a rule, which is all that a structural schema has for them."""
    is_text = schema.get("type") == "string" or schema.get("x-kubernetes-int-or-string")
    if is_text and not {"pattern", "enum", "format"} & schema.keys():
        raise ValueError(f"{path or 'the root'} is a string of any shape; give it a pattern")
    if "additionalProperties" in schema:
        if "x-kubernetes-validations" not in schema:
            raise ValueError(f"{path or 'the root'} is a map with keys of any shape; give it a rule")
        _check_shapes(schema["additionalProperties"], f"{path}.*")
    if "items" in schema:
        _check_shapes(schema["items"], f"{path}[]")
    for name, child in schema.get("properties", {}).items():
        _check_shapes(child, f"{path}.{name}")


def _without(schema: Any, keywords: frozenset[str]) -> Any:
    """The schema without those keywords; `properties` maps names, not keywords."""
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key in keywords:
            continue
        if key == "properties":
            made[key] = {name: _without(child, keywords) for name, child in value.items()}
        else:
            made[key] = _without(value, keywords)
    return made
