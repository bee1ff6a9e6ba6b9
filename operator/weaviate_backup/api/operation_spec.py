"""Parts of a spec that backup and restore share: the target, its credentials, the agents."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from weaviate_backup.api.location import SecretKeyReference
from weaviate_backup.api.model import ApiModel, Name, NoOrName, Quantity
from weaviate_backup.api.patterns import COLLECTION_PATTERN, NO_OR_WORD, QUALIFIED_NAME
from weaviate_backup.api.rules import explained_by, rule, shaped, shaped_keys


class Method(StrEnum):
    """Agent: our agents do the work. Server: Weaviate's own backup API does. Auto: Agent, never silently the other."""

    AUTO = "Auto"
    AGENT = "Agent"
    SERVER = "Server"


_MAX_KEY_LENGTH = 253 + 1 + 63
_RESOURCES = shaped_keys(QUALIFIED_NAME, _MAX_KEY_LENGTH, "a resource is named as in a Pod: memory, example.com/device")
_LABELS = shaped_keys(QUALIFIED_NAME, _MAX_KEY_LENGTH, "a label is named as on a node: disk, example.com/disk")
LabelText = Annotated[str, Field(max_length=63, json_schema_extra=shaped(NO_OR_WORD))]
Quantities = Annotated[dict[str, Quantity], Field(default_factory=dict, max_length=16, json_schema_extra=_RESOURCES)]


class TargetReference(ApiModel):
    """The Weaviate cluster, in the object's own namespace."""

    stateful_set: Name = "weaviate"
    """Name of its StatefulSet."""


class ObjectReference(ApiModel):
    """An object of one of our kinds in the same namespace."""

    name: Name


class Authentication(ApiModel):
    """How the operator authenticates to Weaviate's REST API."""

    api_key_secret_ref: SecretKeyReference
    """Secret and key that hold an API key with rights to read the schema and the nodes' state."""


class ResourceRequirements(ApiModel):
    """Of the agent's container, as in a Pod."""

    requests: Quantities
    limits: Quantities


class AgentOptions(ApiModel):
    """How the operation's agents run. Node, user and tolerations are always those of the Weaviate pod."""

    resources: ResourceRequirements | None = None
    """Absent: 250m CPU and 256Mi memory requested, 1Gi memory at most."""
    priority_class_name: NoOrName | None = None
    """Absent: that of the Weaviate pod."""
    node_selector: Annotated[
        dict[str, LabelText], Field(default_factory=dict, max_length=32, json_schema_extra=_LABELS)
    ]
    """Further labels that a node must have."""
    image_pull_secrets: Annotated[tuple[ObjectReference, ...], Field(max_length=16)] = ()


_DURATION = "^([0-9]+(ms|s|m|h))+$"
_POSITIVE = explained_by(
    rule(
        f"!self.matches('{_DURATION}') || duration(self) > duration('0s')",
        "timeout must be longer than 0s; write it as 90m or 24h",
    )
)
"""An error within a rule would keep us from writing the status of an object that was stored before."""
Timeout = Annotated[str, Field(min_length=2, max_length=32, pattern=_DURATION, json_schema_extra=_POSITIVE)]
NamePattern = Annotated[str, Field(min_length=1, max_length=255, json_schema_extra=shaped(COLLECTION_PATTERN))]
_IN_ALL = explained_by(
    rule(
        "self.map(name, size(name)).sum() <= 32768",
        "include and exclude may have 32768 characters each, in all; name several collections by a pattern with * or ?",
    )
)
NamePatterns = Annotated[tuple[NamePattern, ...], Field(max_length=1000, json_schema_extra=_IN_ALL)]
"""Names of collections; `*` stands for any characters, `?` for one."""
