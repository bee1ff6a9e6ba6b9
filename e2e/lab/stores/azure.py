"""A server of Azure Blob Storage's protocol: azurite on a directory."""

from base64 import b64encode
from pathlib import Path

from e2e.lab.network import BRIDGE
from e2e.lab.processes import Processes
from e2e.lab.programs import program
from e2e.lab.stores.store import Store

_PORT = 7072
_CONTAINER = "weaviate-backups"
_ACCOUNT = "lab"
_KEY = b64encode(b"the key of the lab's account").decode()


def start_azure(directory: Path, processes: Processes) -> Store:
    """One account, of which the key is in the connection string. The container is made by `prepare_azure`."""
    endpoint = f"http://{BRIDGE}:{_PORT}/{_ACCOUNT}"
    command: list[str | Path] = [
        program("azurite"), f"--blobHost={BRIDGE}", f"--blobPort={_PORT}", f"--location={directory}",
        "--silent", "--skipApiVersionCheck", "--disableTelemetry",
    ]  # fmt: skip
    processes.start("azure", command, environment={"AZURITE_ACCOUNTS": f"{_ACCOUNT}:{_KEY}"})
    connection = f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};BlobEndpoint={endpoint};"
    return Store(
        kind="azure",
        location={"azure": {"container": _CONTAINER, "credentialsSecretRef": {"name": "azure"}}},
        credentials={"AZURE_STORAGE_CONNECTION_STRING": connection},
        weaviate_environment={"BACKUP_AZURE_CONTAINER": _CONTAINER},
    )


def prepare_azure(store: Store, processes: Processes) -> None:
    """Waits for the server and makes the container."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError
    from azure.storage.blob import ContainerClient

    connection = store.credentials["AZURE_STORAGE_CONNECTION_STRING"]

    def make() -> bool:
        with ContainerClient.from_connection_string(connection, _CONTAINER, retry_total=0) as container:
            try:
                container.create_container()
            except (ServiceRequestError, ServiceResponseError):
                return False
        return True

    processes.wait_for("the Azure server", make)
