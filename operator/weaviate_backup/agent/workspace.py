"""What every step works with: the order, the settings, the journal, and where things of this operation are.

A value with a few openers; it decides nothing. Credentials are read from their files each time a store is asked for, so
that a rotated Secret is used; a store lasts as long as they do.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from weaviate_backup.agent.cgroup import available_cpus, stream_count, worker_count
from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.mounted import read_authority, read_secret
from weaviate_backup.api.location import CUSTOMER_KEY, SecretKeyReference
from weaviate_backup.beneath import Place, Root
from weaviate_backup.core.credential_reach import TrustedHosts
from weaviate_backup.core.session import (
    DATA_DIRECTORY,
    BackupOrder,
    RestoreOrder,
    SessionOrder,
    WeaviateEndpoint,
)
from weaviate_backup.core.signing import PUBLIC_KEYS_FIELD
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout.claims import Claim
from weaviate_backup.layout.plain_names import checked_name
from weaviate_backup.layout.signatures import key_id, load_public_keys, load_signing_key
from weaviate_backup.settings import AgentSettings
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.patience import USUAL, Patience
from weaviate_backup.storage.retry import Retrying
from weaviate_backup.stored.claiming import ClaimedPlace
from weaviate_backup.weaviate.probing import choose_driver
from weaviate_backup.weaviate.raft import RaftClient, watched
from weaviate_backup.weaviate.replayed_log import DataPorts
from weaviate_backup.weaviate.rpc import ClusterCredentials
from weaviate_backup.weaviate.shard_source import ShardSource

SIGNING_KEY = "key"
"""Name of the one file in the directory of the signing key."""
FROZEN = "frozen"
DOCUMENTS = "documents"
SCHEMA = "schema"
RESTORE = "restore"
LATE = "late"

Raft = TypeVar("Raft", bound=RaftClient)


@dataclass(frozen=True)
class Workspace:
    """One session's surroundings."""

    settings: AgentSettings
    order: SessionOrder
    journal: Journal
    _opened: dict[object, Retrying] = field(default_factory=dict, repr=False, compare=False)
    """At most one store, by the secrets that opened it."""

    @property
    def uid(self) -> str:
        return self.order.operation_uid

    @property
    def node(self) -> str:
        return self.order.node

    @property
    def backup_id(self) -> str:
        return self.order.backup_id

    @property
    def backup(self) -> BackupOrder:
        if not isinstance(self.order.work, BackupOrder):
            raise Permanent("StepNotApplicable", f"the session of {self.node} is no backup")
        return self.order.work

    @property
    def restore(self) -> RestoreOrder:
        if not isinstance(self.order.work, RestoreOrder):
            raise Permanent("StepNotApplicable", f"the session of {self.node} is no restore")
        return self.order.work

    @property
    def weaviate(self) -> WeaviateEndpoint:
        if self.order.weaviate is None:
            raise Permanent("StepNotApplicable", f"{self.node} has no Weaviate beside it")
        return self.order.weaviate

    @cached_property
    def data_root(self) -> Place:
        if self.settings.data_path is None:
            raise Permanent("StepNotApplicable", f"{self.node} has no data volume")
        return Root(self.settings.data_path).place

    @property
    def directory(self) -> Place:
        """All that this operation keeps on the volume."""
        return operation_directory(self.data_root, self.uid)

    def free_bytes(self) -> int:
        """What may be written to the data volume before Weaviate makes its shards read-only."""
        return self.data_root.free_bytes(full_percentage=self.weaviate.read_only_percentage or 100)

    @property
    def workers(self) -> int:
        """How many may compute at once."""
        return worker_count(self.order.cpu_percentage, available_cpus())

    @property
    def streams(self) -> int:
        """How many objects may be under way at once."""
        return stream_count(self.workers)

    def open_store(self, *, patience: Patience = USUAL) -> Retrying:
        """The location's store, with what the Secret holds now."""
        credentials = self.credentials()
        ca_pem = self.authority()
        secrets = (tuple(credentials.items()), ca_pem, patience)
        store = self._opened.get(secrets)
        if store is None:
            store = open_store(
                self.order.location,
                credentials=credentials,
                ca_pem=ca_pem,
                filesystem_root=self.settings.filesystem_root,
                patience=patience,
                trusted=TrustedHosts.parse(self.settings.trusted_store_hosts),
            )
            self._opened.clear()
            self._opened[secrets] = store
        return store

    def place_in(self, store: ObjectStore) -> ClaimedPlace:
        """Where this operation's backup lies, or is to lie."""
        whose = self.order.claimant
        claim = Claim(
            operation_uid=self.uid,
            backup_id=self.backup_id,
            cluster=whose.cluster,
            namespace=whose.namespace,
            name=whose.name,
        )
        return ClaimedPlace(store, claim, self.order.location.address)

    def credentials(self) -> dict[str, str]:
        """What the location's Secrets hold now, by key."""
        found, customer_key = read_secret(self.settings.credentials_directory), self.order.location.customer_key
        if customer_key is not None and CUSTOMER_KEY not in found:
            raise _missing_key(customer_key, "spec.s3.serverSideEncryption.customerKeySecretRef")
        return found

    def authority(self) -> bytes | None:
        """PEM of who signed the store's certificate, when the location names one."""
        location, found = self.order.location, read_authority(self.settings.ca_directory)
        if found is not None:
            return found
        if location.authority is not None:
            raise _missing_key(location.authority, f"spec.{location.kind}.caSecretRef")
        return None

    def signing_key(self) -> Ed25519PrivateKey | None:
        """What backups of the location are signed with; None where they are not. One nobody trusts is refused."""
        signing, verify = self.order.location.signing, self.order.location.verify
        if signing is None:
            return None
        path, reference = self.settings.signing_directory / SIGNING_KEY, signing.key_secret_ref
        if not path.is_file():
            raise _missing_key(reference, "spec.signing.keySecretRef")
        what = f"key {reference.key!r} of Secret {reference.name!r}, which spec.signing.keySecretRef names,"
        key = load_signing_key(path.read_bytes(), what=what)
        if verify and key_id(key.public_key()) not in load_public_keys(verify.public_keys, what=PUBLIC_KEYS_FIELD):
            raise Permanent(
                "SignerUnknown", f"{what} has a public key that is none of {PUBLIC_KEYS_FIELD}; add it there"
            )
        return key

    async def open_driver(self, operation_uid: str | None = None) -> ShardSource:
        """What this node's server is cut with, by this operation or a dead one; the caller closes it."""
        return await choose_driver(
            self.weaviate.host,
            self.weaviate.data_port,
            data_root=self.data_root,
            operation_uid=operation_uid or self.uid,
            server_version=self.order.server_version,
            credentials=self.cluster_credentials(),
        )

    def watched(self, raft: Raft) -> Raft:
        """The same client of this node's raft, which from here on believes no server that has not replayed its log."""
        where, credentials = self.weaviate, self.cluster_credentials()
        return watched(raft, DataPorts(self.node, where.host, where.data_port, credentials))

    def cluster_credentials(self) -> ClusterCredentials | None:
        """Of Weaviate's data port, when it asks for some."""
        secret = read_secret(self.settings.cluster_directory)
        username, password = secret.get("username", ""), secret.get("password", "")
        return ClusterCredentials(username, password) if username or password else None


def operation_directory(data_root: Place, operation_uid: str) -> Place:
    if operation_uid.startswith("."):
        raise Permanent("InvalidRequest", f"operation uid {operation_uid!r} is no directory name")
    return data_root / DATA_DIRECTORY / checked_name(operation_uid, what="the operation")


def _missing_key(reference: SecretKeyReference, field: str) -> Transient:
    """It may still be added; the volume then shows it."""
    return Transient(
        "SecretKeyNotFound", f"Secret {reference.name!r} has no key {reference.key!r}, which {field} names; add it"
    )
