"""The real servers that throughput is measured on, and how a plain client talks to each, by URLs that are signed."""

from base64 import b64encode
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
from e2e.bench.store_load import PlainObject, PlainRequest
from tests.azure_server import ACCOUNT, KEY, running_azure_server
from tests.gcs_server import running_gcs_server
from tests.s3_server import running_s3_server

from weaviate_backup.storage.s3 import PART_BYTES

BUCKET = "bench"
HOURS_SECONDS = 6 * 3600


@dataclass(frozen=True)
class Kind:
    """`plain(verb, key)` asks for an object as a client without a library does; None: plain files below `root`.

    `in_parts(key, count)` puts one in `count` parts of `PART_BYTES`, where that is another way than `plain`.
    """

    location: dict[str, Any]
    credentials: dict[str, str]
    root: Path
    plain: Callable[[str, str], PlainObject] | None
    in_parts: Callable[[str, int], PlainObject] | None = None


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

        def signed(verb: str, method: str, key: str, **more: Any) -> PlainRequest:
            named = {"Bucket": BUCKET, "Key": key, **more}
            return PlainRequest(verb, client.generate_presigned_url(method, named, ExpiresIn=HOURS_SECONDS))

        def plain(verb: str, key: str) -> PlainObject:
            return PlainObject((signed(verb.upper(), f"{verb}_object", key),))

        def in_parts(key: str, count: int) -> PlainObject:
            upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
            numbers = range(1, count + 1)
            parts = (signed("PUT", "upload_part", key, UploadId=upload, PartNumber=number) for number in numbers)
            end = signed("POST", "complete_multipart_upload", key, UploadId=upload)
            told = (f"<Part><PartNumber>{n}</PartNumber><ETag>{{{n - 1}}}</ETag></Part>" for n in numbers)
            body = f"<CompleteMultipartUpload>{''.join(told)}</CompleteMultipartUpload>"
            return PlainObject(tuple(parts), PART_BYTES, end, body)

        location = {"s3": server.location(BUCKET).model_dump(mode="json", by_alias=True)}
        yield Kind(location, server.credentials, directory, plain, in_parts)


@contextmanager
def gcs(directory: Path) -> Iterator[Kind]:
    with running_gcs_server(directory) as server:
        server.make_bucket(BUCKET)

        def plain(verb: str, key: str) -> PlainObject:
            name = quote(key, safe="")
            if verb == "get":
                url = f"{server.endpoint}/download/storage/v1/b/{BUCKET}/o/{name}?alt=media"
                return PlainObject((PlainRequest("GET", url),))
            # an object whose size nobody knows when it begins can be made no other way, and this server is slower at it
            begin = f"{server.endpoint}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&name={name}"
            begun = requests.post(begin, json={"name": key}, timeout=60)
            return PlainObject((PlainRequest("PUT", begun.headers["Location"]),))

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

        def request(verb: str, key: str, query: str = "") -> PlainRequest:
            url = f"{server.endpoint}/{BUCKET}/{quote(key)}?{allowed}{query}"
            return PlainRequest(verb, url, {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-12-02"})

        def plain(verb: str, key: str) -> PlainObject:
            return PlainObject((request(verb.upper(), key),))

        def in_parts(key: str, count: int) -> PlainObject:
            names = [b64encode(f"{number:08}".encode()).decode() for number in range(count)]
            parts = (request("PUT", key, f"&comp=block&blockid={quote(name)}") for name in names)
            told = "".join(f"<Latest>{name}</Latest>" for name in names)
            end = request("PUT", key, "&comp=blocklist")
            # azurite sums up a block whose MD5 it is not told by a way that is several times slower
            return PlainObject(tuple(parts), PART_BYTES, end, f"<BlockList>{told}</BlockList>", tells_md5=True)

        location = {"azure": server.location(BUCKET).model_dump(mode="json", by_alias=True)}
        yield Kind(location, server.credentials, directory, plain, in_parts)


@contextmanager
def filesystem(directory: Path) -> Iterator[Kind]:
    root = directory / "root"
    root.mkdir()
    location = {"filesystem": {"volume": {"hostPath": {"path": str(root)}}}}
    yield Kind(location, {}, root, None)


KINDS: dict[str, Callable[[Path], AbstractContextManager[Kind]]] = {
    "s3": s3, "gcs": gcs, "azure": azure, "filesystem": filesystem,
}  # fmt: skip
