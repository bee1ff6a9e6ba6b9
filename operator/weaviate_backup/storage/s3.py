"""S3 and what speaks its protocol, through boto3: one client for all verbs, its own retries off.

An object of at most one part goes up in one request, a larger one as a multipart upload with a few parts in flight, so
memory is their number times their size. Sizes are not known beforehand: parts grow, so that the 10,000 allowed hold
terabytes.
A CRC32 goes with every part, which the store verifies, and with the end of an upload go those of all parts, as AWS asks
of one that was begun with checksums. The signature covers the request but not its body, with or without TLS: that would
be one more SHA-256 on both sides, and what counts is what is read back.
"""

import io
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import botocore.exceptions

from weaviate_backup.answers import understood
from weaviate_backup.api.location import S3Location
from weaviate_backup.core.credential_reach import NOBODY, Reach, TrustedHosts
from weaviate_backup.errors import ObjectExists, ObjectNotFound, Permanent, Transient
from weaviate_backup.storage.authority import kept_as_file
from weaviate_backup.storage.bodies import PiecewiseBody, exact_body
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo, exists, key_prefix
from weaviate_backup.storage.parts import Part, cut, joined, patiently, send_parts
from weaviate_backup.storage.patience import USUAL, Patience
from weaviate_backup.storage.s3_client import crc32_of, key_options, new_client, new_session, object_options
from weaviate_backup.storage.s3_failures import classify, code_of, no_store

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectLockRetentionTypeDef

PART_BYTES = 8 << 20
PARTS_PER_SIZE = 1000
"""After so many parts their size doubles: 10,000 parts then hold 8 TiB."""
PARTS_IN_FLIGHT = 4
DELETE_BATCH = 1000
LIST_PAGE = 1000
LOCKS_AT_ONCE = 16
NO_OBJECT = ".weaviate-backup-no-object"
"""A key that nobody writes."""
NEVER = datetime(1970, 1, 1, tzinfo=UTC)

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
        trusted: TrustedHosts = NOBODY,
    ) -> None:
        self._location, self._patience = location, patience
        self._prefix = key_prefix(location.path)
        ca_file = kept_as_file(ca_pem, owner=self) if ca_pem else None
        reach = Reach("s3", trusted, own_authority=ca_pem is not None)
        self._make_client = partial(new_client, new_session(credentials), location, ca_file, reach)
        try:
            self._client = self._make_client(connect_seconds=patience.read_seconds, read_seconds=patience.read_seconds)
        except (botocore.exceptions.BotoCoreError, ValueError) as error:
            raise self._failure(error, "") from error
        self._options = object_options(location)
        self._key_options = key_options(location, credentials)
        self._conditional = True

    def put(self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False) -> ObjectInfo:
        parts = cut(make_blocks(), lambda number: PART_BYTES << (number // PARTS_PER_SIZE))
        first = next(parts, [])
        second = next(parts, None)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        if second is None:
            if if_absent and not self._conditional and exists(self, key):
                raise ObjectExists(key)
            checksum, content = crc32_of(first), joined(first)
            answer = self._on_condition(
                key,
                condition,
                lambda condition: self._client.put_object(
                    **self._named(key),
                    Body=content,
                    ChecksumCRC32=checksum,
                    **self._options,
                    **self._key_options,
                    **condition,
                ),
            )
            return ObjectInfo(key, len(content), answer.get("ETag"))
        if if_absent and exists(self, key):
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
        answer = self._ask(key, lambda: self._client.get_object(**self._named(key), **self._key_options, **wanted))
        body, found_bytes = answer["Body"], answer.get("ContentLength")
        try:
            failure = partial(self._failure, key=key)
            yield exact_body(body.read, found_bytes, failure, key=key, start=start, length=length)
        finally:
            body.close()

    def stat(self, key: str) -> ObjectInfo:
        answer = self._ask(key, lambda: self._client.head_object(**self._named(key), **self._key_options))
        return ObjectInfo(key, answer["ContentLength"], answer.get("ETag"))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        token: dict[str, Any] = {}
        while True:
            answer = self._ask(
                "",
                lambda token=token: self._client.list_objects_v2(  # type: ignore[misc]
                    Bucket=self._location.bucket, Prefix=self._prefix + prefix, MaxKeys=LIST_PAGE, **token
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
            said = f"{len(refused)} objects could not be deleted, first {refused[0]}"
            if codes == {"AccessDenied"}:
                raise Permanent("AccessDenied", f"{said}; the identity needs to delete objects")
            raise Transient("DeleteIncomplete", said)

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        wanted = self._location.object_lock
        if wanted is None:
            raise Permanent("ObjectLockUnsupported", "spec.s3.objectLock says nothing of how objects are to be kept")
        retention: ObjectLockRetentionTypeDef = {"Mode": wanted.mode.value, "RetainUntilDate": until}
        names = tuple(keys)
        if not names:
            self._check_lock(retention)
        with ThreadPoolExecutor(LOCKS_AT_ONCE, thread_name_prefix="lock") as pool:
            for _ in pool.map(lambda key: self._lock(key, retention, until), names):
                pass

    def _lock(self, key: str, retention: "ObjectLockRetentionTypeDef", until: datetime) -> None:
        """An object that the bucket's own rule keeps longer already may refuse a shorter time."""
        try:
            self._retain(key, retention)
        except Permanent as error:
            if error.reason != "AccessDenied" or self._kept_until(key) < until:
                raise

    def _retain(self, key: str, retention: "ObjectLockRetentionTypeDef") -> None:
        """Made again by itself: a store that is busy once must not have thousands of others asked anew."""
        request = lambda: self._client.put_object_retention(**self._named(key), Retention=retention)  # noqa: E731
        patiently(lambda: self._ask(key, request), self._patience)

    def _kept_until(self, key: str) -> datetime:
        answer = self._ask(key, lambda: self._client.head_object(**self._named(key), **self._key_options))
        return answer.get("ObjectLockRetainUntilDate") or NEVER

    def _check_lock(self, retention: "ObjectLockRetentionTypeDef") -> None:
        """Does the bucket have it, and may we? Asked of an object that is not there, since a locked one would stay."""
        bucket = self._location.bucket
        try:
            self._ask(bucket, lambda: self._client.get_object_lock_configuration(Bucket=bucket))
        except Permanent as error:
            if error.reason == "AccessDenied":
                raise
            raise Permanent(
                "ObjectLockUnsupported",
                f"spec.s3.objectLock: bucket {bucket!r} has no Object Lock ({error.reason}); enable it there, which "
                "also needs versioning, or leave objectLock away",
            ) from error
        with suppress(ObjectNotFound):
            self._retain(NO_OBJECT, retention)

    def check(self) -> None:
        patience = self._patience
        client = self._make_client(connect_seconds=patience.connect_seconds, read_seconds=patience.check_read_seconds)
        try:
            answer = self._ask(
                "", lambda: client.list_objects_v2(Bucket=self._location.bucket, Prefix=self._prefix, MaxKeys=1)
            )
        finally:
            client.close()
        if "Name" not in answer and "KeyCount" not in answer:
            raise no_store(self._location)

    def abort_unfinished(self, prefix: str) -> int:
        """Those of processes that died: what a living put gives up, it aborts itself."""
        return sum(self._abort(key, upload) for key, upload in self._unfinished(prefix))

    def _unfinished(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Key and identifier of every upload below the prefix."""
        at = dict[str, Any]()
        while True:
            answer = self._ask(
                "",
                lambda at=at: self._client.list_multipart_uploads(  # type: ignore[misc]
                    Bucket=self._location.bucket, Prefix=self._prefix + prefix, **at
                ),
            )
            for found in answer.get("Uploads", ()):
                yield found["Key"].removeprefix(self._prefix), found["UploadId"]
            if not answer.get("IsTruncated"):
                return
            at = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def _named(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._location.bucket, "Key": self._key(key)}

    def _key(self, key: str) -> str:
        return self._prefix + key

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
        if exists(self, key):
            raise ObjectExists(key)
        return self._ask(key, lambda: request({}))

    def _put_parts(self, key: str, parts: Iterator[Part], condition: Mapping[str, Any]) -> ObjectInfo:
        named, upload = self._named(key), self._start(key)

        def send(number: int, part: Part) -> dict[str, Any]:
            checksum = crc32_of(part)
            told: dict[str, Any] = {**named, "UploadId": upload, "PartNumber": number, "ChecksumCRC32": checksum}
            told |= self._key_options
            request = lambda: self._client.upload_part(**{**told, "Body": PiecewiseBody(part)})  # noqa: E731
            answer = patiently(lambda: self._ask(key, request), self._patience)
            seen = {"ChecksumCRC32": checksum} if "ChecksumCRC32" in answer else {}  # else the store knows none
            with understood(key):
                return {"PartNumber": number, "ETag": answer["ETag"], **seen}

        try:
            done, size_bytes = send_parts(parts, send, in_flight=PARTS_IN_FLIGHT)
            whole = {**named, "UploadId": upload, "MultipartUpload": {"Parts": done}, **self._key_options}
            answer = self._on_condition(
                key, condition, lambda condition: self._client.complete_multipart_upload(**whole, **condition)
            )
        except BaseException:
            self._abort(key, upload)
            raise
        return ObjectInfo(key, size_bytes, answer.get("ETag"))

    def _start(self, key: str) -> str:
        """An upload's identifier. A start whose answer was lost may have made one that nobody knows."""
        options = {**self._named(key), "ChecksumAlgorithm": "CRC32", **self._options, **self._key_options}
        try:
            answer = self._ask(key, lambda: self._client.create_multipart_upload(**options))
            with understood(key):
                return str(answer["UploadId"])
        except Transient:
            with suppress(Transient):  # the store stumbles; what stays is left to `abort_unfinished`
                for found, upload in self._unfinished(key):
                    if found == key:
                        self._abort(key, upload)
            raise

    def _abort(self, key: str, upload: str) -> bool:
        """Parts that stay are paid for and never listed, so a busy store is asked again."""

        def abort() -> None:
            try:
                self._client.abort_multipart_upload(**self._named(key), UploadId=upload)
            except botocore.exceptions.ClientError as error:
                if code_of(error) != "NoSuchUpload":
                    raise

        try:
            patiently(lambda: self._ask(key, abort), self._patience)
        except (Transient, Permanent) as failure:
            log.warning("an unfinished upload of %s stays in the store: %s", key, failure)
            return False
        return True

    def _ask(self, key: str, request: Callable[[], T]) -> T:
        try:
            return request()
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            raise self._failure(error, key) from error

    def _failure(self, error: Exception, key: str) -> Exception:
        return classify(error, key=key, location=self._location)
