"""WeaviateRestore: one restore into one cluster. It happens once; its spec never changes, but for `cancel`."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from weaviate_backup.api.config import DEFAULT_TIMEOUT, MAX_ADDRESS, BackupID, RestoreOptions
from weaviate_backup.api.model import ApiModel, CollectionName, Count, Message, NodeName, Text
from weaviate_backup.api.operation_spec import (
    AgentOptions,
    Authentication,
    Method,
    NamePatterns,
    ObjectReference,
    TargetReference,
    Timeout,
)
from weaviate_backup.api.patterns import WORD
from weaviate_backup.api.rules import matching, shaped_keys
from weaviate_backup.api.status import (
    MAX_COLLECTIONS,
    MAX_NAMES,
    MAX_NODES,
    Finding,
    OperationStatus,
    PlannedNode,
    Sha256,
)

_NODES = shaped_keys(WORD, 63, "nodeMapping names nodes: letters, digits, '-', '_' and '.', at most 63 of them")
_DIGEST = matching(
    "^[0-9a-f]{64}$",
    "source.backupSHA256 is a SHA-256 of 64 lower-case hexadecimal digits, as status.backupSHA256 shows it",
)


class RestorePhase(StrEnum):
    PENDING = "Pending"
    VALIDATING = "Validating"
    DOWNLOADING = "Downloading"
    APPLYING = "Applying"
    VERIFYING = "Verifying"
    ABORTING = "Aborting"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"

    @property
    def is_terminal(self) -> bool:
        return self in (RestorePhase.COMPLETED, RestorePhase.FAILED, RestorePhase.CANCELED)

    @property
    def is_cancelable(self) -> bool:
        """Until the cluster is changed."""
        return self in (RestorePhase.PENDING, RestorePhase.VALIDATING, RestorePhase.DOWNLOADING)


class RestoreSource(ApiModel):
    """Which backup: a WeaviateBackup here, or an identifier in a location (such as one that Weaviate itself wrote)."""

    backup_ref: ObjectReference | None = None
    """A completed WeaviateBackup of this namespace."""
    location_ref: ObjectReference | None = None
    """The WeaviateBackupLocation that holds backupID."""
    backup_id: BackupID | None = None
    """The backup's identifier in locationRef."""
    backup_sha256: Annotated[str | None, Field(max_length=64, pattern="^[0-9a-f]{64}$", json_schema_extra=_DIGEST)] = (
        None
    )
    """status.backupSHA256 of a backup, or of a dry run that was reviewed: nothing else than that very backup is
    restored. With backupRef, its status says so by itself."""


class RestoreSpec(ApiModel):
    """What to restore, and where to. Immutable, but for cancel."""

    target: TargetReference = TargetReference()
    source: RestoreSource
    include: NamePatterns = ()
    """Collections of the backup to restore, with the wildcards * and ?. Not together with exclude. Both absent: all."""
    exclude: NamePatterns = ()
    """Collections of the backup to leave out, with the wildcards * and ?. Not together with include."""
    config: RestoreOptions = RestoreOptions()
    node_mapping: Annotated[
        dict[str, NodeName], Field(default_factory=dict, max_length=MAX_NODES, json_schema_extra=_NODES)
    ]
    """Node names of the backup to node names of the target. Empty: they are the same."""
    overwrite_alias: bool = False
    """Let an alias of the backup replace one of the same name that points elsewhere."""
    dry_run: bool = False
    """Only validate: the plan says what would happen, nothing is written."""
    auth: Authentication | None = None
    """Needed when Weaviate asks for an API key."""
    agent: AgentOptions = AgentOptions()
    method: Method = Method.AUTO
    """Agent, which Auto is: our agents bring the files back. Server: Weaviate's own restore API does; its module of the
    location's kind must be enabled."""
    timeout: Timeout = DEFAULT_TIMEOUT
    """The operation is aborted after this long, such as 90m or 24h."""
    cancel: bool = False
    """Set to true to cancel the operation before Applying; cannot be taken back."""


MAX_ADDRESSES = 6
MAX_ACCESS_NAMES = 8
MAX_ACCESS_NAME = 128
"""Weaviate's own bound of a user's name; a role's is shorter."""
MAX_ASSIGNMENTS = 8
MAX_ASSIGNMENT = 256
"""Of both names and the arrow between them."""
MAX_SETTING = 128
AccessName = Annotated[str, Field(max_length=MAX_ACCESS_NAME)]
Assignment = Annotated[str, Field(max_length=MAX_ASSIGNMENT)]


class PlannedAddress(ApiModel):
    """An address in the module settings of collections."""

    address: Annotated[str, Field(max_length=MAX_ADDRESS)]
    setting: Annotated[str, Field(max_length=MAX_SETTING)]
    """The first that names it, such as text2vec-openai.baseURL."""
    collections_count: Count
    """How many collections have it."""


class RestorePlan(ApiModel):
    """What the restore would do, and every reason why it may not."""

    nodes: Annotated[tuple[PlannedNode, ...], Field(max_length=MAX_NODES)] = ()
    leader: NodeName | None = None
    """The node whose agent changes the schema."""
    collections: Annotated[tuple[CollectionName, ...], Field(max_length=MAX_COLLECTIONS)] = ()
    """Collections to restore; empty when `collectionsCount` is more than can be listed here."""
    collections_count: Count = 0
    collections_sha256: Sha256 | None = None
    """Of the sorted names, joined by newlines."""
    backup_version: Text | None = None
    """The Weaviate version that made the backup."""
    layout_version: Text | None = None
    verifiable: bool | None = None
    """Whether the backup has manifests, so that each byte is checked against a checksum."""
    signed_by: Sha256 | None = None
    """SHA-256 of the public key with which the backup's signature was checked; absent: none was."""
    bytes_required: Count = 0
    """On the fullest node of the plan; see nodes for each."""
    bytes_total: Count = 0
    """Of all nodes."""
    aliases: Annotated[tuple[CollectionName, ...], Field(max_length=MAX_NAMES)] = ()
    """Aliases to create."""
    aliases_replaced: Annotated[tuple[CollectionName, ...], Field(max_length=MAX_NAMES)] = ()
    """Aliases that will point elsewhere than now."""
    module_addresses: Annotated[tuple[PlannedAddress, ...], Field(max_length=MAX_ADDRESSES)] = ()
    """Where module settings of the collections would send texts and the target's own keys: the first of them."""
    module_addresses_count: Count = 0
    roles: Annotated[tuple[AccessName, ...], Field(max_length=MAX_ACCESS_NAMES)] = ()
    """The first of the roles that would take the place of the target's."""
    roles_count: Count = 0
    users: Annotated[tuple[AccessName, ...], Field(max_length=MAX_ACCESS_NAMES)] = ()
    """The first of the users that would take the place of the target's."""
    users_count: Count = 0
    assignments: Annotated[tuple[Assignment, ...], Field(max_length=MAX_ASSIGNMENTS)] = ()
    """The first of those who would be given roles, as "subject -> role", built-in roles first."""
    assignments_count: Count = 0
    refusals: Annotated[tuple[Finding, ...], Field(max_length=MAX_NAMES)] = ()
    """Every reason not to restore; a plan passes when there is none."""
    refusals_omitted: Count = 0


class RestoreStatus(OperationStatus):
    """How the restore stands."""

    phase: RestorePhase = RestorePhase.PENDING
    plan: RestorePlan | None = None
    method: Method | None = None
    """The method in use."""
    applier: NodeName | None = None
    """The node whose agent may have been told to change the schema."""
    aliases_kept: Annotated[tuple[CollectionName, ...], Field(max_length=MAX_NAMES)] = ()
    """Aliases of the backup that were left as the cluster had them."""
    raft_index: Count | None = None
    """Of the schema change that made the last collection known."""
    objects: Count | None = None
    """Objects in active shards after the restore, as the server counts them."""
    cancel_refused: Message | None = None
    """Why a cancellation came too late."""


class Restore(ApiModel):
    """A WeaviateRestore as read from the API server; metadata stays as it came."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: RestoreSpec
    status: RestoreStatus = RestoreStatus()
