"""Azure Blob Storage through azure-storage-blob: one client for all verbs, its own retries off.

An object of at most one block goes up in one request, a larger one as blocks, a few at once, that a list of
them makes a blob. Blocks of a put that was given up are no blob and appear in no listing; Azure forgets them within a
week, or as soon as a blob of that name is made. MD5 is sent with every block, and the store checks it.
"""

import io
import itertools
import logging
import secrets
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import requests
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobBlock, ContentSettings, StandardBlobTier

from weaviate_backup.api.location import AzureLocation
from weaviate_backup.core.credential_reach import NOBODY, Reach, TrustedHosts
from weaviate_backup.errors import BackupError, ObjectExists, Permanent, Transient
from weaviate_backup.storage.authority import kept_as_file
from weaviate_backup.storage.azure_access import is_of_agents, new_container
from weaviate_backup.storage.azure_failures import classify, holds_secret, is_of_identity
from weaviate_backup.storage.beginning import OF_PROCESS, Beginning
from weaviate_backup.storage.bodies import PiecewiseBody
from weaviate_backup.storage.connections import body_of
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo, exists, key_prefix, lock_unsupported
from weaviate_backup.storage.pages import next_page
from weaviate_backup.storage.parts import (
    ROOM_BYTES,
    OutOfParts,
    Part,
    PartBytes,
    PartRules,
    Room,
    cut,
    patiently,
    send_parts,
)
from weaviate_backup.storage.patience import USUAL, Patience

USUAL_BLOCK_BYTES = 8 << 20
USUAL_BYTES_IN_FLIGHT = 24 << 20
"""Of one object, when the location says nothing of its concurrency."""
BLOCKS_PER_SIZE = 10_000
MOST_BLOCKS = 50_000
LARGEST_BLOCK_BYTES = 4000 << 20
DELETE_BATCH = 256
LIST_PAGE = 1000
FOLDER = "hdi_isfolder"
"""Metadata of what is a folder in a hierarchical namespace."""
DELETED = frozenset({200, 202, 404})
DENIED = frozenset({400, 401, 403, 405, 501})
"""Answers to a batch, or to each in it, that single requests may not get."""
BATCH_REFUSALS = frozenset({"AccessDenied", "InvalidCredentials", "StoreRefused", "OperationUnsupported"})
DELETING = 16
"""Requests at once, where each blob needs one of its own."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class AzureStore:
    """An `ObjectStore` below `path` of a container."""

    def __init__(
        self,
        location: AzureLocation,
        *,
        credentials: Mapping[str, str],
        ca_pem: bytes | None = None,
        patience: Patience = USUAL,
        trusted: TrustedHosts = NOBODY,
        beginning: Beginning = OF_PROCESS,
    ) -> None:
        self._location, self._patience = location, patience
        self._beginning, self._of_agents = beginning, is_of_agents(credentials)
        self._prefix = key_prefix(location.path)
        self._rules = part_rules(location)
        self._room = Room(max(ROOM_BYTES, self._rules.in_flight_bytes + self._rules.first_bytes))
        ca_file = kept_as_file(ca_pem, owner=self) if ca_pem else None
        self._container = new_container(
            location,
            credentials,
            whole_bytes=self._rules.first_bytes,
            ca_file=ca_file,
            patience=patience,
            reach=Reach("azure", trusted, own_authority=ca_pem is not None),
        )
        weakref.finalize(self, self._container.close)
        self._options = _object_options(location)
        self._in_batches = True

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        known_bytes = at_most_bytes
        while True:
            part_bytes = self._rules.growing if known_bytes is None else self._rules.equal(known_bytes)
            try:
                return self._put(key, make_blocks, part_bytes, if_absent=if_absent)
            except OutOfParts as end:
                known_bytes = self._rules.beyond(end)

    def _put(self, key: str, make_blocks: MakeBlocks, part_bytes: PartBytes, *, if_absent: bool) -> ObjectInfo:
        parts = cut(make_blocks(), part_bytes, self._room, most_parts=self._rules.most_parts)
        first = next(parts)
        try:
            if first.is_last and first.size_bytes <= self._rules.first_bytes:
                return self._put_whole(key, first, if_absent=if_absent)
            if if_absent and exists(self, key):
                raise ObjectExists(key)  # before the bytes go up; the condition at the end decides
            return self._put_blocks(key, itertools.chain((first,), parts), if_absent=if_absent)
        finally:
            first.clear()

    def _put_whole(self, key: str, whole: Part, *, if_absent: bool) -> ObjectInfo:
        content = b"".join(whole.pieces)
        whole.pieces.clear()
        answer = self._ask(
            key,
            lambda: self._blob(key).upload_blob(
                content, overwrite=not if_absent, validate_content=True, **self._options
            ),
        )
        return ObjectInfo(key, len(content), answer.get("etag"))

    @contextmanager
    def open(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        if length == 0:
            yield io.BytesIO()
            return
        wanted = {"offset": start, "length": length} if start or length is not None else {}
        answer = self._ask(key, lambda: _begun(self._blob(key), wanted))
        with answer:
            yield body_of(answer, lambda error: self._failure(error, key), key=key, start=start, length=length)

    def stat(self, key: str) -> ObjectInfo:
        found: Any = self._ask(key, self._blob(key).get_blob_properties)
        return ObjectInfo(key, found.size, found.etag)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """But for the folders that an account with a hierarchical namespace (Data Lake) makes by itself."""
        pages = self._container.list_blobs(
            name_starts_with=self._prefix + prefix, include=["metadata"], results_per_page=LIST_PAGE
        ).by_page()
        while (page := self._ask("", lambda: next_page(pages))) is not None:
            for blob in page:
                if FOLDER not in (blob.metadata or {}):
                    yield ObjectInfo(blob.name.removeprefix(self._prefix), blob.size, blob.etag)

    def delete(self, keys: Iterable[str]) -> None:
        names = [self._prefix + key for key in keys]
        refused: list[tuple[str, int]] = []
        for at in range(0, len(names), DELETE_BATCH):
            batch = names[at : at + DELETE_BATCH]
            answers = self._delete_some(batch)
            refused += [(name, status) for name, status in zip(batch, answers, strict=True) if status not in DELETED]
        if refused:
            kind = Permanent if {status for _, status in refused} <= {400, 401, 403, 409, 412} else Transient
            name, status = refused[0]
            raise kind("DeleteIncomplete", f"{len(refused)} objects could not be deleted, first {name} ({status})")

    def abort_unfinished(self, prefix: str) -> int:
        """Blocks of dead processes are no blobs, and go by themselves."""
        del prefix
        return 0

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        raise lock_unsupported("azure")

    def check(self) -> None:
        found = self._container.list_blobs(
            name_starts_with=self._prefix or None,
            results_per_page=1,
            connection_timeout=self._patience.connect_seconds,
            read_timeout=self._patience.check_read_seconds,
        )
        self._ask("", lambda: next(found.by_page(), None))

    def _delete_some(self, names: Sequence[str]) -> tuple[int, ...]:
        """What was answered for each. Azure refuses a batch to some credentials that may delete: a signature of the
        container, a token. When it does so, as a whole or to each in it, they are deleted singly; from then on, when
        that works."""
        if self._in_batches:
            refusal: Permanent | None = None
            try:
                answers = self._ask("", lambda: self._delete_batch(names)) or (0,)
            except Permanent as error:
                if error.reason not in BATCH_REFUSALS:
                    raise
                refusal = error
            else:
                if not set(answers) <= DENIED:
                    return answers if len(answers) == len(names) else answers[:1] * len(names)
            first = self._delete_singly(names[:1])
            if set(first) <= DENIED:
                if refusal is not None:
                    raise refusal
                return first * len(names)
            log.warning("the store takes no deletion of many blobs by one request: each is deleted by its own")
            self._in_batches = False
            return first + self._delete_singly(names[1:])
        return self._delete_singly(names)

    def _delete_batch(self, names: Sequence[str]) -> tuple[int, ...]:
        """What was answered for each. The client forgets that an account may be named in the path of the endpoint."""
        path = urlsplit(self._container.url).path.strip("/").rpartition("/")[0]
        prefix: dict[str, Any] = {"url_prepend": path} if path else {}
        answers = self._container.delete_blobs(*names, delete_snapshots="include", raise_on_any_failure=False, **prefix)
        return tuple(int(answer.status_code) for answer in answers)

    def _delete_singly(self, names: Sequence[str]) -> tuple[int, ...]:
        def delete(name: str) -> int:
            try:
                self._container.get_blob_client(name).delete_blob(delete_snapshots="include")
            except HttpResponseError as error:
                if error.status_code is None:
                    raise
                return error.status_code
            return min(DELETED)

        with ThreadPoolExecutor(DELETING, thread_name_prefix="delete") as pool:
            return self._ask("", lambda: tuple(pool.map(delete, names)))

    def _put_blocks(self, key: str, parts: Iterator[Part], *, if_absent: bool) -> ObjectInfo:
        blob = self._blob(key)
        put = secrets.token_hex(8)  # blocks of another writer of the same blob have other names, of the same length

        def send(number: int, part: Part) -> BlobBlock:
            name = f"{put}-{number:06}"
            request = lambda: blob.stage_block(name, PiecewiseBody(part.pieces), validate_content=True)  # noqa: E731
            patiently(lambda: self._ask(key, request), self._patience)
            return BlobBlock(block_id=name)

        blocks, size_bytes = send_parts(
            parts, send, in_flight_bytes=self._rules.in_flight_bytes, senders=self._rules.senders
        )
        condition = {"match_condition": MatchConditions.IfMissing} if if_absent else {}
        answer = self._ask(key, lambda: blob.commit_block_list(list(blocks), **condition, **self._options))
        return ObjectInfo(key, size_bytes, str(answer.get("etag")))

    def _blob(self, key: str) -> Any:
        return self._container.get_blob_client(self._prefix + key)

    def _ask(self, key: str, request: Callable[[], T]) -> T:
        try:
            return request()
        except (AzureError, OSError, ValueError) as error:
            raise self._failure(error, key) from (None if holds_secret(error) else error)

    def _failure(self, error: Exception, key: str) -> BackupError:
        failure = classify(error, key=key, location=self._location)
        if not self._of_agents or not is_of_identity(error):
            return failure
        return self._beginning.judge(failure, within_seconds=self._patience.identity_seconds)


class _Begun(Exception):
    """An answer whose body was not read yet."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__()
        self.answer = answer


def _begun(blob: Any, wanted: Mapping[str, int | None]) -> requests.Response:
    """The answer to one request for all that is wanted, before its body is read.

    The library has no such call: its download asks for some MiB at a time and holds and copies each several times,
    which costs more than half of the speed. Its hook shows every answer as it comes, so the way out of it is there.
    """

    def leave(seen: Any) -> None:
        if seen.http_response.status_code in (200, 206):
            raise _Begun(seen.http_response.internal_response)

    try:
        blob.download_blob(**wanted, raw_response_hook=leave)
    except _Begun as begun:
        return begun.answer
    raise Transient("StoreUnavailable", "the store gave no answer that holds an object")


def part_rules(location: AzureLocation) -> PartRules:
    """Blocks as the location wants them."""
    first_bytes = USUAL_BLOCK_BYTES if location.block_size_mib is None else location.block_size_mib << 20
    in_flight_bytes = USUAL_BYTES_IN_FLIGHT if location.concurrency is None else location.concurrency * first_bytes
    return PartRules(
        first_bytes=first_bytes,
        in_flight_bytes=in_flight_bytes,
        parts_per_size=BLOCKS_PER_SIZE,
        most_parts=MOST_BLOCKS,
        largest_bytes=LARGEST_BLOCK_BYTES,
    )


def _object_options(location: AzureLocation) -> dict[str, Any]:
    """What is said of a blob when it is made."""
    options: dict[str, Any] = {"content_settings": ContentSettings(content_type="application/octet-stream")}
    if location.access_tier:
        options["standard_blob_tier"] = _tier(location.access_tier)
    if location.tags:
        options["tags"] = location.tags
    if location.metadata:
        options["metadata"] = location.metadata
    return options


def _tier(name: str) -> StandardBlobTier:
    found = next((tier for tier in StandardBlobTier if tier.value.lower() == name.lower()), None)
    if found is None:
        known = ", ".join(tier.value for tier in StandardBlobTier)
        raise Permanent("LocationInvalid", f"spec.azure.accessTier {name!r} is none of {known}")
    return found
