"""Multipart uploads to S3: begun, sent, ended or aborted, and those of dead processes found again.

Stores differ most here. The checksum of each part is sent with it and told again at the end, unless a store takes none;
parts are of one size as soon as a store refuses others; and where uploads that nobody ended are listed by their exact
key alone, they are looked for when that key is written.
"""

import itertools
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from weaviate_backup.answers import understood
from weaviate_backup.errors import BackupError, ObjectNotFound, Permanent, Transient
from weaviate_backup.storage.bodies import PiecewiseBody
from weaviate_backup.storage.object_store import ObjectInfo
from weaviate_backup.storage.parts import Part, PartRules, patiently, send_parts
from weaviate_backup.storage.s3_client import crc32_of, md5_of
from weaviate_backup.storage.s3_conversation import Conversation
from weaviate_backup.storage.s3_dialect import Feature, Features, FoundByLooking, explains
from weaviate_backup.storage.s3_failures import refusal_of

MOST_PAGES = 10
"""Of a listing of all unfinished uploads of a bucket, most of which are somebody else's."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """A part in the store. `checksum` went with it; `is_confirmed`: the answer said the same."""

    number: int
    etag: str
    checksum: str | None
    is_confirmed: bool

    def told(self, *, with_checksum: bool) -> dict[str, Any]:
        """As the end of an upload names it."""
        named: dict[str, Any] = {"PartNumber": self.number, "ETag": self.etag}
        return {**named, "ChecksumCRC32": self.checksum} if with_checksum and self.checksum else named


class UnequalParts(Exception):
    """The store wants parts of one size: the object of so many bytes begins again."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes


class ChecksumsRefused(Exception):
    """Of parts, of an upload that was begun with some: the object begins again without."""


def checksum_options(part: Part, uses: Features) -> dict[str, Any]:
    """How a store is told what must arrive."""
    if Feature.CHECKSUM in uses:
        return {"ChecksumCRC32": crc32_of(part.pieces)}
    return {"ContentMD5": md5_of(part.pieces)}


class Uploads:
    """Of one store. `options` are said of an object when it is begun, `key_options` with every request about it."""

    def __init__(
        self, store: Conversation, rules: PartRules, *, options: Mapping[str, Any], key_options: Mapping[str, Any]
    ) -> None:
        self._store, self._rules = store, rules
        self._options, self._key_options = options, key_options
        self._swept: tuple[str, ...] = ()
        self._looked_at: set[str] = set()
        self._lists_by_prefix = False
        self._looking = threading.Lock()

    def put(self, key: str, parts: Iterator[Part], condition: Features, *, checksums: Features) -> ObjectInfo:
        """Raises `UnequalParts` when the store wants parts of one size, and these were not, and `ChecksumsRefused`."""
        upload, uses = self._start(key, checksums)
        sizes = set[int]()

        def send(number: int, part: Part) -> Sent:
            if not part.is_last:
                sizes.add(part.size_bytes)
            return self._send(key, upload, uses, number, part)

        try:
            self._sweep(key, upload)
            done, size_bytes = send_parts(
                parts, send, in_flight_bytes=self._rules.in_flight_bytes, senders=self._rules.senders
            )
            answer = self._complete(key, upload, done, condition, unequal_bytes=size_bytes if len(sizes) > 1 else None)
        except BaseException:
            self._abort(key, upload)
            raise
        return ObjectInfo(key, size_bytes, answer.get("ETag"))

    def condition(self, key: str, wanted: Features, uses: Features) -> dict[str, Any]:
        """How a store is told to write once. One that cannot be is asked before, which leaves a window between the
        question and the write."""
        if Feature.CONDITION in uses:
            return {"IfNoneMatch": "*"}
        if Feature.CONDITION in wanted and self.is_there(key):
            raise FoundByLooking(key)
        return {}

    def is_there(self, key: str) -> bool:
        try:
            self._store.ask(key, lambda client: client.head_object(**self._store.named(key), **self._key_options))
        except ObjectNotFound:
            return False
        return True

    def abort_unfinished(self, prefix: str) -> int:
        """Those of processes that died: what a living put gives up, it aborts itself. A store that lists none by
        prefix is asked for all; and for each key again, once it is written."""
        found = list(self._unfinished(prefix))
        if found:
            self._lists_by_prefix = True
        elif not self._lists_by_prefix:
            self._swept = (*self._swept, prefix)
            with suppress(Permanent):
                found = [each for each in self._unfinished(None) if each[0].startswith(prefix)]
            if found:
                self._store.dialect.note(Feature.UPLOADS_BY_PREFIX)
        return sum(self._abort(key, upload) for key, upload in found)

    def _sweep(self, key: str, mine: str) -> None:
        """Abort other uploads of the key. Whoever had a prefix swept is the only one who writes there, so that they are
        of dead processes. It costs a request and may fail: what stays costs money, and harms nothing."""
        with self._looking:
            swept = next((each for each in self._swept if key.startswith(each)), None)
            if swept is None or self._lists_by_prefix or key in self._looked_at:
                return
            is_first = not self._looked_at
            self._looked_at.add(key)
        with suppress(BackupError):
            if is_first:
                if any(upload == mine for _, upload in self._unfinished(swept)):
                    self._lists_by_prefix = True
                    return
                self._store.dialect.note(Feature.UPLOADS_BY_PREFIX)
            for found, upload in self._unfinished(key):
                if found == key and upload != mine:
                    self._abort(key, upload)

    def _unfinished(self, prefix: str | None) -> Iterator[tuple[str, str]]:
        """Key and identifier of every upload below the prefix; None: of all below the location's path, as a store tells
        that is asked for none."""
        own = self._store.prefix
        wanted = {} if prefix is None else {"Prefix": own + prefix}
        at = dict[str, Any]()
        for page in itertools.count(1):
            answer = self._store.ask(
                "",
                lambda client, at=at: client.list_multipart_uploads(  # type: ignore[misc]
                    Bucket=self._store.bucket, **wanted, **at
                ),
            )
            for found in answer.get("Uploads", ()):
                if found["Key"].startswith(own):
                    yield found["Key"].removeprefix(own), found["UploadId"]
            if not answer.get("IsTruncated") or (prefix is None and page == MOST_PAGES):
                return
            at = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def _start(self, key: str, checksums: Features) -> tuple[str, Features]:
        """An upload's identifier, and with what checksums it was begun. A start whose answer was lost may have made one
        that nobody knows."""
        options = {**self._store.named(key), **self._options, **self._key_options}
        try:
            return self._store.dialect.speak(checksums, lambda uses: (self._begin(key, uses, options), uses))
        except Transient:
            with suppress(Transient):  # the store stumbles; what stays is left to `abort_unfinished`
                for found, upload in self._unfinished(key):
                    if found == key:
                        self._abort(key, upload)
            raise

    def _begin(self, key: str, uses: Features, options: Mapping[str, Any]) -> str:
        told: dict[str, Any] = {"ChecksumAlgorithm": "CRC32"} if Feature.CHECKSUM in uses else {}
        answer = self._store.ask(key, lambda client: client.create_multipart_upload(**options, **told))
        with understood(key):
            return str(answer["UploadId"])

    def _send(self, key: str, upload: str, begun: Features, number: int, part: Part) -> Sent:
        told = {**self._store.named(key), "UploadId": upload, "PartNumber": number, **self._key_options}

        checksum = checksum_options(part, begun)

        def once() -> Sent:
            body: Any = PiecewiseBody(part.pieces)
            answer = self._store.ask(key, lambda client: client.upload_part(**told, **checksum, Body=body))
            with understood(key):
                ours, is_confirmed = checksum.get("ChecksumCRC32"), _is_confirmed(key, checksum, answer)
                return Sent(number, str(answer["ETag"]), ours, is_confirmed)

        try:
            return patiently(once, self._store.patience)
        except Permanent as refusal:
            if Feature.CHECKSUM in begun and explains(Feature.CHECKSUM, refusal):
                raise ChecksumsRefused from refusal  # parts without one may not belong to it
            raise

    def _complete(
        self,
        key: str,
        upload: str,
        done: tuple[Sent, ...],
        condition: Features,
        *,
        unequal_bytes: int | None,
    ) -> Mapping[str, Any]:
        whole = {**self._store.named(key), "UploadId": upload, **self._key_options}

        def request(uses: Features) -> Mapping[str, Any]:
            with_checksums = all(each.is_confirmed for each in done) is (Feature.PART_CHECKSUMS in uses)
            told: Any = [each.told(with_checksum=with_checksums) for each in done]
            wanted = self.condition(key, condition, uses)
            return self._store.ask(
                key,
                lambda client: client.complete_multipart_upload(**whole, MultipartUpload={"Parts": told}, **wanted),
            )

        try:
            return self._store.dialect.speak(condition | {Feature.PART_CHECKSUMS}, request)
        except BackupError as refusal:
            if unequal_bytes is not None and (refusal.reason == "StoreRefused" or refusal_of(refusal).is_of_parts):
                raise UnequalParts(unequal_bytes) from refusal
            raise

    def _abort(self, key: str, upload: str) -> bool:
        """Parts that stay are paid for and never listed, so a busy store is asked again."""

        def once() -> None:
            try:
                self._store.ask(
                    key, lambda client: client.abort_multipart_upload(**self._store.named(key), UploadId=upload)
                )
            except (Transient, Permanent) as failure:
                if refusal_of(failure).code != "NoSuchUpload":
                    raise

        try:
            patiently(once, self._store.patience)
        except (Transient, Permanent) as failure:
            log.warning("an unfinished upload of %s stays in the store: %s", key, failure)
            return False
        return True


def _is_confirmed(key: str, sent: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether the store says that it has the checksum that went with a part. It may say none, or another algorithm's
    alone, or one of all parts, which has a dash; reading back decides then."""
    ours, theirs = sent.get("ChecksumCRC32"), answer.get("ChecksumCRC32")
    if ours is None or not theirs or "-" in str(theirs):
        return False
    if theirs != ours:
        raise Transient("ContentDiffers", f"{key}: a part was sent with CRC32 {ours}, and the store has {theirs}")
    return True
