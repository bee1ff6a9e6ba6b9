"""Parts of a status that backup and restore share. Every list and string is bounded: see `bounds` for the whole.

A status is for people and for the machine alike: what a machine must remember across restarts stands here, since it
has no other memory. What agents can be asked again (shards, files, chunks) does not.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from weaviate_backup.api.conditions import Condition
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.model import ApiModel, CollectionName, Count, Message, Name, NodeName, Text, Time

MAX_NODES = 64
MAX_NAMES = 64
"""Names shown in a status; the count beside them is always exact."""
MAX_COLLECTIONS = 1000
"""Collections of one operation that a plan lists by name; Weaviate's own default limit."""

Sha256 = Annotated[str, Field(max_length=64)]


class WeaviateStatus(StrEnum):
    """The words of Weaviate's own backup API."""

    STARTED = "STARTED"
    TRANSFERRING = "TRANSFERRING"
    TRANSFERRED = "TRANSFERRED"
    FINALIZING = "FINALIZING"
    CANCELLING = "CANCELLING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELED = "CANCELED"

    @property
    def is_terminal(self) -> bool:
        return self in (WeaviateStatus.SUCCESS, WeaviateStatus.FAILED, WeaviateStatus.CANCELED)


class ServerRequest(ApiModel):
    """Method Server: the request to Weaviate's own backup API, written before it is sent."""

    node: NodeName
    """The node that was asked, and coordinates the others."""
    process: Text
    """Which of its processes: the uid of its pod and how often it had restarted."""
    accepted: bool = False
    """Weaviate said that it began, or was seen at work."""


class NodePhase(StrEnum):
    """Where one node's part stands."""

    PENDING = "Pending"
    STARTING = "Starting"
    READY = "Ready"
    FREEZING = "Freezing"
    FROZEN = "Frozen"
    UPLOADING = "Uploading"
    UPLOADED = "Uploaded"
    VERIFYING = "Verifying"
    VERIFIED = "Verified"
    COMMITTING = "Committing"
    COMMITTED = "Committed"
    INSPECTING = "Inspecting"
    INSPECTED = "Inspected"
    DOWNLOADING = "Downloading"
    DOWNLOADED = "Downloaded"
    PLACING = "Placing"
    PLACED = "Placed"
    APPLYING = "Applying"
    APPLIED = "Applied"
    CONFIRMING = "Confirming"
    CONFIRMED = "Confirmed"
    RELEASING = "Releasing"
    RELEASED = "Released"
    FAILED = "Failed"
    UNREACHABLE = "Unreachable"


class Progress(ApiModel):
    """How far the bytes are. Totals are of source bytes, before compression."""

    percent: Annotated[int, Field(ge=0, le=100)] = 0
    bytes_total: Count = 0
    bytes_done: Count = 0
    bytes_reused: Count = 0
    """Of those done, bytes that an earlier attempt or backup had stored already."""
    bytes_stored: Count = 0
    """Bytes of the stored objects, after compression."""
    files_total: Count = 0
    files_done: Count = 0
    bytes_per_second: Count | None = None
    eta_seconds: Count | None = None
    """Seconds until the bytes are through, at the present rate."""


class NodeStatus(ApiModel):
    """One node's part."""

    name: NodeName
    pod: NodeName | None = None
    """The agent's pod."""
    session_id: Text | None = None
    """Changes when the agent started anew."""
    phase: NodePhase = NodePhase.PENDING
    bytes_total: Count = 0
    bytes_done: Count = 0
    bytes_reused: Count = 0
    bytes_stored: Count = 0
    files_total: Count = 0
    files_done: Count = 0
    shards: Count | None = None
    longest_halt_seconds: float | None = None
    """The longest time for which a shard of this node took no background work while it was frozen."""
    restarts: Count = 0
    """How often the agent was lost and went on."""
    attempts: Count = 0
    """Failed attempts at the present step, all of which may pass."""
    retry_time: Time | None = None
    """When the present step is ordered again."""
    silent_since: Time | None = None
    """Since when the agent does not answer; absent while it does."""
    manifest_sha256: Sha256 | None = None
    """Of the node's manifest, as the agent that uploaded it reported it."""
    verified_sha256: Sha256 | None = None
    """The same, as read back from the store by an agent that did not upload it."""
    reason: Text | None = None
    message: Message | None = None


class CollectionsStatus(ApiModel):
    """The collections that the operation covers."""

    count: Count = 0
    names: Annotated[tuple[CollectionName, ...], Field(max_length=MAX_NAMES)] = ()
    """The first of them, in order."""


class TenantsStatus(ApiModel):
    """Tenants of multi-tenant collections. Offloaded ones are not covered: their data is not on the nodes."""

    active: Count = 0
    inactive: Count = 0
    offloaded: Count = 0
    offloaded_names: Annotated[tuple[Annotated[str, Field(max_length=320)], ...], Field(max_length=MAX_NAMES)] = ()


class AccessStatus(ApiModel):
    """Roles and users that a backup holds or a restore put in place, counted; absent: none of the kind."""

    roles: Count | None = None
    """Roles that people made; built-in ones come from the server."""
    users: Count | None = None
    """Dynamic users."""


class Finding(ApiModel):
    """A cause or a caveat: one CamelCase word and a sentence."""

    reason: Annotated[Text, Field(min_length=1)]
    message: Message = ""


class PlannedNode(ApiModel):
    """A node as it was when the plan was made; a later difference is a finding, never a new plan."""

    name: NodeName
    pod: NodeName
    """The Weaviate pod."""
    pod_uid: Text
    ordinal: Count
    kubernetes_node: Name | None = None
    claim: Name | None = None
    """Its data volume's claim."""
    source_node: NodeName | None = None
    """Restore: the backup's node whose data it takes."""
    bytes_required: Count | None = None
    """Restore: bytes that must be free on its volume."""
    bytes_free: Count | None = None


class OperationStatus(ApiModel):
    """What backup and restore both report; `phase` is added by each."""

    observed_generation: Count | None = None
    """The generation of spec that this status is about."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    start_time: Time | None = None
    """When the operation left the queue."""
    completion_time: Time | None = None
    phase_start_time: Time | None = None
    """When the present phase began."""
    duration: Text | None = None
    """From start to completion, or until the last look, for people."""
    size: Text | None = None
    """Bytes stored (backup) or restored, for people."""
    backup_id: Annotated[str | None, Field(max_length=128)] = None
    backup_sha256: Sha256 | None = None
    """Tells the backup from any other, and from itself if somebody changes it: of its manifest.json, which covers all
    of it; of one that Weaviate made, of its descriptors. A restore may be bound to it."""
    weaviate_status: WeaviateStatus | None = None
    """The state in the words of Weaviate's own API."""
    server_version: Text | None = None
    """Of the target; its lowest node's, should they differ."""
    location: LocationSpec | None = None
    """The location as it was when the operation started, with the path that the operation uses."""
    location_uid: Text | None = None
    stateful_set_uid: Text | None = None
    agent_image: Annotated[str | None, Field(max_length=512)] = None
    attempt_id: Text | None = None
    """Claims the operation for one operator process; written once, before anything else happens."""
    progress: Progress | None = None
    nodes: Annotated[tuple[NodeStatus, ...], Field(max_length=MAX_NODES)] = ()
    collections: CollectionsStatus | None = None
    tenants: TenantsStatus | None = None
    access: AccessStatus | None = None
    longest_halt_seconds: float | None = None
    """The longest time for which any shard took no background work."""
    failure: Finding | None = None
    """Why the operation is aborting, failed or was canceled."""
    server_request: ServerRequest | None = None
    outcome: Text | None = None
    """What an aborting operation ends as: Failed or Canceled."""
    cleaned_up: bool = False
    """Its agents and their certificates are gone, and the StatefulSet is free for the next operation."""
    warnings: Annotated[tuple[Finding, ...], Field(max_length=16)] = ()
    """What a completed operation does not cover."""
