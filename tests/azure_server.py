"""A real server of Azure Blob Storage's protocol for tests: azurite on a loopback port.

Its address is one that the client library does not take for a development machine, as no user's server is one.
"""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from azure.storage.blob import ContainerClient
from e2e.lab.programs import program
from tests.gcs_server import UNCHECKED
from tests.ports import free_port

from weaviate_backup.api.location import AzureLocation

ADDRESS = "127.0.0.2"
ACCOUNT = "testaccount"
KEY = "dGVzdC1rZXktb2YtdGhlLWxvb3BiYWNrLXNlcnZlci1vbmx5"
START_SECONDS = 60


@dataclass(frozen=True)
class AzureServer:
    """`endpoint` is the account's URL."""

    endpoint: str
    ca_file: Path | None = None

    @property
    def credentials(self) -> dict[str, str]:
        return {"AZURE_STORAGE_ACCOUNT": ACCOUNT, "AZURE_STORAGE_KEY": KEY}

    @property
    def connection_string(self) -> str:
        return f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.endpoint};"

    def container(self, name: str) -> ContainerClient:
        return ContainerClient.from_connection_string(
            self.connection_string, name, connection_verify=str(self.ca_file) if self.ca_file else True
        )

    def make_container(self, name: str) -> None:
        with self.container(name) as container:
            container.create_container()

    def location(self, container: str, path: str = "") -> AzureLocation:
        return AzureLocation(container=container, path=path, endpoint=self.endpoint)


@contextmanager
def running_azure_server(
    directory: Path, *, certificate: Path | None = None, key: Path | None = None
) -> Iterator[AzureServer]:
    """Starts it and waits until it answers; its data lies in the directory. With a certificate: TLS, and it takes
    tokens of identities, whoever signed them."""
    port = free_port()
    command = [
        str(program("azurite")), f"--blobHost={ADDRESS}", f"--blobPort={port}", f"--location={directory / 'data'}",
        "--skipApiVersionCheck", "--silent", "--disableTelemetry",
    ]  # fmt: skip
    if certificate:
        command += [f"--cert={certificate}", f"--key={key}", "--oauth=basic"]
    scheme = "https" if certificate else "http"
    log_path = directory / "azurite.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(
                    f"{scheme}://{ADDRESS}:{port}/{ACCOUNT}?comp=list", timeout=2, context=UNCHECKED
                ).close()
            except urllib.error.HTTPError as refusal:  # it asks who we are: it works
                refusal.close()
                break
            except OSError:
                assert process.poll() is None, log_path.read_text()
                assert time.monotonic() < deadline, "azurite does not answer"
                time.sleep(0.1)
        yield AzureServer(
            f"{scheme}://{ADDRESS}:{port}/{ACCOUNT}", certificate.with_name("ca.crt") if certificate else None
        )
    finally:
        process.terminate()
        process.wait(10)
