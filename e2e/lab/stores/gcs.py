"""A server of Google Cloud Storage's protocol: fake-gcs-server on a directory. It asks for no credentials."""

from pathlib import Path

from e2e.lab.network import BRIDGE
from e2e.lab.processes import Processes
from e2e.lab.programs import program
from e2e.lab.stores.store import Store

_PORT = 7071
_BUCKET = "weaviate-backups"
_PROJECT = "lab"


def start_gcs(directory: Path, processes: Processes) -> Store:
    """A folder of the directory is a bucket. Weaviate's client knows such a server by a variable of its own."""
    (directory / _BUCKET).mkdir()
    address = f"{BRIDGE}:{_PORT}"
    processes.start(
        "gcs",
        [
            program("fake-gcs-server"), "-scheme=http", f"-host={BRIDGE}", f"-port={_PORT}", "-backend=filesystem",
            f"-filesystem-root={directory}", f"-public-host={address}", f"-external-url=http://{address}",
            "-log-level=warn",
        ],
    )  # fmt: skip
    return Store(
        kind="gcs",
        location={
            "gcs": {"bucket": _BUCKET, "project": _PROJECT, "endpoint": f"http://{address}", "useAuth": False},
        },
        weaviate_environment={
            "BACKUP_GCS_BUCKET": _BUCKET,
            "BACKUP_GCS_USE_AUTH": "false",
            "GOOGLE_CLOUD_PROJECT": _PROJECT,
            "STORAGE_EMULATOR_HOST": address,
        },
    )
