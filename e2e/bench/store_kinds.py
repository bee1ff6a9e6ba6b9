"""The real servers that throughput is measured on, and how a plain client talks to each, by URLs that are signed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import requests
from azure.storage.blob import generate_container_sas
from botocore.config import Config
from e2e.bench.store_load import PlainRequest
from tests.azure_server import ACCOUNT, KEY, running_azure_server
from tests.gcs_server import running_gcs_server
from tests.s3_server import running_s3_server

BUCKET = "bench"
HOURS_SECONDS = 6 * 3600


@dataclass(frozen=True)
class Kind:
    """`plain(verb, key)` is the request of a client without a library; None: plain files below `root`."""

    location: dict[str, Any]
    credentials: dict[str, str]
    root: Path
    plain: Callable[[str, str], PlainRequest] | None


@contextmanager
def s3(directory: Path) -> Iterator[Kind]:
    with running_s3_server(directory / "data") as server:
        server.make_bucket(BUCKET)
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{server.endpoint}",
            region_name="us-east-1",
            aws_access_key_id=server.credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=server.credentials["AWS_SECRET_ACCESS_KEY"],
            config=Config(signature_version="s3v4", request_checksum_calculation="when_required"),
        )

        def plain(verb: str, key: str) -> PlainRequest:
            method = f"{verb}_object"
            url = client.generate_presigned_url(method, {"Bucket": BUCKET, "Key": key}, ExpiresIn=HOURS_SECONDS)
            return PlainRequest(verb.upper(), url)

        location = {"s3": server.location(BUCKET).model_dump(mode="json", by_alias=True)}
        yield Kind(location, server.credentials, directory, plain)


@contextmanager
def gcs(directory: Path) -> Iterator[Kind]:
    with running_gcs_server(directory) as server:
        server.make_bucket(BUCKET)

        def plain(verb: str, key: str) -> PlainRequest:
            name = quote(key, safe="")
            if verb == "get":
                return PlainRequest("GET", f"{server.endpoint}/download/storage/v1/b/{BUCKET}/o/{name}?alt=media")
            # an object whose size nobody knows when it begins can be made no other way, and this server is slower at it
            begin = f"{server.endpoint}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&name={name}"
            begun = requests.post(begin, json={"name": key}, timeout=60)
            return PlainRequest("PUT", begun.headers["Location"])

        location = {"gcs": server.location(BUCKET).model_dump(mode="json", by_alias=True)}
        yield Kind(location, {}, directory, plain)


@contextmanager
def azure(directory: Path) -> Iterator[Kind]:
    with running_azure_server(directory) as server:
        server.make_container(BUCKET)
        allowed = generate_container_sas(
            ACCOUNT, BUCKET, account_key=KEY, permission="rwcl",
            expiry=datetime.now(UTC) + timedelta(seconds=HOURS_SECONDS),
        )  # fmt: skip

        def plain(verb: str, key: str) -> PlainRequest:
            url = f"{server.endpoint}/{BUCKET}/{quote(key)}?{allowed}"
            return PlainRequest(verb.upper(), url, {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-12-02"})

        location = {"azure": server.location(BUCKET).model_dump(mode="json", by_alias=True)}
        yield Kind(location, server.credentials, directory, plain)


@contextmanager
def filesystem(directory: Path) -> Iterator[Kind]:
    root = directory / "root"
    root.mkdir()
    location = {"filesystem": {"volume": {"hostPath": {"path": str(root)}}}}
    yield Kind(location, {}, root, None)


KINDS: dict[str, Callable[[Path], AbstractContextManager[Kind]]] = {
    "s3": s3, "gcs": gcs, "azure": azure, "filesystem": filesystem,
}  # fmt: skip
