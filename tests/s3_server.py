"""A real S3 server for tests: versitygw on a loopback port, its objects plain files below a directory."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.lab.programs import program
from tests.ports import free_port

from weaviate_backup.api.location import S3Location

ACCESS_KEY = "testkey"
SECRET_KEY = "testsecret"
START_SECONDS = 20


@dataclass(frozen=True)
class S3Server:
    """`directory` holds a folder per bucket."""

    endpoint: str
    directory: Path

    @property
    def credentials(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def make_bucket(self, name: str) -> None:
        (self.directory / name).mkdir()

    def location(self, bucket: str, path: str = "") -> S3Location:
        return S3Location(bucket=bucket, path=path, endpoint=self.endpoint, use_ssl=False, force_path_style=True)


@contextmanager
def running_s3_server(
    directory: Path,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
    users: Path | None = None,
    versions: Path | None = None,
    domain: str | None = None,
) -> Iterator[S3Server]:
    """Starts it and waits until it takes connections; buckets are folders of `directory`. With a certificate: TLS.

    With directories for them, it has users beside the one who may do everything, and keeps versions of objects. With a
    domain, buckets are hosts below it, and paths hold keys alone."""
    directory.mkdir(parents=True, exist_ok=True)
    if users is not None:
        users.mkdir()
    port = free_port()
    secured = ["--cert", str(certificate), "--key", str(key)] if certificate else []
    secured += ["--iam-dir", str(users)] if users else []
    secured += ["--virtual-domain", domain] if domain else []
    command = [str(program("versitygw")), "--port", f"127.0.0.1:{port}", *secured, "posix"]
    if versions is not None:
        versions.mkdir()
        command += ["--versioning-dir", str(versions)]
    command.append(str(directory))
    environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    with (directory.parent / "versitygw.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (directory.parent / "versitygw.log").read_text()
                assert time.monotonic() < deadline, "versitygw does not answer"
                time.sleep(0.05)
        yield S3Server(f"127.0.0.1:{port}", directory)
    finally:
        process.terminate()
        process.wait(10)
