"""S3 and what speaks its protocol, through boto3: one client for all verbs, its own retries off.

An object of at most one part goes up in one request, a larger one as a multipart upload with a few parts in flight.
Memory is a number of bytes, whatever an object's size: `parts` says how. A bound of the size, where the caller knows
one, makes parts of one size, so large that the 10,000 allowed reach it. Else parts grow, and an object that is larger
than these reach, or a store that refuses unequal ones, makes the object begin again with parts of one size.

A CRC32 goes with every part, which the store verifies, and with the end of an upload go those of all parts, as AWS asks
of one that was begun with checksums. The signature covers the request but not its body, with or without TLS: that would
be one more SHA-256 on both sides, and what counts is what is read back. What stores do not take of all this is found
out by `s3_dialect`.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, BinaryIO

from weaviate_backup.api.location import S3Location
from weaviate_backup.core.credential_reach import NOBODY, Reach, TrustedHosts
from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent, Transient
from weaviate_backup.storage.authority import kept_as_file
from weaviate_backup.storage.beginning import OF_PROCESS, Beginning
from weaviate_backup.storage.bodies import PiecewiseBody, exact_body
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo
from weaviate_backup.storage.parts import ROOM_BYTES, OutOfParts, Part, PartBytes, PartRules, Room, cut
from weaviate_backup.storage.patience import USUAL, Patience
from weaviate_backup.storage.s3_client import key_options, object_options
from weaviate_backup.storage.s3_conversation import Conversation
from weaviate_backup.storage.s3_dialect import Feature, Features
from weaviate_backup.storage.s3_failures import no_store
from weaviate_backup.storage.s3_lock import ObjectLocks
from weaviate_backup.storage.s3_upload import ChecksumsRefused, UnequalParts, Uploads, checksum_options

PART_BYTES = 8 << 20
RULES = PartRules(
    first_bytes=PART_BYTES,
    in_flight_bytes=4 * PART_BYTES,
    parts_per_size=1000,
    most_parts=10_000,
    largest_bytes=5 << 30,
)
"""10,000 parts of the first size reach 78 GiB, those that grow 273 GiB, the largest 48 TiB."""
DELETE_BATCH = 1000
LIST_PAGE = 1000
DELETING = 16
"""Requests at once, where each object needs one of its own."""
Refused = list[tuple[str, str]]
"""Keys that could not be deleted, and why."""


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
        beginning: Beginning = OF_PROCESS,
        rules: PartRules = RULES,
    ) -> None:
        self._store = Conversation(
            location,
            credentials=credentials,
            ca_file=kept_as_file(ca_pem, owner=self) if ca_pem else None,
            reach=Reach("s3", trusted, own_authority=ca_pem is not None),
            patience=patience,
            beginning=beginning,
        )
        self._options = object_options(location)
        self._key_options = key_options(location, credentials)
        self._rules, self._room = rules, Room(ROOM_BYTES)
        self._unknown_bytes = 0
        """The most that an object had whose size nobody had told, and which had to begin again."""
        self._locks = ObjectLocks(self._store, key_options=self._key_options)
        self._uploads = Uploads(self._store, rules, options=self._options, key_options=self._key_options)

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        condition: Features = frozenset({Feature.CONDITION}) if if_absent else frozenset()
        checksums: Features = frozenset({Feature.CHECKSUM})
        known_bytes, lacking = at_most_bytes, set[Feature]()
        while True:
            try:
                put = self._put(key, make_blocks, condition, self._part_bytes(known_bytes), checksums - lacking)
            except OutOfParts as end:
                known_bytes = self._unknown_bytes = max(self._unknown_bytes, self._rules.beyond(end))
            except UnequalParts as refused:
                known_bytes = refused.size_bytes
                self._unknown_bytes = max(self._unknown_bytes, known_bytes)
                lacking.add(Feature.UNEQUAL_PARTS)
            except ChecksumsRefused:
                lacking.add(Feature.CHECKSUM)
            else:
                self._store.dialect.note(*lacking)
                return put

    def _part_bytes(self, known_bytes: int | None) -> PartBytes:
        """Of one size as soon as something is known of the object, or of the store."""
        if known_bytes is None and not self._store.dialect.lacks(Feature.UNEQUAL_PARTS):
            return self._rules.growing
        return self._rules.equal(self._unknown_bytes if known_bytes is None else known_bytes)

    def _put(
        self, key: str, make_blocks: MakeBlocks, condition: Features, part_bytes: PartBytes, checksums: Features
    ) -> ObjectInfo:
        parts = cut(make_blocks(), part_bytes, self._room, most_parts=self._rules.most_parts)
        first = next(parts)
        try:
            if first.is_last:
                return self._put_whole(key, first, condition | checksums)
            if condition and self._uploads.is_there(key):
                raise ObjectExists(key)  # before the bytes go up; the condition at the end decides
            return self._uploads.put(key, chain((first,), parts), condition, checksums=checksums)
        finally:
            first.clear()

    def _put_whole(self, key: str, whole: Part, wanted: Features) -> ObjectInfo:
        options = {**self._store.named(key), **self._options, **self._key_options}

        def request(uses: Features) -> ObjectInfo:
            told = {**checksum_options(whole, uses), **self._uploads.condition(key, wanted, uses)}

            def put(client: Any) -> Any:
                return client.put_object(**options, **told, Body=PiecewiseBody(whole.pieces))

            answer = self._store.ask(key, put)
            return ObjectInfo(key, whole.size_bytes, answer.get("ETag"))

        return self._store.dialect.speak(wanted, request)

    @contextmanager
    def open(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        if length == 0:
            yield io.BytesIO()
            return
        wanted: dict[str, Any] = {}
        if start or length is not None:
            wanted["Range"] = f"bytes={start}-" if length is None else f"bytes={start}-{start + length - 1}"
        answer = self._store.ask(
            key, lambda client: client.get_object(**self._store.named(key), **self._key_options, **wanted)
        )
        body, found_bytes = answer["Body"], answer.get("ContentLength")
        try:
            failure = partial(self._store.failure, key=key)
            yield exact_body(body.read, found_bytes, failure, key=key, start=start, length=length)
        finally:
            body.close()

    def stat(self, key: str) -> ObjectInfo:
        answer = self._store.ask(key, lambda client: client.head_object(**self._store.named(key), **self._key_options))
        return ObjectInfo(key, answer["ContentLength"], answer.get("ETag"))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        own = self._store.prefix
        token: dict[str, Any] = {}
        while True:
            answer = self._store.ask(
                "",
                lambda client, token=token: client.list_objects_v2(  # type: ignore[misc]
                    Bucket=self._store.bucket, Prefix=own + prefix, MaxKeys=LIST_PAGE, **token
                ),
            )
            for found in answer.get("Contents", ()):
                yield ObjectInfo(found["Key"].removeprefix(own), found["Size"], found.get("ETag"))
            if not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, keys: Iterable[str]) -> None:
        wanted = tuple(keys)
        refused: list[tuple[str, str]] = []
        for at in range(0, len(wanted), DELETE_BATCH):
            batch = wanted[at : at + DELETE_BATCH]
            refused += self._store.dialect.speak(
                frozenset({Feature.BATCH_DELETION}),
                lambda uses, batch=batch: (  # type: ignore[misc]
                    self._delete_together(batch) if Feature.BATCH_DELETION in uses else self._delete_singly(batch)
                ),
            )
        if refused:
            said = f"{len(refused)} objects could not be deleted, first {' ('.join(refused[0])})"
            if {code for _, code in refused} == {"AccessDenied"}:
                raise Permanent("AccessDenied", f"{said}; the identity needs to delete objects")
            raise Transient("DeleteIncomplete", said)

    def _delete_together(self, keys: Sequence[str]) -> Refused:
        objects = [{"Key": self._store.prefix + key} for key in keys]
        answer = self._store.ask(
            "",
            lambda client: client.delete_objects(
                Bucket=self._store.bucket,
                Delete={"Objects": objects, "Quiet": True},  # type: ignore[typeddict-item]
            ),
        )
        found = [(str(each.get("Key")), str(each.get("Code"))) for each in answer.get("Errors", ())]
        return [each for each in found if each[1] != "NoSuchKey"]

    def _delete_singly(self, keys: Sequence[str]) -> Refused:
        """Raises only when none could be."""

        def delete(key: str) -> BackupError | None:
            try:
                self._store.ask(key, lambda client: client.delete_object(**self._store.named(key)))
            except ObjectNotFound:
                return None
            except BackupError as error:
                return error
            return None

        with ThreadPoolExecutor(DELETING, thread_name_prefix="delete") as pool:
            failed = [(key, error) for key, error in zip(keys, pool.map(delete, keys), strict=True) if error]
        if failed and len(failed) == len(keys):
            raise failed[0][1]
        return [(key, error.reason) for key, error in failed]

    def lock(self, keys: Iterable[str], until: datetime) -> None:
        self._locks.lock(tuple(keys), until)

    def check(self) -> None:
        answer = self._store.check(
            lambda client: client.list_objects_v2(Bucket=self._store.bucket, Prefix=self._store.prefix, MaxKeys=1)
        )
        if "Name" not in answer and "KeyCount" not in answer:
            raise no_store(self._store.location)

    def abort_unfinished(self, prefix: str) -> int:
        return self._uploads.abort_unfinished(prefix)
