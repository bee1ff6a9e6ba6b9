"""Real servers, and what else people point a location at by mistake."""

import http.server
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
from e2e.lab.programs import program
from tests.azure_server import AzureServer, running_azure_server
from tests.gcs_server import GcsServer, running_gcs_server
from tests.locations.trying import Trial
from tests.ports import free_port
from tests.s3_server import S3Server, running_s3_server
from tests.storage.authority import Authority

from weaviate_backup.api.model import dump

BUCKET = "backups"
READER_KEY, READER_SECRET = "AKIAREADONLYREADER01", "reader-secret-0123456789"


@dataclass(frozen=True)
class Servers:
    """What there is to get wrong. `silent` takes connections and never answers, `page` is some other web server."""

    s3: S3Server
    tls: S3Server
    authority: Authority
    gcs: GcsServer
    azure: AzureServer
    silent: str
    page: str
    elsewhere: str
    closed: str
    full: Path
    read_only: Path
    directory: Path

    def s3_with(self, server: S3Server | None = None, **changes: object) -> Trial:
        server = server or self.s3
        spec = {**dump(server.location(BUCKET)), "credentialsSecretRef": {"name": "keys"}, **changes}
        return Trial({"s3": spec}, server.credentials)

    def tls_with(self, ca_pem: bytes | None, **changes: object) -> Trial:
        given = {"caSecretRef": {"name": "authority", "key": "pem"}} if ca_pem is not None else {}
        trial = self.s3_with(self.tls, useSSL=True, **given, **changes)
        return replace(trial, ca_pem=ca_pem)

    def gcs_with(self, credentials: str | None = None, **changes: object) -> Trial:
        """With credentials it is Google's own host, the one that is sent a token."""
        spec = {"bucket": BUCKET, "credentialsSecretRef": {"name": "keys"}, **changes}
        if credentials is None:
            return Trial({"gcs": {"endpoint": self.gcs.endpoint, "useAuth": False, **spec}}, {})
        return Trial({"gcs": spec}, {"GOOGLE_APPLICATION_CREDENTIALS": credentials})

    def azure_with(self, secret: dict[str, str] | None = None, **changes: object) -> Trial:
        spec = {
            "container": BUCKET, "endpoint": self.azure.endpoint, "credentialsSecretRef": {"name": "keys"}, **changes
        }  # fmt: skip
        return Trial({"azure": spec}, self.azure.credentials if secret is None else secret)

    def files_in(self, root: Path, **changes: object) -> Trial:
        spec = {"volume": {"persistentVolumeClaim": {"claimName": "c"}}, **changes}
        return Trial({"filesystem": spec}, {}, filesystem_root=root)


@contextmanager
def servers(directory: Path) -> Iterator[Servers]:
    authority = Authority("stores")
    certificate, key = authority.certificate()
    (directory / "tls.crt").write_bytes(certificate)
    (directory / "tls.key").write_bytes(key)
    (directory / "a-file").write_text("no directory")
    with ExitStack() as stack:
        enter = stack.enter_context
        s3 = enter(running_s3_server(directory / "s3" / "data", users=directory / "users"))
        s3.make_bucket(BUCKET)
        allow_reading(s3)
        crt, private = directory / "tls.crt", directory / "tls.key"
        tls = enter(running_s3_server(directory / "tls" / "data", certificate=crt, key=private))
        tls.make_bucket(BUCKET)
        gcs, azure = enter(running_gcs_server(directory)), enter(running_azure_server(directory))
        gcs.make_bucket(BUCKET)
        azure.make_container(BUCKET)
        full, read_only = enter(small_disk(directory / "full")), enter(small_disk(directory / "read-only"))
        subprocess.run(["mount", "-o", "remount,ro", str(read_only)], check=True)
        yield Servers(
            s3=s3,
            tls=tls,
            authority=authority,
            gcs=gcs,
            azure=azure,
            silent=enter(silent_server()),
            page=enter(answering(Page)),
            elsewhere=enter(answering(OtherRegion)),
            closed=f"127.0.0.1:{free_port()}",
            full=full,
            read_only=read_only,
            directory=directory,
        )


def allow_reading(server: S3Server) -> None:
    """A second user who may list and get, and nothing else."""
    url = f"http://{server.endpoint}"
    admin = [str(program("versitygw")), "admin", "--access", "testkey", "--secret", "testsecret", "--endpoint-url", url]
    subprocess.run(
        [*admin, "create-user", "--access", READER_KEY, "--secret", READER_SECRET, "--role", "user"],
        check=True,
        capture_output=True,
    )
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": [READER_KEY],
                "Action": ["s3:ListBucket", "s3:GetObject"],
                "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
            }
        ],
    }
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="testkey",
        aws_secret_access_key="testsecret",
    )
    client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    client.close()


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@contextmanager
def silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def answering(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Page(http.server.BaseHTTPRequestHandler):
    """Answers everything with a page for people, as the console of a store does."""

    status, kind = 200, "text/html"
    content = b"<!DOCTYPE html><html><body>Console</body></html>"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 (the names are http.server's)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class OtherRegion(Page):
    """AWS when a request is signed for another region than the bucket's; no server of ours looks at that."""

    status, kind = 400, "application/xml"
    content = (
        b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region "
        b"'us-east-1' is wrong; expecting 'eu-central-1'</Message><Region>eu-central-1</Region></Error>"
    )
