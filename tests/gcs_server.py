"""A real server of Google Cloud Storage's protocol for tests: fake-gcs-server on a loopback port, objects in memory."""

import json
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.lab.programs import program
from tests.ports import free_port

from weaviate_backup.api.location import GcsLocation

START_SECONDS = 20
UNCHECKED = ssl._create_unverified_context()  # of servers of our own


@dataclass(frozen=True)
class GcsServer:
    """It takes any credentials, and none."""

    endpoint: str

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(
            f"{self.endpoint}/storage/v1/b", json.dumps({"name": name}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10, context=UNCHECKED):
            pass

    def location(self, bucket: str, path: str = "") -> GcsLocation:
        return GcsLocation(bucket=bucket, path=path, endpoint=self.endpoint, use_auth=False)


@contextmanager
def running_gcs_server(
    directory: Path, *, certificate: Path | None = None, key: Path | None = None
) -> Iterator[GcsServer]:
    """Starts it and waits until it answers. With a certificate: TLS."""
    port = free_port()
    scheme = "https" if certificate else "http"
    command = [
        str(program("fake-gcs-server")),
        f"-scheme={scheme}",
        "-host=127.0.0.1",
        f"-port={port}",
        "-backend=memory",
        f"-public-host=127.0.0.1:{port}",
    ]
    if certificate:
        command += [f"-cert-location={certificate}", f"-private-key-location={key}"]
    log_path = directory / "fake-gcs-server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    endpoint = f"{scheme}://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{endpoint}/storage/v1/b?project=p", timeout=2, context=UNCHECKED).close()
                break
            except OSError:
                assert process.poll() is None, log_path.read_text()
                assert time.monotonic() < deadline, "fake-gcs-server does not answer"
                time.sleep(0.05)
        yield GcsServer(endpoint)
    finally:
        process.terminate()
        process.wait(10)
