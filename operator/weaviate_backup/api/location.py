"""WeaviateBackupLocation: where backups lie, and how they are reached. Exactly one kind is set."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from weaviate_backup.api.model import ApiModel, Name, NoOrName
from weaviate_backup.api.patterns import DATA_KEY, FREE_TEXT, IDENTIFIER, LINES, NO_OR_WORD, PLAIN
from weaviate_backup.api.rules import explained_by, rule, shaped
from weaviate_backup.api.volume import Volume

PATH_RULE = explained_by(
    rule(
        r"!self.matches('(^|/)\\.\\.(/|$)')",
        "path may not hold '..'; name the place itself",
    ),
    shape=PLAIN,
)
Path = Annotated[str, Field(max_length=512, json_schema_extra=PATH_RULE)]
CUSTOMER_KEY = "SSE_CUSTOMER_KEY"
"""The one name of a Secret's key that is taken for a customer's encryption key: no other value is sent as one."""
CREDENTIAL_KEYS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "gcs": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "azure": ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY"),
}
"""What is read of a Secret with credentials, by kind of store; nothing else of it is mounted."""
_HOST = explained_by(
    rule(
        "self.matches('^(https?://)?[^/?#@ ]+/?$')",
        "s3.endpoint is host[:port], with or without http:// or https:// in front, and without a path; the bucket and "
        "the path have fields of their own",
    ),
    shape=PLAIN,
)
_URL = explained_by(
    rule(
        "self.matches('^https?://[^/?#@ ]+(/[^?#@ ]*)?$')",
        "endpoint is a URL such as https://host:port, without a query or credentials; those belong into the Secret",
    ),
    shape=PLAIN,
)
_ACCOUNT = explained_by(
    rule(
        "self.matches('^[a-z0-9]{3,24}$')",
        "azure.account is a storage account's name: 3 to 24 lower case letters or digits",
    ),
    shape=PLAIN,
)
_BUCKET = explained_by(
    rule(
        "self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*$')",
        "bucket is the bucket's name alone, without a scheme and without a path; path is a field of its own",
    ),
    shape=PLAIN,
)
_CONTAINER = explained_by(
    rule(
        "self.matches('^[$a-z0-9][a-z0-9-]*$')",
        "azure.container is the container's name alone: lower case letters, digits and dashes; path is a field of its "
        "own",
    ),
    shape=PLAIN,
)
_NAMES = explained_by(
    rule(
        f"self.all(name, size(name) > 0 && size(name) <= 128 && name.matches(r'{FREE_TEXT}'))",
        "a name has 1 to 128 characters, does not begin with a dot, and holds no percent sign or backslash",
    )
)
Word = Annotated[str, Field(max_length=64, json_schema_extra=shaped(NO_OR_WORD))]
"""A region, a storage class."""
Endpoint = Annotated[str, Field(max_length=512, json_schema_extra=_URL)]
Tags = Annotated[
    dict[str, Annotated[str, Field(max_length=256, json_schema_extra=shaped(FREE_TEXT))]],
    Field(max_length=10, json_schema_extra=_NAMES),
]
"""Index tags of every object."""
Metadata = Annotated[
    dict[str, Annotated[str, Field(max_length=1024, json_schema_extra=shaped(FREE_TEXT))]],
    Field(max_length=32, json_schema_extra=_NAMES),
]
"""Metadata of every object, beside its content."""
_SCHEME_RULE = rule(
    "!has(self.endpoint) || !has(self.useSSL) || !self.endpoint.contains('://') || "
    "self.useSSL == self.endpoint.startsWith('https://')",
    "s3.endpoint's scheme and s3.useSSL contradict each other; leave useSSL away, or the scheme",
    field="useSSL",
)
_KEY_RULE = rule(
    "!has(self.customerKeySecretRef) || (!has(self.kmsKeyID) && self.algorithm == 'AES256')",
    "with customerKeySecretRef the algorithm is AES256, and there is no kmsKeyID; remove one of them",
)
CUSTOMER_KEY_CURE = f"only a key named {CUSTOMER_KEY} is sent to a store; give the Secret one with this value"
_KEY_NAME_RULE = rule(
    f"!has(self.customerKeySecretRef) || self.customerKeySecretRef.key == '{CUSTOMER_KEY}'",
    f"customerKeySecretRef.key must be {CUSTOMER_KEY}: {CUSTOMER_KEY_CURE}",
    field="customerKeySecretRef.key",
)


class SecretReference(ApiModel):
    name: Name


class SecretKeyReference(ApiModel):
    name: Name
    key: Annotated[str, Field(min_length=1, max_length=253, json_schema_extra=shaped(DATA_KEY))]


_PUBLIC_KEY = explained_by(
    rule(
        "self.matches('^([A-Za-z0-9+/]{43}=|-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=[:space:]]+-----END PUBLIC KEY-----"
        "[[:space:]]*)$')",
        "verify.publicKeys holds ed25519 public keys, in PEM (openssl pkey -pubout) or as base64 of their 32 bytes",
    ),
    shape=LINES,
)
PublicKey = Annotated[str, Field(max_length=256, json_schema_extra=_PUBLIC_KEY)]


class Signing(ApiModel):
    """Backups that are made here are signed: the Secret is given to the one agent that completes a backup."""

    key_secret_ref: SecretKeyReference
    """Ed25519 private key, in PEM (PKCS8, without a passphrase) or as base64 of its 32 bytes."""


class Verification(ApiModel):
    """Backups that are restored from here must be signed by one of these, if they are signed at all."""

    public_keys: Annotated[tuple[PublicKey, ...], Field(min_length=1, max_length=16)]
    """Ed25519 public keys, in PEM or as base64 of their 32 bytes; old ones stay for as long as their backups do."""
    require_signed: bool = False
    """Refuse backups without a signature, and method Server, which cannot hold to one. False: a warning."""


_KEYS_ONCE = explained_by(
    rule(
        "self.all(one, self.exists_one(other, other.key == one.key))",
        "credentialKeyRefs names a key twice; a credential comes from one Secret",
    ),
    rule(
        f"self.all(one, one.key in [{', '.join(map(repr, (*CREDENTIAL_KEYS['s3'], *CREDENTIAL_KEYS['azure'])))}])",
        "credentialKeyRefs names a key that no store takes; name the Secrets' keys as those of credentialsSecretRef",
    ),
)
CredentialKeys = Annotated[tuple[SecretKeyReference, ...], Field(max_length=3, json_schema_extra=_KEYS_ONCE)]
"""Credentials that lie in several Secrets: each is a key of its own, named as in credentialsSecretRef."""


class ServerSideEncryption(ApiModel):
    """What S3 is asked to do with every object: AES256, aws:kms with a key, or AES256 with a key of the customer."""

    model_config = ConfigDict(json_schema_extra=explained_by(_KEY_RULE, _KEY_NAME_RULE))

    algorithm: Annotated[str, Field(max_length=32, json_schema_extra=shaped(IDENTIFIER))] = "AES256"
    kms_key_id: Annotated[str | None, Field(max_length=2048, json_schema_extra=shaped(IDENTIFIER))] = None
    customer_key_secret_ref: SecretKeyReference | None = None
    """Key SSE_CUSTOMER_KEY of a Secret: S3 uses it but never keeps it (SSE-C), 32 bytes in base64. Whoever reads a
    backup needs it. It goes over TLS, to AWS and to hosts that the installer lists."""


class ObjectLockMode(StrEnum):
    """Who may shorten it: with GOVERNANCE an identity with a right of its own, with COMPLIANCE nobody."""

    GOVERNANCE = "GOVERNANCE"
    COMPLIANCE = "COMPLIANCE"


class ObjectLock(ApiModel):
    """S3 Object Lock: whoever gets hold of the agents' credentials, completed backups stay."""

    mode: ObjectLockMode = ObjectLockMode.GOVERNANCE
    """With COMPLIANCE not even the account's owner can delete a backup before its date."""
    days: Annotated[int, Field(ge=1, le=36500)]
    """Days from the completion of a backup for which each of its objects is kept."""


class S3Location(ApiModel):
    """S3, or any store that speaks its protocol."""

    model_config = ConfigDict(json_schema_extra=explained_by(_SCHEME_RULE))

    bucket: Annotated[str, Field(min_length=3, max_length=63, json_schema_extra=_BUCKET)]
    path: Path = ""
    """Prefix of all backups in the bucket, without leading or trailing slash. Empty: the bucket itself."""
    endpoint: Annotated[str | None, Field(max_length=512, json_schema_extra=_HOST)] = None
    """host[:port] of the store; a scheme in front decides what useSSL decides else. Absent: AWS's own of the region."""
    region: Word | None = None
    use_ssl: bool | None = None
    """Talk TLS to the endpoint. Absent: as the endpoint's scheme says, and TLS when it has none."""
    force_path_style: bool = False
    """Address the bucket in the path instead of the host name, as most self-hosted stores need."""
    credentials_secret_ref: SecretReference | None = None
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN if need be). Absent: the identity of
    the agents' service account or node (IRSA, pod identity, instance role)."""
    credential_key_refs: CredentialKeys = ()
    """Single keys of further Secrets, when the credentials lie in several; they go before credentialsSecretRef."""
    ca_secret_ref: SecretKeyReference | None = None
    """Certificate authority of the endpoint, PEM, when it is not a public one."""
    server_side_encryption: ServerSideEncryption | None = None
    storage_class: Word | None = None
    """Storage class of every object, such as STANDARD_IA. Absent: the bucket's default."""
    object_lock: ObjectLock | None = None
    """Keep the objects of completed backups from being deleted or replaced. The bucket must have Object Lock, and the
    identity the right s3:PutObjectRetention. A change concerns backups that are completed after it."""
    tags: Tags = Field(default_factory=dict)
    """Tags of every object. The identity then needs the right to tag."""
    metadata: Metadata = Field(default_factory=dict)
    """Metadata of every object: letters, digits and dashes in names, ASCII in values."""

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        if self.endpoint and "://" in self.endpoint:
            return self.endpoint.startswith("https://")
        return self.use_ssl is not False

    @property
    def host(self) -> str | None:
        """host[:port] of the endpoint, without a scheme."""
        return self.endpoint.rpartition("://")[2].rstrip("/") if self.endpoint else None


class GcsLocation(ApiModel):
    """Google Cloud Storage."""

    bucket: Annotated[str, Field(min_length=3, max_length=222, json_schema_extra=_BUCKET)]
    path: Path = ""
    """Prefix of all backups in the bucket, without leading or trailing slash. Empty: the bucket itself."""
    project: Annotated[str | None, Field(max_length=128, json_schema_extra=shaped(IDENTIFIER))] = None
    """Project of the bucket, as Weaviate is told it. No request of a backup depends on it."""
    endpoint: Endpoint | None = None
    """URL of another server that speaks the protocol. Tokens go over https, to Google and to hosts that the installer
    lists."""
    use_auth: bool = True
    """False: send no credentials at all."""
    credentials_secret_ref: SecretReference | None = None
    """Secret with GOOGLE_APPLICATION_CREDENTIALS, the JSON of a service account or of a workload identity federation.
    Absent: the identity of the agents' service account or node."""
    ca_secret_ref: SecretKeyReference | None = None
    """Certificate authority of the endpoint, PEM, when it is not a public one."""
    storage_class: Word | None = None
    """Storage class of every object, such as NEARLINE. Absent: the bucket's default."""
    kms_key_name: Annotated[str | None, Field(max_length=512, json_schema_extra=shaped(IDENTIFIER))] = None
    """Cloud KMS key of every object, projects/.../cryptoKeys/NAME. Absent: the bucket's default."""
    metadata: Metadata = Field(default_factory=dict)
    """Metadata of every object."""


class AzureLocation(ApiModel):
    """Azure Blob Storage."""

    container: Annotated[str, Field(min_length=3, max_length=63, json_schema_extra=_CONTAINER)]
    path: Path = ""
    """Prefix of all backups in the container, without leading or trailing slash. Empty: the container itself."""
    account: Annotated[str | None, Field(max_length=24, json_schema_extra=_ACCOUNT)] = None
    """Storage account, when no Secret names one: agents use their own identity, which needs to be allowed there."""
    endpoint: Endpoint | None = None
    """URL of the account's blobs. Absent: as the connection string says, or https://ACCOUNT.blob.core.windows.net.
    Tokens and shared access signatures go over https, to Azure and to hosts that the installer lists."""
    credentials_secret_ref: SecretReference | None = None
    """Secret with AZURE_STORAGE_CONNECTION_STRING (it wins), or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY; without
    the key, the identity of the agents is used. Absent: workload identity or managed identity, for `account`."""
    credential_key_refs: CredentialKeys = ()
    """Single keys of further Secrets, when the credentials lie in several; they go before credentialsSecretRef."""
    ca_secret_ref: SecretKeyReference | None = None
    """Certificate authority of the endpoint, PEM, when it is not a public one."""
    access_tier: Word | None = None
    """Access tier of every blob, such as Cool. Absent: the account's default."""
    tags: Tags = Field(default_factory=dict)
    """Index tags of every blob. The identity then needs the right to tag."""
    metadata: Metadata = Field(default_factory=dict)
    """Metadata of every blob: letters, digits and underscores in names, ASCII in values."""
    block_size_mib: Annotated[int | None, Field(ge=1, le=4000)] = None
    """Size of an uploaded block. An object under way holds those in flight in memory, and one more. Absent: 8."""
    concurrency: Annotated[int | None, Field(ge=1, le=64)] = None
    """Blocks of one object in flight. Absent: as many as fit into 24 MiB, and at least one."""


class FilesystemLocation(ApiModel):
    """A directory that every agent can reach."""

    path: Path = ""
    """Directory of all backups within the volume. Empty: the volume's root."""
    volume: Volume
    """One that all nodes share, in a Pod's words but without a name: persistentVolumeClaim, nfs, csi or hostPath."""

    @property
    def publish_secret(self) -> str | None:
        """Name of the Secret that a CSI driver is given."""
        csi = self.volume.csi
        return csi.node_publish_secret_ref.name if csi and csi.node_publish_secret_ref else None


class LocationSpec(ApiModel):
    """Where backups lie. Kind, bucket or container, path and server are fixed for good; the rest may change."""

    s3: S3Location | None = None
    gcs: GcsLocation | None = None
    azure: AzureLocation | None = None
    filesystem: FilesystemLocation | None = None
    service_account_name: NoOrName | None = None
    """Service account of the agents that use this location, for cloud identities. Their API token is never mounted."""
    signing: Signing | None = None
    """Sign backups, so that a restore can tell them from what others put into the location."""
    verify: Verification | None = None
    """Whose signatures restores trust. Absent: signatures are not looked at."""
    read_only: bool = False
    """Restores only: nothing is ever written to or deleted from this location."""
    suspend: bool = False
    """No new operation starts on this location, and it is not probed."""

    @property
    def kind(self) -> str:
        """`s3`, `gcs`, `azure` or `filesystem`; empty when the object slipped past validation without one."""
        return next((kind for kind in ("s3", "gcs", "azure", "filesystem") if getattr(self, kind) is not None), "")

    @property
    def credentials_secret(self) -> str | None:
        """Name of the Secret with the credentials, whatever the kind."""
        store = self.s3 or self.gcs or self.azure
        return store.credentials_secret_ref.name if store and store.credentials_secret_ref else None

    @property
    def credential_keys(self) -> tuple[SecretKeyReference, ...]:
        """Credentials that further Secrets hold, whatever the kind."""
        store = self.s3 or self.azure
        return store.credential_key_refs if store else ()

    @property
    def authority(self) -> SecretKeyReference | None:
        """Where the certificate authority of the endpoint is kept, whatever the kind."""
        store = self.s3 or self.gcs or self.azure
        return store.ca_secret_ref if store else None

    @property
    def customer_key(self) -> SecretKeyReference | None:
        """Where the customer's own encryption key is kept; only S3 takes one."""
        encryption = self.s3.server_side_encryption if self.s3 else None
        return encryption.customer_key_secret_ref if encryption else None

    @property
    def lock_days(self) -> int | None:
        """For how long objects of a completed backup are kept by the store itself; only S3 is asked to."""
        lock = self.s3.object_lock if self.s3 else None
        return lock.days if lock else None

    @property
    def secrets(self) -> dict[str, str]:
        """Every Secret that the location names, with the field that names it."""
        named = {
            "credentialsSecretRef": self.credentials_secret,
            "caSecretRef": self.authority.name if self.authority else None,
            "serverSideEncryption.customerKeySecretRef": self.customer_key.name if self.customer_key else None,
            "volume.csi.nodePublishSecretRef": self.filesystem.publish_secret if self.filesystem else None,
        }
        found: dict[str, str] = {}
        for field, name in named.items():
            if name:
                found.setdefault(name, f"spec.{self.kind}.{field}")
        for key in self.credential_keys:
            found.setdefault(key.name, f"spec.{self.kind}.credentialKeyRefs")
        return found

    @property
    def address(self) -> str:
        """Where it is, for people: `s3://bucket/path`."""
        match self:
            case LocationSpec(s3=S3Location(bucket=root, path=path)):
                return _address("s3", root, path)
            case LocationSpec(gcs=GcsLocation(bucket=root, path=path)):
                return _address("gs", root, path)
            case LocationSpec(azure=AzureLocation(container=root, path=path)):
                return _address("azure", root, path)
            case LocationSpec(filesystem=FilesystemLocation(path=path, volume=volume)):
                return _address("file", volume.kind, path)
            case _:
                return ""


def _address(scheme: str, root: str, path: str) -> str:
    return f"{scheme}://" + "/".join(part.strip("/") for part in (root, path) if part.strip("/"))
