"""The volume of a filesystem location: one of the kinds that several nodes can mount, with a Pod's own words.

Kinds that would hand something else to an agent (secret, configMap, projected, downwardAPI) or hold nothing that lasts
(emptyDir, ephemeral) have no place here. Strings that end up in a mount command are held to what such names can be.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from weaviate_backup.api.model import ApiModel, Name, dump
from weaviate_backup.api.patterns import FREE_TEXT
from weaviate_backup.api.rules import exactly_one, explained_by, rule

KINDS = ("persistentVolumeClaim", "nfs", "csi", "hostPath")
_NO_CLIMBING = explained_by(
    rule(
        r"!self.matches('(^|/)\\.\\.(/|$)')",
        "a volume's path is absolute and may not hold '..'; name the directory itself",
    )
)
_NAMES = explained_by(
    rule(
        r"self.all(name, name.matches('^[A-Za-z0-9][-._/A-Za-z0-9]{0,127}$'))",
        "a name of volumeAttributes has 1 to 128 letters, digits, '-', '_', '.' or '/', the first a letter or digit",
    )
)
Directory = Annotated[
    str, Field(min_length=1, max_length=1024, pattern=r"^/[^\x00-\x1f\x7f]*$", json_schema_extra=_NO_CLIMBING)
]
"""An absolute path outside the agent."""
Attributes = Annotated[
    dict[str, Annotated[str, Field(max_length=1024, pattern=FREE_TEXT)]],
    Field(max_length=32, json_schema_extra=_NAMES),
]


class HostPathType(StrEnum):
    """What must be there, or is made, on each node."""

    DIRECTORY = "Directory"
    DIRECTORY_OR_CREATE = "DirectoryOrCreate"


class ClaimVolume(ApiModel):
    """A PersistentVolumeClaim of the location's namespace, ReadWriteMany when agents run on several nodes."""

    claim_name: Name
    read_only: bool | None = None


class NfsVolume(ApiModel):
    """A directory that an NFS server exports."""

    server: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9:\[][-A-Za-z0-9._:%\]]*$")]
    """Host name or address."""
    path: Directory
    read_only: bool | None = None


class PublishSecretReference(ApiModel):
    name: Name


class CsiVolume(ApiModel):
    """A volume that a CSI driver makes for each pod. Refused unless the operator's settings list the driver."""

    driver: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$")]
    fs_type: Annotated[str | None, Field(max_length=64, pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]*$")] = None
    read_only: bool | None = None
    volume_attributes: Attributes = Field(default_factory=dict)
    """What the driver is told."""
    node_publish_secret_ref: PublishSecretReference | None = None
    """Secret that the kubelet hands to the driver."""


class HostPathVolume(ApiModel):
    """A directory of the node itself. Refused unless the operator's settings allow it."""

    path: Directory
    type: HostPathType | None = None


class Volume(ApiModel):
    """Exactly one kind."""

    model_config = ConfigDict(json_schema_extra=explained_by(exactly_one(KINDS, "the kind of volume")))

    persistent_volume_claim: ClaimVolume | None = None
    """A claim in the location's namespace, ReadWriteMany."""
    nfs: NfsVolume | None = None
    """An export of an NFS server."""
    csi: CsiVolume | None = None
    """A volume that a CSI driver makes for each pod; one of the drivers in operator.csiDrivers."""
    host_path: HostPathVolume | None = None
    """A directory of every node, such as one that the nodes mount themselves. Needs operator.allowHostPathVolumes."""

    @property
    def source(self) -> dict[str, dict[str, Any]]:
        """The volume as a Pod names it."""
        return {kind: _without_empty(fields) for kind, fields in dump(self).items()}

    @property
    def kind(self) -> str:
        """Of `KINDS`; empty when the object was stored before there was a choice, and holds none of them."""
        return next(iter(self.source), "")


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value != {}}
