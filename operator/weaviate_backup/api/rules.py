"""Validation that explains itself: CEL rules (`x-kubernetes-validations`) with a message that names field and cure.

The API server's own words for a bound ("should be less than or equal to 80") say nothing of the cure, so a bound that
people run into becomes a rule instead. Rules are data here; the API server evaluates them.
"""

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from weaviate_backup.api.patterns import PLAIN

JsonSchema = dict[str, Any]
SchemaChange = Callable[[JsonSchema], None]


def rule(expression: str, message: str, *, field: str | None = None) -> dict[str, str]:
    """One rule; `field` is the path, below the validated object, that the error points at."""
    made = {"rule": expression, "message": message}
    return made if field is None else {**made, "fieldPath": f".{field}"}


def ranged(field: str, low: int, high: int, cure: str) -> SchemaChange:
    """Replace the schema's minimum and maximum by a rule that names the field, its range and the cure."""
    return explained_by(
        rule(f"self >= {low} && self <= {high}", f"{field} must be between {low} and {high}; {cure}"),
        replacing=("minimum", "maximum"),
    )


def matching(pattern: str, message: str) -> SchemaChange:
    """A pattern with a message of its own."""
    return explained_by(rule(f"self.matches('{pattern}')", message), replacing=("pattern",), shape=PLAIN)


def explained_by(*explanations: dict[str, str], replacing: Iterable[str] = (), shape: str = "") -> SchemaChange:
    """A change, for `json_schema_extra`, that puts the rules in the place of schema keywords.

    `shape`: a looser pattern beside them, which nobody breaks by accident: rules say nothing where a pattern fails.
    """

    def change(schema: JsonSchema) -> None:
        for keyword in replacing:
            schema.pop(keyword, None)
        schema["x-kubernetes-validations"] = list(explanations)
        if shape:
            schema["pattern"] = shape

    return change


def shaped(pattern: str) -> SchemaChange:
    """A pattern in the schema alone: an object that was stored under an older schema can still be read."""

    def change(schema: JsonSchema) -> None:
        schema["pattern"] = pattern

    return change


def shaped_keys(pattern: str, limit: int, message: str) -> SchemaChange:
    """A map's keys, which a structural schema cannot describe."""
    return explained_by(rule(f"self.all(key, size(key) <= {limit} && key.matches(r'{pattern}'))", message))


def exclusive_lists(first: str, second: str) -> dict[str, str]:
    """Not both lists, where an empty one counts as absent, as Weaviate counts it."""
    used = [f"has(self.{name}) && size(self.{name}) > 0" for name in (first, second)]
    return rule(f"!({' && '.join(used)})", f"set {first} or {second}, not both; remove one of them", field=second)


def exactly_one(names: Iterable[str], what: str) -> dict[str, str]:
    """Exactly one of the optional fields."""
    known = tuple(names)
    counted = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in known)
    return rule(f"{counted} == 1", f"set exactly one of {', '.join(known)}: {what}")


def frozen_fields(model: type[BaseModel], *, mutable: Iterable[str], cure: str) -> list[dict[str, str]]:
    """A transition rule per field that may never change, on the parent, so that unsetting does not get around it."""
    rules = []
    for name, field in model.model_fields.items():
        if name in set(mutable):
            continue
        alias = field.alias or name
        rules.append(rule(unchanged(model, name), f"spec.{alias} is immutable; {cure}", field=alias))
    return rules


def unchanged(model: type[BaseModel], name: str, *, within: str = "") -> str:
    """The expression that a field of the model is as it was; `within` is the path to the model, with a final dot."""
    field = model.model_fields[name]
    at = f"{within}{field.alias or name}"
    same = f"self.{at} == oldSelf.{at}"
    return same if _always_there(field) else f"has(self.{at}) == has(oldSelf.{at}) && (!has(self.{at}) || {same})"


def _always_there(field: FieldInfo) -> bool:
    """Whether the API server guarantees the field: it is required, or its schema has a default."""
    return field.is_required() or (field.default_factory is None and field.default not in (None, ()))
