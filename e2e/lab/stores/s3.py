"""An S3 server: versitygw on a directory."""

from pathlib import Path

from e2e.lab.network import BRIDGE
from e2e.lab.processes import Processes
from e2e.lab.programs import program
from e2e.lab.stores.store import Store

_PORT = 7070
_BUCKET = "weaviate-backups"
_REGION = "us-east-1"
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "lab-access-key", "AWS_SECRET_ACCESS_KEY": "lab-secret-key-0123456789"}


def start_s3(directory: Path, processes: Processes) -> Store:
    """Objects are plain files in `<directory>/<bucket>`, easy to damage on purpose."""
    (directory / _BUCKET).mkdir()
    endpoint = f"{BRIDGE}:{_PORT}"
    processes.start(
        "s3",
        [program("versitygw"), f"--port={endpoint}", f"--region={_REGION}", "posix", directory],
        environment={
            "ROOT_ACCESS_KEY": _CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "ROOT_SECRET_KEY": _CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        },
    )
    return Store(
        kind="s3",
        location={
            "s3": {
                "bucket": _BUCKET,
                "endpoint": endpoint,
                "region": _REGION,
                "useSSL": False,
                "forcePathStyle": True,
                "credentialsSecretRef": {"name": "s3"},
            }
        },
        credentials=_CREDENTIALS,
        command_environment=_CREDENTIALS
        | {"LAB_S3_ENDPOINT": f"http://{endpoint}", "LAB_S3_BUCKET": _BUCKET, "AWS_REGION": _REGION},
        weaviate_environment={
            "BACKUP_S3_BUCKET": _BUCKET,
            "BACKUP_S3_ENDPOINT": endpoint,
            "BACKUP_S3_USE_SSL": "false",
            "AWS_REGION": _REGION,
        },
    )
