"""The contract between the operator and an agent: what is ordered, and what is reported. These are the wire types.

One agent process serves one operation. It is told what the operation is (`SessionOrder`), then to take steps, one
command each. Every step is idempotent by operation and step: repeating a running or finished one changes nothing, a
failed one starts again. The report says all that is known; the operator never has to remember what it sent.

    PUT  /v1/session    SessionOrder  -> NodeReport   409 SessionConflict for another operation; a session that is put
                                                      again says where Weaviate is by now, and changes nothing else
    POST /v1/steps      StepCommand   -> NodeReport   409 OutOfOrder when a step before it is missing
    GET  /v1/report?after=R&wait_seconds=S  -> NodeReport   long poll: answers once `revision` differs from R
    errors: 4xx/5xx {"reason": …, "message": …}
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from weaviate_backup.api.config import CompressionLevel
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.model import CollectionName, Count

AGENT_PORT = 7443
DATA_DIRECTORY = ".weaviate-backup"
"""Our directory in a data root; one sub-directory per operation uid. Weaviate leaves dot directories alone."""
FILESYSTEM_MOUNT = "/var/lib/weaviate-backup/store"
"""Where a filesystem location's volume is mounted in an agent."""
CREDENTIALS_MOUNT = "/etc/weaviate-backup/credentials"
"""The location's Secret, one file per key, named as weaviate-helm names them; re-read whenever a store is opened."""
CA_MOUNT = "/etc/weaviate-backup/ca"
"""`ca.crt` of the location's caSecretRef, when it has one."""
CLUSTER_MOUNT = "/etc/weaviate-backup/cluster"
"""`username` and `password` of Weaviate's cluster basic authentication, when it has one."""
SIGNING_MOUNT = "/etc/weaviate-backup/signing"
"""`key` of the location's signing.keySecretRef; only where a backup is completed."""
TLS_MOUNT = "/etc/weaviate-backup/tls"
"""`ca.crt`, `tls.crt`, `tls.key` of this agent."""


READ_ONLY_PERCENTAGE = 90
"""Weaviate's own, unless DISK_USE_READONLY_PERCENTAGE says another."""
BELOW_READ_ONLY = "below DISK_USE_READONLY_PERCENTAGE of Weaviate"
Word = Annotated[str, Field(max_length=64)]
"""An identifier or a digest."""


class Wire(BaseModel):
    """Immutable; unknown keys of a newer peer are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class WeaviateEndpoint(Wire):
    """Where an agent finds the Weaviate of its node. `data_path` is the same in both containers."""

    host: str
    rest_port: int = 8080
    data_port: int = 7001
    raft_port: int = 8301
    data_path: str = "/var/lib/weaviate"
    read_only_percentage: int = Field(default=READ_ONLY_PERCENTAGE, ge=0, le=100)
    """Once more of the volume is in use, Weaviate makes all shards of the node read-only; 0: it never does."""


class BackupOrder(Wire):
    """`started_at` is the operation's start for every descriptor. The leader's descriptor names all collections.

    `nodes` are all nodes of the backup, in ordinal order.
    """

    kind: Literal["backup"] = "backup"
    started_at: datetime
    leader: str
    nodes: tuple[str, ...]
    collections: tuple[str, ...]
    chunk_size_bytes: int
    compression_level: CompressionLevel
    split_file_bytes: int = Field(default=1 << 30, ge=1)
    """Larger files are split over several chunks, where the server can read that."""


class RestoreOrder(Wire):
    """`source_node` is the node of the backup whose shards this agent brings back (None: this node holds none).

    `node_mapping` maps a backup's node names to the target's; empty means the same names. `roles` and `users`: those of
    the backup take the place of the target's.
    """

    kind: Literal["restore"] = "restore"
    source_node: str | None
    node_mapping: dict[str, str] = {}
    roles: bool = False
    users: bool = False


class StoreOrder(Wire):
    """Work on a location without a Weaviate node: probe, verify, inspect, and complete a backup in its leader's place.

    `leader`: of that backup, since whoever completes it names the same; earlier operators say none."""

    kind: Literal["store"] = "store"
    leader: str = ""


class Claimant(Wire):
    """Whose operation it is, for people who find what it left in a store that many share."""

    cluster: str = ""
    namespace: str = ""
    name: str = ""


class SessionOrder(Wire):
    """Everything an agent must know. Credentials come as files of the agent's pod, never through here."""

    operation_uid: str
    node: str
    """Weaviate's node name, or a store worker's own name."""
    backup_id: str
    location: LocationSpec
    server_version: str
    weaviate: WeaviateEndpoint | None
    claimant: Claimant = Claimant()
    cpu_percentage: int = 50
    lease_seconds: int = 600
    """When nobody asked for this long, the agent lets the server go and commits no more; what lies on the volume stays.
    It ends when no step is under way."""
    work: Annotated[BackupOrder | RestoreOrder | StoreOrder, Field(discriminator="kind")]


class Step(StrEnum):
    """In the order in which an operation takes them."""

    PROBE = "probe"
    MEET = "meet"
    FREEZE = "freeze"
    UPLOAD = "upload"
    VERIFY = "verify"
    COMMIT = "commit"
    DISCARD = "discard"
    INSPECT = "inspect"
    VACANCY = "vacancy"
    AUDIT = "audit"
    DOWNLOAD = "download"
    PLACE = "place"
    APPLY = "apply"
    CONFIRM = "confirm"
    RELEASE = "release"
    VACATE = "vacate"


class StepCommand(Wire):
    """One step to take.

    PROBE     write, read back, list, write once, send in parts and delete small objects of our own; one, the mark,
              stays for the other workers until RELEASE. A location that is read-only is listed and read
    MEET      look for the marks of `peers`, the other workers of the same probe: does everybody see the same store?
    FREEZE    claim the place in the store; refuse when it is another's or cannot be used. Then cut and link every local
              shard. The leader reads the schema before, once for all, and puts it into the store; the others take it
              from there, by `schema_sha256`, which the leader told
    UPLOAD    send chunks, the node manifest and the node descriptor of `collections` (those still alive everywhere)
    VERIFY    read every object of `verify_node` back from the store and compare it with its manifest; the agent that
              did not upload it does this
    COMMIT    check the node and shard sets, write the manifest, then backup_config.json. `verified` maps every node to
              the SHA-256 of its manifest as the verifying agents reported it
    DISCARD   delete what this operation wrote, unless backup_config.json exists
    INSPECT   read descriptors and manifests, look at this node's disk; writes nothing
    VACANCY   claim the place under the backup's identifier; refuse unless nothing lies there
    AUDIT     read a whole backup that has no manifests: descriptors, sets of nodes and shards, every chunk to its end;
              `collections` are those it must hold
    DOWNLOAD  bring the files of `collections` into our own directory, checked. Here, in APPLY and in CONFIRM
              `backup_sha256` is what INSPECT told: a backup that is another one by now is refused before it is used
    PLACE     rename them to where Weaviate takes them from, inodes recorded
    APPLY     one raft RESTORE_CLASS per collection, then aliases, then roles and users; one agent does this for all
    CONFIRM   prove that the files are where they belong, the shards are listed, and roles and users are the backup's
    RELEASE   remove everything of this operation from the volume, and a probe's mark, and let the server go; with
              `keep_placed` what was placed stays there, with the journal that knows it, for the next operation's sweep:
              raft may be about to take it
    VACATE    give the identifier in the store back, if nothing lies under it any more; by one agent, after all others
              have let go
    """

    operation_uid: str
    step: Step
    collections: tuple[str, ...] = ()
    verify_node: str | None = None
    verified: dict[str, str] = {}
    overwrite_alias: bool = False
    keep_placed: bool = False
    backup_sha256: str = ""
    schema_sha256: str = ""
    peers: tuple[str, ...] = ()


class StepPhase(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Failure(Wire):
    """Why a step failed. `transient`: sending the command again may help."""

    reason: str
    message: str
    transient: bool


class ProbeAction(StrEnum):
    """What a probe tries, in this order."""

    CHECK = "check"
    WRITE = "write"
    READ = "read"
    LIST = "list"
    WRITE_ONCE = "writeOnce"
    MULTIPART = "multipart"
    DELETE = "delete"
    LOCK = "lock"
    """Keep objects from being deleted, where the location asks for it."""
    SHARE = "share"
    """See what another worker wrote; tried by MEET."""


class Progress(Wire):
    """Of the step that moves bytes. `bytes_total` counts source bytes, before compression; reused ones are not sent."""

    bytes_total: Count = 0
    bytes_done: Count = 0
    bytes_reused: Count = 0
    bytes_stored: Count = 0
    """Bytes of stored objects, after compression."""
    files_total: Count = 0
    files_done: Count = 0


class Tried(Wire):
    """One action of a probe; `failure` None: it worked."""

    action: ProbeAction
    failure: Failure | None = None


class Probed(Wire):
    """Result of PROBE. `identity` says as whom the store was asked, without a secret; the clock is the store's."""

    tried: tuple[Tried, ...]
    identity: str = ""
    empty: bool | None = None
    """Of a read-only location: it holds nothing."""
    clock_skew_seconds: float | None = None
    """How far the store's clock is ahead of the worker's; None where that could not be seen."""


class AccessCounts(Wire):
    """How many roles that people made and dynamic users there are; None: none, nor an assignment of a built-in role."""

    roles: Count | None = None
    users: Count | None = None


class Surveyed(Wire):
    """The leader's FREEZE has read the schema: the SHA-256 of what all nodes take. It is told before the step ends."""

    sha256: Word


class Frozen(Wire):
    """Result of FREEZE. Collections that were gone are `missing`; tenants are counted, offloaded ones named (64)."""

    collections: tuple[CollectionName, ...]
    missing_collections: tuple[CollectionName, ...] = ()
    shards: Count
    bytes_total: Count
    files_total: Count
    longest_halt_seconds: Annotated[float, Field(ge=0)]
    tenants_active: Count = 0
    tenants_inactive: Count = 0
    tenants_offloaded: Count = 0
    schema_sha256: str = ""
    """Of the reading of the schema by which it froze."""
    tenants_offloaded_names: tuple[str, ...] = ()
    access: AccessCounts | None = None


class Uploaded(Wire):
    """Result of UPLOAD."""

    manifest_sha256: Word
    objects: Count
    bytes_stored: Count


class Verified(Wire):
    """Result of VERIFY for one node."""

    node: str
    manifest_sha256: Word
    objects: Count
    bytes_stored: Count


class Committed(Wire):
    """Result of COMMIT: the whole backup."""

    objects: Count
    bytes_stored: Count
    bytes_total: Count
    completed_at: datetime
    locked_until: datetime | None = None
    """Until then the store lets nobody delete or replace an object of the backup."""
    backup_sha256: Word = ""
    """Of `manifest.json` as the store gives it back; an older agent does not tell."""
    signed_by: Word = ""
    """Identifier of the key that it was signed with."""


class ModuleAddress(Wire):
    """Where module settings of collections send texts and the server's own keys."""

    address: str
    setting: str
    """The first that names it, such as `text2vec-openai.baseURL`."""
    collections: tuple[CollectionName, ...]


class BackupContents(Wire):
    """What INSPECT read from the store. `verifiable` is false for backups without our manifests."""

    server_version: str
    layout_version: str
    status: str
    leader: str
    nodes: tuple[str, ...]
    collections: tuple[CollectionName, ...]
    aliases: dict[str, str] = {}
    """alias -> collection"""
    nodes_of_collections: dict[str, tuple[str, ...]] = {}
    verifiable: bool
    bytes_total: Count
    problems: tuple[Failure, ...] = ()
    warnings: tuple[Failure, ...] = ()
    """What does not keep it from being restored, but should be known."""
    access: AccessCounts = AccessCounts()
    addresses: tuple[ModuleAddress, ...] = ()
    """In the module settings of collections."""
    roles: tuple[str, ...] = ()
    """The first of those that people made."""
    users: tuple[str, ...] = ()
    """The first of the dynamic ones."""
    assignments: tuple[str, ...] = ()
    """The first, as `subject -> role`: the only trace of a user of OIDC who is given a built-in role."""
    assignments_count: Count = 0
    sha256: Word = ""
    """Tells this backup from any other; empty while its documents cannot all be read."""
    node_manifests: dict[str, str] = {}
    """node -> SHA-256 of its manifest, as `manifest.json` has it."""
    signed_by: Word = ""
    """Identifier of the key whose signature was checked; empty: none was, `problems` and `warnings` say why."""


class Inspected(Wire):
    """Result of INSPECT. Sizes are of this node's part; the directories are those in the way of a restore."""

    contents: BackupContents
    bytes_required: Count
    bytes_free: Count
    directories_in_the_way: tuple[str, ...] = ()
    problems: tuple[Failure, ...] = ()
    roles_enabled: bool | None = None
    """Whether the target has role-based access control; None where nobody wants roles restored."""


class Audited(Wire):
    """Result of AUDIT: what was read. `warnings`: what the backup does not hold, and does not say so."""

    server_version: str
    nodes: tuple[str, ...]
    collections: tuple[CollectionName, ...]
    objects: Count
    bytes_stored: Count
    bytes_total: Count
    files: Count
    checksummed: bool
    """The compressed streams carry checksums of their own."""
    backup_sha256: Word = ""
    warnings: tuple[Failure, ...] = ()
    locked_until: datetime | None = None
    """Until then the store lets nobody delete or replace an object of the backup."""


class Applied(Wire):
    """Result of APPLY: the raft index after the last collection; aliases made and those left alone."""

    raft_index: Count
    collections: tuple[CollectionName, ...]
    aliases: tuple[CollectionName, ...] = ()
    aliases_kept: tuple[CollectionName, ...] = ()
    access: AccessCounts = AccessCounts()
    """Roles and users that took the place of the target's."""


class Confirmed(Wire):
    """Result of CONFIRM for this node. `objects` is what the server counts in active shards, None if it cannot yet."""

    collections: tuple[CollectionName, ...]
    shards: Count
    files: Count
    objects: Count | None = None
    late_writes_left: Count = 0
    """Shards, inactive or offloaded by now, whose writes during the backup's cut were not replayed."""
    late_writes_left_names: tuple[str, ...] = ()
    """The first of them, as `collection/shard`."""


class StepReport(Wire):
    """One step's state. `result` is set when done; `verify` steps are keyed by node in `NodeReport.verified`."""

    phase: StepPhase
    failure: Failure | None = None
    progress: Progress = Progress()


class NodeReport(Wire):
    """All that an agent knows. `session_id` is new with every agent process; `revision` grows with every change."""

    operation_uid: str | None
    session_id: Word
    node: str
    revision: Count
    steps: dict[Step, StepReport] = {}
    probed: Probed | None = None
    surveyed: Surveyed | None = None
    frozen: Frozen | None = None
    uploaded: Uploaded | None = None
    verified: dict[str, Verified] = {}
    committed: Committed | None = None
    inspected: Inspected | None = None
    audited: Audited | None = None
    applied: Applied | None = None
    confirmed: Confirmed | None = None
