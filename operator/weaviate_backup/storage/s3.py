"""S3 and what speaks its protocol, through boto3: one client for all verbs, its own retries off.

An object of at most one part goes up in one request, a larger one as a multipart upload with a few parts in flight, so
memory is their number times their size. Sizes are not known beforehand: parts grow, so that the 10,000 allowed hold
terabytes.
boto3 sends a CRC32 with every part, which the store verifies. The signature covers the request but not its body, with
or without TLS: that would be one more SHA-256 on both sides, and what counts is what is read back.
"""

import io
import itertools
import logging
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import boto3
import botocore.config
import botocore.exceptions

from weaviate_backup.api.location import S3Location
from weaviate_backup.errors import ObjectExists, ObjectNotFound, Permanent, Transient
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo
from weaviate_backup.storage.patience import USUAL, Patience
from weaviate_backup.storage.s3_failures import classify, code_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PART_BYTES = 8 << 20
PARTS_PER_SIZE = 1000
"""After so many parts their size doubles: 10,000 parts then hold 8 TiB."""
PARTS_IN_FLIGHT = 4
PART_ATTEMPTS = 4
CONNECTIONS = 64
DELETE_BATCH = 1000
DEFAULT_REGION = "us-east-1"

T = TypeVar("T")
log = logging.getLogger(__name__)


class S3Store:
    """An `ObjectStore` below `path` of a bucket."""

    def __init__(
        self,
        location: S3Location,
        *,
        credentials: Mapping[str, str],
        ca_pem: bytes | None = None,
        patience: Patience = USUAL,
    ) -> None:
        self._location, self._patience = location, patience
        self._prefix = f"{location.path.strip('/')}/" if location.path.strip("/") else ""
        ca_file = _as_file(ca_pem) if ca_pem else None
        if ca_file:
            weakref.finalize(self, Path(ca_file).unlink, missing_ok=True)
        self._make_client = partial(_client, _session(credentials), location, ca_file, patience)
        try:
            self._client = self._make_client(read_seconds=patience.read_seconds)
        except (botocore.exceptions.BotoCoreError, ValueError) as error:
            raise self._failure(error, "") from error
        self._options = _options(location)
        self._conditional = True

    def put(self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False) -> ObjectInfo:
        parts = _parts(make_blocks())
        first = next(parts, b"")
        second = next(parts, None)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        if second is None:
            if if_absent and not self._conditional and self._exists(key):
                raise ObjectExists(key)
            answer = self._on_condition(
                key,
                condition,
                lambda condition: self._client.put_object(
                    Bucket=self._location.bucket, Key=self._key(key), Body=first, **self._options, **condition
                ),
            )
            return ObjectInfo(key, len(first), answer["ETag"])
        if if_absent and self._exists(key):
            raise ObjectExists(key)  # before the bytes go up; the condition at the end decides
        return self._put_parts(key, itertools.chain((first, second), parts), condition)

    @contextmanager
    def open(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        if length == 0:
            yield io.BytesIO()
            return
        wanted: dict[str, Any] = {}
        if start or length is not None:
            wanted["Range"] = f"bytes={start}-" if length is None else f"bytes={start}-{start + length - 1}"
        answer = self._ask(
            key, lambda: self._client.get_object(Bucket=self._location.bucket, Key=self._key(key), **wanted)
        )
        body, found_bytes = answer["Body"], answer["ContentLength"]
        try:
            if length is not None and found_bytes < length:
                raise Permanent("RangeOutside", f"{key} has only {found_bytes} of {length} bytes from {start} on")
            yield cast(BinaryIO, _Body(body, found_bytes, lambda error: self._failure(error, key)))
        finally:
            body.close()

    def stat(self, key: str) -> ObjectInfo:
        answer = self._ask(key, lambda: self._client.head_object(Bucket=self._location.bucket, Key=self._key(key)))
        return ObjectInfo(key, answer["ContentLength"], answer.get("ETag"))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        token: dict[str, Any] = {}
        while True:
            answer = self._ask(
                "",
                lambda token=token: self._client.list_objects_v2(  # type: ignore[misc]
                    Bucket=self._location.bucket, Prefix=self._prefix + prefix, **token
                ),
            )
            for found in answer.get("Contents", ()):
                yield ObjectInfo(found["Key"].removeprefix(self._prefix), found["Size"], found.get("ETag"))
            if not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, keys: Iterable[str]) -> None:
        wanted = [self._key(key) for key in keys]
        refused: list[str] = []
        codes: set[str] = set()
        for at in range(0, len(wanted), DELETE_BATCH):
            batch = wanted[at : at + DELETE_BATCH]
            answer = self._ask(
                "",
                lambda batch=batch: self._client.delete_objects(  # type: ignore[misc]
                    Bucket=self._location.bucket,
                    Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
                ),
            )
            errors = [each for each in answer.get("Errors", ()) if each.get("Code") != "NoSuchKey"]
            refused += [f"{each.get('Key')} ({each.get('Code')})" for each in errors]
            codes |= {str(each.get("Code")) for each in errors}
        if refused:
            kind = Permanent if codes == {"AccessDenied"} else Transient
            raise kind("DeleteIncomplete", f"{len(refused)} objects could not be deleted, first {refused[0]}")

    def check(self) -> None:
        client = self._make_client(read_seconds=self._patience.check_read_seconds)
        try:
            self._ask("", lambda: client.list_objects_v2(Bucket=self._location.bucket, Prefix=self._prefix, MaxKeys=1))
        finally:
            client.close()

    def _key(self, key: str) -> str:
        return self._prefix + key

    def _exists(self, key: str) -> bool:
        try:
            self.stat(key)
        except ObjectNotFound:
            return False
        return True

    def _on_condition(self, key: str, condition: Mapping[str, Any], request: Callable[[Mapping[str, Any]], T]) -> T:
        """A write-once request. A store without conditional writes is asked whether the object exists, which leaves a
        window between the question and the write; it is said once."""
        try:
            return self._ask(key, lambda: request(condition if self._conditional else {}))
        except Permanent as error:
            if not condition or not self._conditional or error.reason != "OperationUnsupported":
                raise
            self._conditional = False
            log.warning("the store does not know If-None-Match: write-once is kept by looking before writing")
        if self._exists(key):
            raise ObjectExists(key)
        return self._ask(key, lambda: request({}))

    def _put_parts(self, key: str, parts: Iterator[bytes], condition: Mapping[str, Any]) -> ObjectInfo:
        bucket, name = self._location.bucket, self._key(key)
        upload = self._ask(key, lambda: self._client.create_multipart_upload(Bucket=bucket, Key=name, **self._options))[
            "UploadId"
        ]
        try:
            done, size_bytes = self._send_parts(key, upload, parts)
            answer = self._on_condition(
                key,
                condition,
                lambda condition: self._client.complete_multipart_upload(
                    Bucket=bucket, Key=name, UploadId=upload, MultipartUpload={"Parts": done}, **condition
                ),
            )
        except BaseException:
            self._abort(key, upload)
            raise
        return ObjectInfo(key, size_bytes, answer["ETag"])

    def _send_parts(self, key: str, upload: str, parts: Iterator[bytes]) -> tuple[tuple[Any, ...], int]:
        """A part waits for room before it is sent, so memory holds those in flight, the next, and a few copies."""
        room = threading.Semaphore(PARTS_IN_FLIGHT)
        failed = threading.Event()
        sending: list[Future[Any]] = []
        size_bytes = 0

        def send(number: int, part: bytes) -> Any:
            try:
                return self._send_part(key, upload, number, part)
            except BaseException:
                failed.set()
                raise
            finally:
                room.release()

        with ThreadPoolExecutor(PARTS_IN_FLIGHT, thread_name_prefix="part") as pool:
            for number, part in enumerate(parts, start=1):
                room.acquire()
                if failed.is_set():
                    break
                size_bytes += len(part)
                sending.append(pool.submit(send, number, part))
            return tuple(future.result() for future in sending), size_bytes

    def _send_part(self, key: str, upload: str, number: int, part: bytes) -> Any:
        for attempt in range(1, PART_ATTEMPTS + 1):
            try:
                answer = self._ask(
                    key,
                    lambda: self._client.upload_part(
                        Bucket=self._location.bucket, Key=self._key(key), UploadId=upload, PartNumber=number, Body=part
                    ),
                )
            except Transient:
                if attempt == PART_ATTEMPTS:
                    raise
                threading.Event().wait(self._patience.first_wait_seconds / 2 * 2**attempt)
            else:
                return {"PartNumber": number, "ETag": answer["ETag"]}
        raise AssertionError("unreachable")

    def _abort(self, key: str, upload: str) -> None:
        """Parts that stay are paid for and never listed, so a busy store is asked again."""
        for attempt in range(1, PART_ATTEMPTS + 1):
            try:
                self._client.abort_multipart_upload(Bucket=self._location.bucket, Key=self._key(key), UploadId=upload)
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
                failure = self._failure(error, key)
                if code_of(error) == "NoSuchUpload":
                    return
                if attempt == PART_ATTEMPTS or not isinstance(failure, Transient):
                    log.warning("an unfinished upload of %s stays in the store: %s", key, failure)
                    return
                threading.Event().wait(self._patience.first_wait_seconds / 2 * 2**attempt)
            else:
                return

    def _ask(self, key: str, request: Callable[[], T]) -> T:
        try:
            return request()
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            raise self._failure(error, key) from error

    def _failure(self, error: Exception, key: str) -> Exception:
        return classify(error, key=key, location=self._location)


class _Body(io.RawIOBase):
    """A response body that knows how long it must be."""

    def __init__(self, body: Any, length: int, failure: Callable[[Exception], Exception]) -> None:
        self._body = body
        self._remaining = length
        self._failure = failure

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")[: self._remaining]
        if not len(view):
            return 0
        try:
            block = self._body.read(len(view))
        except Exception as error:
            raise self._failure(error) from error
        if not block:
            raise Transient("TruncatedBody", f"the store ended an object {self._remaining} bytes early")
        view[: len(block)] = block
        self._remaining -= len(block)
        return len(block)


def _parts(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks, regrouped into parts of growing size."""
    gathered: list[bytes] = []
    gathered_bytes, number = 0, 0
    for block in blocks:
        gathered.append(block)
        gathered_bytes += len(block)
        if gathered_bytes >= PART_BYTES << (number // PARTS_PER_SIZE):
            yield b"".join(gathered)
            gathered, gathered_bytes = [], 0
            number += 1
    if gathered:
        yield b"".join(gathered)


def _session(credentials: Mapping[str, str]) -> boto3.session.Session:
    """Clients of one session share what boto3 reads of the protocol, which takes longer than a request."""
    pair = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    missing = [name for name in pair if not credentials.get(name)]
    if len(missing) == 1:
        raise Permanent(
            "CredentialsMissing",
            f"the Secret of spec.s3.credentialsSecretRef has no {missing[0]}; add that key, or take both away "
            "to use the identity of the agents",
        )
    return boto3.session.Session(
        aws_access_key_id=credentials.get("AWS_ACCESS_KEY_ID") or None,
        aws_secret_access_key=credentials.get("AWS_SECRET_ACCESS_KEY") or None,
        aws_session_token=credentials.get("AWS_SESSION_TOKEN") or None,
    )


def _client(
    session: boto3.session.Session,
    location: S3Location,
    ca_file: str | None,
    patience: Patience,
    *,
    read_seconds: float,
) -> "S3Client":
    endpoint = f"{'https' if location.secure else 'http'}://{location.host}" if location.endpoint else None
    path_style = location.force_path_style or location.endpoint is not None
    config = botocore.config.Config(
        region_name=location.region or DEFAULT_REGION,
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=patience.connect_seconds,
        read_timeout=read_seconds,
        max_pool_connections=CONNECTIONS,
        s3={"addressing_style": "path" if path_style else "auto", "payload_signing_enabled": False},
    )
    return session.client("s3", endpoint_url=endpoint, config=config, verify=ca_file)


def _options(location: S3Location) -> dict[str, Any]:
    options: dict[str, Any] = {"ContentType": "application/octet-stream"}
    if location.storage_class:
        options["StorageClass"] = location.storage_class
    if location.server_side_encryption:
        options["ServerSideEncryption"] = location.server_side_encryption.algorithm
        if location.server_side_encryption.kms_key_id:
            options["SSEKMSKeyId"] = location.server_side_encryption.kms_key_id
    return options


def _as_file(ca_pem: bytes) -> str:
    """boto3 takes a certificate authority only by path; the caller removes the file when the store goes."""
    with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
        file.write(ca_pem)
    return file.name
