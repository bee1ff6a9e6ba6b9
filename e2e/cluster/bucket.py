"""The store from the outside: what an ordinary S3 client lists, and the server's files beneath. It writes nothing."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from e2e.cluster.surroundings import Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class FileIdentity:
    """Changes whenever an object is written again, even with the same content."""

    inode: int
    modified_ns: int
    size_bytes: int


def client(store: Store) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=store.url,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )


def listing(store: Store, prefix: str = "") -> dict[str, int]:
    """Size by key."""
    pages = client(store).get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=prefix)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}


def files(store: Store, prefix: str = "") -> dict[str, FileIdentity]:
    """Identity of the file behind each key."""
    found = {}
    for key in listing(store, prefix):
        status = (store.bucket_directory / key).stat()
        found[key] = FileIdentity(status.st_ino, status.st_mtime_ns, status.st_size)
    return found
