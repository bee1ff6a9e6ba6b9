"""Status of a WeaviateBackupLocation: whether it can be used, and how that is known."""

from typing import Annotated

from pydantic import Field

from weaviate_backup.api.conditions import Condition
from weaviate_backup.api.model import ApiModel, Count, Message, Name, Text, Time
from weaviate_backup.api.status import Finding


class ProbeFinding(ApiModel):
    """One action of a probe."""

    action: Text
    """check, write, read, list, writeOnce, multipart, delete or share."""
    ok: bool
    message: Message = ""


class LocationProbe(ApiModel):
    """What one worker found when it tried the location."""

    worker: Name
    """The pod that tried."""
    node: Annotated[str | None, Field(max_length=253)] = None
    """The Kubernetes node it ran on."""
    identity: Annotated[str | None, Field(max_length=256)] = None
    """As whom it asked the store."""
    findings: Annotated[tuple[ProbeFinding, ...], Field(max_length=16)] = ()
    clock_skew_seconds: float | None = None
    """How far the store's clock is ahead of the worker's."""


class Capabilities(ApiModel):
    """What every worker that tried it could do; absent: not tried."""

    write: bool | None = None
    read: bool | None = None
    list: bool | None = None
    write_once: bool | None = None
    """An object that exists is never replaced by a conditional put."""
    multipart: bool | None = None
    """Large objects go up in parts."""
    delete: bool | None = None
    share: bool | None = None
    """The workers saw what each other wrote."""


class LocationStatus(ApiModel):
    """Whether the location can be used, and how that is known."""

    observed_generation: Count | None = None
    """The generation of spec that this status is about."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    kind: Text | None = None
    address: Annotated[str | None, Field(max_length=1024)] = None
    """Where it is, for people."""
    read_only: bool | None = None
    """The last probe asked nothing but to list and read."""
    last_probe_time: Time | None = None
    last_probe_seconds: float | None = None
    """How long the last probe took, its pods' start included."""
    probes: Annotated[tuple[LocationProbe, ...], Field(max_length=8)] = ()
    """The last probe, as seen by each worker that took part in it."""
    capabilities: Capabilities | None = None
    warnings: Annotated[tuple[Finding, ...], Field(max_length=8)] = ()
    """What does not keep the location from being used, but should be known."""
    secrets_version: Text | None = None
    """Changes with the Secrets that the last probe was made with; made of their versions, not of their content."""
