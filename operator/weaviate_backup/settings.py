"""Settings of the programs, read once from the environment in an entry point."""

import hashlib
import logging
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from weaviate_backup.core.credential_reach import TrustedHosts
from weaviate_backup.core.session import (
    AGENT_PORT,
    CA_MOUNT,
    CLUSTER_MOUNT,
    CREDENTIALS_MOUNT,
    FILESYSTEM_MOUNT,
    SIGNING_MOUNT,
    TLS_MOUNT,
)
from weaviate_backup.core.store_volume import VolumesAllowed

TALKATIVE = ("aiohttp", "azure", "boto3", "botocore", "google", "grpc", "kubernetes", "msal", "requests", "urllib3")
"""Libraries that tell of every request at INFO or DEBUG: with signatures, tokens and keys of customers."""


CLUSTER_AUTHORITY = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")


def quiet_libraries() -> None:
    """In every program, whatever its own level is."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def _hosts(text: str) -> str:
    TrustedHosts.parse(text)
    return text


HostList = Annotated[str, AfterValidator(_hosts)]
"""Names of hosts with commas between; `*.x` stands for all below x."""


class AgentSettings(BaseSettings):
    """What an agent's pod tells it. Everything about the operation itself comes with the session."""

    model_config = SettingsConfigDict(env_prefix="WVB_", frozen=True, extra="ignore")

    operation_uid: str = Field(min_length=1)
    """The one operation this process may serve."""
    node: str = Field(min_length=1)
    """Weaviate's node name, or a store worker's own."""
    port: int = AGENT_PORT
    data_path: Path | None = None
    """Weaviate's data root, at the same path as in its own container. None (or empty): a store worker."""
    tls_directory: Path = Path(TLS_MOUNT)
    credentials_directory: Path = Path(CREDENTIALS_MOUNT)
    ca_directory: Path = Path(CA_MOUNT)
    cluster_directory: Path = Path(CLUSTER_MOUNT)
    filesystem_root: Path = Path(FILESYSTEM_MOUNT)
    signing_directory: Path = Path(SIGNING_MOUNT)
    lease_seconds: int = Field(default=600, ge=1)
    """Until a session brings its own: the agent ends when nobody asked for this long."""
    trusted_store_hosts: HostList = ""
    """As the operator was told: where tokens and keys may go beside the providers' own hosts."""
    log_level: str = "INFO"

    @classmethod
    def from_environment(cls) -> "AgentSettings":
        """The settings of this process; an empty data path means none."""
        settings = cls()
        return settings.model_copy(update={"data_path": None}) if settings.data_path == Path() else settings


class OperatorSettings(BaseSettings):
    """What the operator's Deployment tells it."""

    model_config = SettingsConfigDict(env_prefix="WVB_", frozen=True, extra="ignore")

    namespace: str = Field(min_length=1)
    """The operator's own: plans and its own keys lie there."""
    agent_image: str = Field(min_length=1)
    agent_image_pull_policy: str = "IfNotPresent"
    watch_namespaces: str = ""
    """Comma-separated; empty: all namespaces."""
    health_port: int = 8080
    metrics_port: int = 8081
    """Of its own, since metrics name namespaces, clusters and locations: who may read them is a network's to say."""
    log_level: str = "INFO"
    agent_lease_seconds: int = Field(default=600, ge=30)
    """An agent that nobody asks for this long lets the server go. Longer than it takes until an operator whose node was
    lost is started on another one: 50 s until that is noticed, 300 s until its pods go, and its start."""
    probe_interval_seconds: int = Field(default=4 * 3600, ge=60)
    """How often a location that works is tried again."""
    trusted_store_hosts: HostList = ""
    """Stores that may be sent tokens, shared access signatures and customers' keys, beside the providers' own."""
    allow_host_path_volumes: bool = False
    """Filesystem locations may name a directory of the nodes, which agents then mount as root."""
    cluster_name: str = Field(default="", max_length=128)
    """Says in a store that clusters share whose a backup is; see `cluster`."""
    csi_drivers: str = ""
    """Comma-separated: whose inline volumes filesystem locations may name, with Secrets that the drivers are handed."""

    @property
    def namespaces(self) -> tuple[str, ...]:
        return _names(self.watch_namespaces)

    @cached_property
    def cluster(self) -> str:
        """This cluster's name for people; without one, what tells it from others: its authority's fingerprint."""
        if self.cluster_name or not CLUSTER_AUTHORITY.is_file():
            return self.cluster_name
        return "ca-" + hashlib.sha256(CLUSTER_AUTHORITY.read_bytes()).hexdigest()[:16]

    @property
    def volumes(self) -> VolumesAllowed:
        return VolumesAllowed(host_path=self.allow_host_path_volumes, csi_drivers=frozenset(_names(self.csi_drivers)))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
