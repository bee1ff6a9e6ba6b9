"""A real server of Google Cloud Storage's protocol for tests: fake-gcs-server on a loopback port, objects in memory."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.lab.programs import program
from tests.s3_server import free_port

from weaviate_backup.api.location import GcsLocation

START_SECONDS = 20


@dataclass(frozen=True)
class GcsServer:
    """It takes any credentials, and none."""

    endpoint: str

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(
            f"{self.endpoint}/storage/v1/b", json.dumps({"name": name}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10):
            pass

    def location(self, bucket: str, path: str = "") -> GcsLocation:
        return GcsLocation(bucket=bucket, path=path, endpoint=self.endpoint, use_auth=False)


@contextmanager
def running_gcs_server(directory: Path) -> Iterator[GcsServer]:
    """Starts it and waits until it answers."""
    port = free_port()
    command = [str(program("fake-gcs-server")), "-scheme=http", "-host=127.0.0.1", f"-port={port}", "-backend=memory",
        f"-public-host=127.0.0.1:{port}",
    ]  # fmt: skip
    log_path = directory / "fake-gcs-server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{endpoint}/storage/v1/b?project=p", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, log_path.read_text()
                assert time.monotonic() < deadline, "fake-gcs-server does not answer"
                time.sleep(0.05)
        yield GcsServer(endpoint)
    finally:
        process.terminate()
        process.wait(10)
