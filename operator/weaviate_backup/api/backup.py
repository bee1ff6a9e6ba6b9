"""WeaviateBackup: one backup of one cluster. Its spec never changes, but for `cancel`; a terminal phase is final."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from weaviate_backup.api.config import DEFAULT_TIMEOUT, BackupID, BackupOptions
from weaviate_backup.api.model import ApiModel, CollectionName, NodeName, Time
from weaviate_backup.api.operation_spec import (
    AgentOptions,
    Authentication,
    Method,
    NamePatterns,
    ObjectReference,
    TargetReference,
    Timeout,
)
from weaviate_backup.api.status import MAX_COLLECTIONS, MAX_NODES, OperationStatus, PlannedNode, Sha256


class DeletionPolicy(StrEnum):
    """What becomes of the stored backup when the object is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class BackupPhase(StrEnum):
    PENDING = "Pending"
    PREPARING = "Preparing"
    UPLOADING = "Uploading"
    FINALIZING = "Finalizing"
    ABORTING = "Aborting"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"

    @property
    def is_terminal(self) -> bool:
        return self in (BackupPhase.COMPLETED, BackupPhase.FAILED, BackupPhase.CANCELED)


class BackupSpec(ApiModel):
    """What to back up, and where to. Immutable, but for cancel."""

    target: TargetReference = TargetReference()
    location_ref: ObjectReference
    """The WeaviateBackupLocation to store it in."""
    backup_id: BackupID | None = None
    """Weaviate's identifier of the backup, unique in the location. Absent: the object's name."""
    include: NamePatterns = ()
    """Collections to back up, with the wildcards * and ?. Not together with exclude. Both absent: all."""
    exclude: NamePatterns = ()
    """Collections to leave out, with the wildcards * and ?. Not together with include."""
    config: BackupOptions = BackupOptions()
    auth: Authentication | None = None
    """Needed when Weaviate asks for an API key."""
    agent: AgentOptions = AgentOptions()
    method: Method = Method.AUTO
    """Agent, which Auto is: our agents read the shards. Server: Weaviate's own backup API does, for where agents cannot
    run; its module of the location's kind must be enabled."""
    timeout: Timeout = DEFAULT_TIMEOUT
    """The operation is aborted after this long, such as 90m or 24h."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """What becomes of the stored backup when this object is deleted: Retain or Delete."""
    cancel: bool = False
    """Set to true to cancel the operation; cannot be taken back."""

    def effective_backup_id(self, object_name: str) -> str:
        """The backup's identifier: as given, else the object's name."""
        return self.backup_id or object_name


class BackupPlan(ApiModel):
    """What was decided on leaving Pending; it never changes afterwards."""

    nodes: Annotated[tuple[PlannedNode, ...], Field(max_length=MAX_NODES)] = ()
    leader: NodeName
    """The node whose agent commits and whose descriptor names all collections."""
    collections: Annotated[tuple[CollectionName, ...], Field(max_length=MAX_COLLECTIONS)] = ()
    """Collections to freeze; empty when `collectionsCount` is more than can be listed here."""
    collections_count: int = Field(default=0, ge=0)
    collections_sha256: Sha256 | None = None
    """Of the sorted names, joined by newlines: proves a list that was read again."""


class BackupStatus(OperationStatus):
    """How the backup stands."""

    phase: BackupPhase = BackupPhase.PENDING
    plan: BackupPlan | None = None
    method: Method | None = None
    """The method in use."""
    dropped_collections: Annotated[tuple[CollectionName, ...], Field(max_length=MAX_COLLECTIONS)] = ()
    """Planned collections that no longer existed when their shards were frozen; the backup is without them."""
    wrote: bool = False
    """Bytes may be in the store: an abort has to take them back."""
    committer: NodeName | None = None
    """The node whose agent may have been told to commit. From then on the backup cannot be canceled."""
    signed_by: Sha256 | None = None
    """SHA-256 of the public key whose private one signed the backup; absent: it is not signed."""
    objects: Annotated[int | None, Field(ge=0)] = None
    """Objects of the completed backup in the store."""
    locked_until: Time | None = None
    """Until then the store lets nobody delete or replace an object of the backup (Object Lock)."""


class Backup(ApiModel):
    """A WeaviateBackup as read from the API server; metadata stays as it came."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: BackupSpec
    status: BackupStatus = BackupStatus()
