"""Google Cloud Storage through google-cloud-storage: one signed session for all verbs, the library's own retries off.

A small object goes up in one request, a larger one streams into a resumable session, which Google allows a condition on
(`ifGenerationMatch=0`, unlike parts that are put together) and which leaves nothing behind. Many objects go up at once,
so one stream for each costs no throughput. CRC32C of the whole is checked by us, and of small objects by the store.
"""

import io
import itertools
import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import google.auth.exceptions
import requests
import urllib3.exceptions
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import storage

from weaviate_backup.api.location import GcsLocation
from weaviate_backup.core.credential_reach import NOBODY, Reach, TrustedHosts
from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent, Transient
from weaviate_backup.storage.authority import kept_as_file
from weaviate_backup.storage.beginning import OF_PROCESS, Beginning
from weaviate_backup.storage.connections import body_of
from weaviate_backup.storage.gcs_access import endpoint_of, is_of_surroundings, new_session
from weaviate_backup.storage.gcs_failures import answer_failure, classify, is_of_identity, no_bucket
from weaviate_backup.storage.gcs_upload import Upload
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo, exists, key_prefix, lock_unsupported
from weaviate_backup.storage.pages import next_page
from weaviate_backup.storage.patience import USUAL, Patience

SMALL_BYTES = 8 << 20
"""At most what the library sends in one request."""
LIST_PAGE = 1000
DELETING = 16
CONTENT_TYPE = "application/octet-stream"

os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
# else the library asks for the bucket in a thread of its own, which nobody may be allowed to, for a trace nobody takes

T = TypeVar("T")
_FAILURES = (
    GoogleAPICallError, google.auth.exceptions.GoogleAuthError, requests.RequestException,
    urllib3.exceptions.HTTPError, OSError, ValueError,
)  # fmt: skip


class GcsStore:
    """An `ObjectStore` below `path` of a bucket."""

    def __init__(
        self,
        location: GcsLocation,
        *,
        credentials: Mapping[str, str],
        ca_pem: bytes | None = None,
        patience: Patience = USUAL,
        trusted: TrustedHosts = NOBODY,
        beginning: Beginning = OF_PROCESS,
    ) -> None:
        self._location, self._patience = location, patience
        self._beginning, self._of_agents = beginning, is_of_surroundings(location, credentials)
        self._prefix = key_prefix(location.path)
        ca_file = kept_as_file(ca_pem, owner=self) if ca_pem else None
        reach = Reach("gcs", trusted, own_authority=ca_pem is not None)
        self._session: Any = new_session(location, credentials, ca_file, reach)
        weakref.finalize(self, self._session.close)
        self._client = storage.Client(
            project=location.project or "none",  # no request depends on it
            credentials=self._session.credentials,
            client_options={"api_endpoint": endpoint_of(location)},
            _http=self._session,
        )
        self._bucket = self._client.bucket(location.bucket)
        self._timeout = (patience.read_seconds, patience.read_seconds)  # the first counts while a request is sent, too

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        del at_most_bytes  # nothing is cut
        blocks = make_blocks()
        head = _head(blocks)
        if sum(map(len, head)) <= SMALL_BYTES:
            return self._put_whole(key, b"".join(head), if_absent=if_absent)
        if if_absent and exists(self, key):
            raise ObjectExists(key)  # before the bytes go up; the condition at the end decides
        return self._put_stream(key, itertools.chain(head, blocks), if_absent=if_absent)

    @contextmanager
    def open(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        if length == 0:
            yield io.BytesIO()
            return
        headers = {"Accept-Encoding": "identity"}
        if start or length is not None:
            headers["Range"] = f"bytes={start}-" if length is None else f"bytes={start}-{start + length - 1}"
        answer = self._request(
            "GET", self._url(f"/download/storage/v1/b/{{bucket}}/o/{quote(self._prefix + key, safe='')}"),
            key=key, expected=(200, 206), params={"alt": "media"}, headers=headers, stream=True,
        )  # fmt: skip
        with answer:
            yield body_of(answer, lambda error: self._failure(error, key), key=key, start=start, length=length)

    def stat(self, key: str) -> ObjectInfo:
        blob = self._bucket.blob(self._prefix + key)
        self._ask(key, lambda: blob.reload(timeout=self._timeout, retry=None))
        return ObjectInfo(key, int(blob.size), blob.etag)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = self._client.list_blobs(
            self._bucket, prefix=self._prefix + prefix, timeout=self._timeout, retry=None,
            fields="items(name,size,etag),nextPageToken", page_size=LIST_PAGE,
        )  # fmt: skip
        pages = iter(found.pages)
        while (page := self._ask("", lambda: next_page(pages))) is not None:
            for blob in page:
                yield ObjectInfo(blob.name.removeprefix(self._prefix), int(blob.size), blob.etag)

    def delete(self, keys: Iterable[str]) -> None:
        with ThreadPoolExecutor(DELETING, thread_name_prefix="delete") as pool:
            outcomes = list(pool.map(self._delete, keys))
        failures = [failure for failure in outcomes if failure is not None]
        if failures:
            kind = Permanent if all(isinstance(failure, Permanent) for failure in failures) else Transient
            raise kind("DeleteIncomplete", f"{len(failures)} objects could not be deleted, first {failures[0]}")

    def abort_unfinished(self, prefix: str) -> int:
        """Sessions of dead processes appear nowhere, cost nothing, and go by themselves."""
        del prefix
        return 0

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        raise lock_unsupported("gcs")

    def check(self) -> None:
        timeout = (self._patience.connect_seconds, self._patience.check_read_seconds)
        found = self._client.list_blobs(
            self._bucket, prefix=self._prefix, max_results=1, timeout=timeout, retry=None, fields="items(name)"
        )
        self._ask("", lambda: list(found))

    def _put_whole(self, key: str, content: bytes, *, if_absent: bool) -> ObjectInfo:
        blob = self._bucket.blob(self._prefix + key, kms_key_name=self._location.kms_key_name)
        blob.storage_class = self._location.storage_class
        blob.metadata = self._location.metadata or None

        def upload() -> str | None:
            blob.upload_from_string(
                content,
                content_type=CONTENT_TYPE,
                if_generation_match=0 if if_absent else None,
                checksum="crc32c",
                timeout=self._timeout,
                retry=None,
            )
            return blob.etag  # type: ignore[no-any-return]

        return ObjectInfo(key, len(content), self._begin(key, upload))

    def _put_stream(self, key: str, blocks: Iterator[bytes], *, if_absent: bool) -> ObjectInfo:
        begun = self._begin(
            key,
            lambda: self._request(
                "POST", self._url("/upload/storage/v1/b/{bucket}/o"), key=key, expected=(200, 201),
                params=self._upload_options(key, if_absent=if_absent), data=json.dumps(self._described(key)),
                headers={"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Type": CONTENT_TYPE},
            ),
        )  # fmt: skip
        session = begun.headers.get("Location")
        if not session:
            raise Transient("StoreUnavailable", f"{key}: the store began an upload and did not say where")
        upload = Upload(self._request, session, key)
        try:
            stored = upload.send(blocks)
        except BaseException:
            upload.cancel()
            raise
        if trouble := upload.differs():
            self._request(
                "DELETE", self._url(f"/storage/v1/b/{{bucket}}/o/{quote(self._prefix + key, safe='')}"), key=key,
                expected=(200, 204, 404, 412), params={"ifGenerationMatch": stored.get("generation")},
            )  # fmt: skip
            raise Transient("ContentDiffers", f"{key}: {trouble}; it was deleted")
        return ObjectInfo(key, int(stored["size"]), stored.get("etag"))

    def _described(self, key: str) -> dict[str, Any]:
        described: dict[str, Any] = {"name": self._prefix + key, "contentType": CONTENT_TYPE}
        if self._location.storage_class:
            described["storageClass"] = self._location.storage_class
        if self._location.metadata:
            described["metadata"] = self._location.metadata
        return described

    def _upload_options(self, key: str, *, if_absent: bool) -> dict[str, str]:
        options = {"uploadType": "resumable", "name": self._prefix + key}
        if if_absent:
            options["ifGenerationMatch"] = "0"
        if self._location.kms_key_name:
            options["kmsKeyName"] = self._location.kms_key_name
        return options

    def _delete(self, key: str) -> BackupError | None:
        blob = self._bucket.blob(self._prefix + key)
        try:
            self._ask(key, lambda: blob.delete(timeout=self._timeout, retry=None))
        except ObjectNotFound:
            return None
        except BackupError as error:
            return error
        return None

    def _url(self, path: str) -> str:
        return str(self._client.api_endpoint) + path.format(bucket=quote(self._location.bucket, safe=""))

    def _request(
        self, method: str, url: str, *, key: str, expected: tuple[int, ...], **options: Any
    ) -> requests.Response:
        answer: requests.Response = self._ask(
            key, lambda: self._session.request(method, url, timeout=self._timeout, allow_redirects=False, **options)
        )
        if answer.status_code in expected:
            return answer
        with answer:
            raise answer_failure(answer, key=key, location=self._location)

    def _ask(self, key: str, request: Callable[[], T]) -> T:
        try:
            return request()
        except _FAILURES as error:
            raise self._failure(error, key) from error
        except (AttributeError, KeyError, TypeError) as error:  # JSON, but of another form than the library reads
            raise self._failure(ValueError("the answer is not Google's"), key) from error

    def _begin(self, key: str, request: Callable[[], T]) -> T:
        """The first request of a put: what is not found then is the bucket."""
        try:
            return self._ask(key, request)
        except ObjectNotFound as error:
            raise no_bucket(self._location) from error

    def _failure(self, error: Exception, key: str) -> BackupError:
        failure = classify(error, key=key, location=self._location)
        if not self._of_agents or not is_of_identity(error):
            return failure
        return self._beginning.judge(failure, within_seconds=self._patience.identity_seconds)


def _head(blocks: Iterator[bytes]) -> list[bytes]:
    """The first blocks, until they are too many for a small object; all of them, if they are not."""
    head: list[bytes] = []
    head_bytes = 0
    while head_bytes <= SMALL_BYTES and (block := next(blocks, None)) is not None:
        head.append(block)
        head_bytes += len(block)
    return head
