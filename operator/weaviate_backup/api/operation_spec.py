"""Parts of a spec that backup and restore share: the target, its credentials, the agents."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from weaviate_backup.api.location import SecretKeyReference
from weaviate_backup.api.model import ApiModel, Name, Quantity
from weaviate_backup.api.rules import explained_by, rule


class Method(StrEnum):
    """Agent: our agents do the work. Server: Weaviate's own backup API does. Auto: Agent, never silently the other."""

    AUTO = "Auto"
    AGENT = "Agent"
    SERVER = "Server"


LabelText = Annotated[str, Field(max_length=317)]


class TargetReference(ApiModel):
    """The Weaviate cluster, in the object's own namespace."""

    stateful_set: Annotated[str, Field(min_length=1, max_length=253)] = "weaviate"
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

    requests: Annotated[dict[str, Quantity], Field(default_factory=dict, max_length=16)]
    limits: Annotated[dict[str, Quantity], Field(default_factory=dict, max_length=16)]


class AgentOptions(ApiModel):
    """How the operation's agents run. Node, user and tolerations are always those of the Weaviate pod."""

    resources: ResourceRequirements | None = None
    """Absent: 250m CPU and 256Mi memory requested, 1Gi memory at most."""
    priority_class_name: Annotated[str | None, Field(max_length=253)] = None
    """Absent: that of the Weaviate pod."""
    node_selector: Annotated[dict[str, LabelText], Field(default_factory=dict, max_length=32)]
    """Further labels that a node must have."""
    image_pull_secrets: Annotated[tuple[ObjectReference, ...], Field(max_length=16)] = ()


_POSITIVE = explained_by(
    rule("duration(self) > duration('0s')", "timeout must be longer than 0s; write it as 90m or 24h")
)
Timeout = Annotated[
    str, Field(min_length=2, max_length=32, pattern=r"^([0-9]+(ms|s|m|h))+$", json_schema_extra=_POSITIVE)
]
NamePattern = Annotated[str, Field(min_length=1, max_length=255)]
_IN_ALL = explained_by(
    rule(
        "self.map(name, size(name)).sum() <= 32768",
        "include and exclude may have 32768 characters each, in all; name several collections by a pattern with * or ?",
    )
)
NamePatterns = Annotated[tuple[NamePattern, ...], Field(max_length=1000, json_schema_extra=_IN_ALL)]
"""Names of collections; `*` stands for any characters, `?` for one."""
