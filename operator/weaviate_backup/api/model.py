"""What every model of a custom resource shares: spelling, scalar types, and the way to API JSON and back.

Fields are snake_case here and camelCase in JSON, with Kubernetes' spelling of initialisms (`backupID`, `useSSL`,
`blockSizeMiB`). Reading is lenient, so that an object of a newer schema can be read; strictness is the API server's.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from weaviate_backup.api import patterns
from weaviate_backup.api.rules import shaped
from weaviate_backup.errors import excerpt

_INITIALISMS = {"id": "ID", "uid": "UID", "ssl": "SSL", "mib": "MiB", "sha256": "SHA256"}


def api_name(field: str) -> str:
    """`block_size_mib` -> `blockSizeMiB`, as the field is written in a manifest."""
    first, *rest = field.split("_")
    return first + "".join(_INITIALISMS.get(word, word.capitalize()) for word in rest)


class ApiModel(BaseModel):
    """Immutable; unknown fields are ignored; attribute docstrings are what `kubectl explain` shows."""

    model_config = ConfigDict(
        alias_generator=api_name,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )


def dump(model: ApiModel) -> dict[str, Any]:
    """The model as API JSON: camelCase, only JSON types, nothing that is None."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def rfc3339(moment: datetime) -> str:
    """`2026-11-25T07:00:00Z`: UTC and whole seconds, as metav1.Time is written."""
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _shown(limit: int) -> Callable[[Any], Any]:
    """A status that holds what others said can always be written."""
    return lambda value: excerpt(value, limit) if isinstance(value, str) else value


def _held(number: int) -> int:
    if number > MOST:
        raise ValueError(f"is more than {MOST}")
    return number


Time = Annotated[
    AwareDatetime,
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An instant; naive ones are refused."""

Name = Annotated[
    str,
    Field(min_length=1, max_length=patterns.MAX_NAME_LENGTH, json_schema_extra=shaped(patterns.OBJECT_NAME)),
]
"""Name of a Kubernetes object."""
NoOrName = Annotated[
    str, Field(max_length=patterns.MAX_NAME_LENGTH, json_schema_extra=shaped(patterns.NO_OR_OBJECT_NAME))
]
"""Where an empty name is none."""
NodeName = Annotated[str, Field(min_length=1, max_length=63, json_schema_extra=shaped(patterns.WORD))]
"""Name of a Weaviate node, which is its pod's name."""
CollectionName = Annotated[str, Field(min_length=1, max_length=255)]
Text = Annotated[str, BeforeValidator(_shown(64)), Field(max_length=64)]
"""A short word or identifier in a status; what others said in it is cut and made printable."""
Message = Annotated[str, BeforeValidator(_shown(256)), Field(max_length=256)]
"""A sentence about one node or one finding in a status; what others said in it is cut and made printable."""
MOST = (1 << 63) - 1
"""What an integer of Kubernetes holds. Schemas cannot say it: there a maximum is a floating point number."""
Count = Annotated[int, Field(ge=0), AfterValidator(_held)]
"""A number of things or bytes."""
_DECIMAL = r"(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
_QUANTITY = rf"^(\+|-)?{_DECIMAL}(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?{_DECIMAL}))?$"
Quantity = Annotated[
    str | int,
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _QUANTITY,
            "maxLength": 64,
        }
    ),
]
"""A resource quantity, such as `500m` or `1Gi`."""
