"""Stores of the lab: servers beside the nodes, and what tells Kubernetes and Weaviate about them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from e2e.lab.network import BRIDGE
from e2e.lab.processes import Processes
from e2e.lab.programs import program

S3_PORT = 7070
S3_BUCKET = "weaviate-backups"
S3_REGION = "us-east-1"
_S3_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "lab-access-key", "AWS_SECRET_ACCESS_KEY": "lab-secret-key-0123456789"}

KINDS = ("s3", "filesystem")
PLANNED_KINDS = ("gcs", "azure")
PROGRAMS = {"s3": ("versitygw",), "gcs": ("fake-gcs-server",), "azure": ("azurite",)}
"""What has to be built for a kind."""


class NotBuiltYet(Exception):
    """A kind of store that is known by name but has no server in the lab yet."""


def require_known(kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        if kind in PLANNED_KINDS:
            raise NotBuiltYet(f"the lab's {kind} store is not built yet; there are {', '.join(KINDS)}")
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of store; there are {', '.join((*KINDS, *PLANNED_KINDS))}")


@dataclass(frozen=True)
class Store:
    """What is known about a running store."""

    kind: str
    location: dict[str, Any]
    """Spec of its WeaviateBackupLocation."""
    credentials: dict[str, str] = field(default_factory=dict)
    """Content of its Secret."""
    command_environment: dict[str, str] = field(default_factory=dict)
    weaviate_environment: dict[str, str] = field(default_factory=dict)
    """Of Weaviate's native backup module, but for the credentials."""


class _StartStore(Protocol):
    def __call__(self, directory: Path, processes: Processes) -> Store: ...


def start_store(kind: str, *, lab_directory: Path, processes: Processes) -> Store:
    """Starts one store; its data lies in `LAB_DIR/stores/<kind>`."""
    directory = lab_directory / "stores" / kind
    directory.mkdir(parents=True)
    return _START[kind](directory, processes)


def _start_s3(directory: Path, processes: Processes) -> Store:
    """Objects are plain files in `<directory>/<bucket>`, easy to damage on purpose."""
    (directory / S3_BUCKET).mkdir()
    endpoint = f"{BRIDGE}:{S3_PORT}"
    processes.start(
        "s3",
        [
            program("versitygw"),
            f"--port={endpoint}",
            f"--region={S3_REGION}",
            "posix",
            directory,
        ],
        environment={
            "ROOT_ACCESS_KEY": _S3_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "ROOT_SECRET_KEY": _S3_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        },
    )
    return Store(
        kind="s3",
        location={
            "s3": {
                "bucket": S3_BUCKET,
                "endpoint": endpoint,
                "region": S3_REGION,
                "useSSL": False,
                "forcePathStyle": True,
                "credentialsSecretRef": {"name": "s3"},
            }
        },
        credentials=_S3_CREDENTIALS,
        command_environment=_S3_CREDENTIALS
        | {"LAB_S3_ENDPOINT": f"http://{endpoint}", "LAB_S3_BUCKET": S3_BUCKET, "AWS_REGION": S3_REGION},
        weaviate_environment={
            "BACKUP_S3_BUCKET": S3_BUCKET,
            "BACKUP_S3_ENDPOINT": endpoint,
            "BACKUP_S3_USE_SSL": "false",
            "AWS_REGION": S3_REGION,
        },
    )


def _start_filesystem(directory: Path, processes: Processes) -> Store:
    """A directory that every node sees, writable for any uid as a shared file system would be."""
    del processes
    directory.chmod(0o777)
    return Store(
        kind="filesystem",
        location={"filesystem": {"volume": {"hostPath": {"path": str(directory), "type": "Directory"}}}},
        weaviate_environment={"BACKUP_FILESYSTEM_PATH": "/var/lib/weaviate/backups"},
    )


_START: dict[str, _StartStore] = {"s3": _start_s3, "filesystem": _start_filesystem}
