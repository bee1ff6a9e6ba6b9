"""Object Lock of S3: what completes a backup is kept from being deleted or replaced, by whoever asks."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from weaviate_backup.errors import ObjectNotFound, Permanent
from weaviate_backup.storage.parts import patiently
from weaviate_backup.storage.s3_conversation import Conversation

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectLockRetentionTypeDef

LOCKS_AT_ONCE = 16
NO_OBJECT = ".weaviate-backup-no-object"
"""A key that nobody writes."""
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class ObjectLocks:
    """Of one store."""

    def __init__(self, store: Conversation, *, key_options: Mapping[str, Any]) -> None:
        self._store, self._key_options = store, key_options

    def lock(self, keys: Sequence[str], until: datetime) -> None:
        """Without keys: prove that it could be done."""
        wanted = self._store.location.object_lock
        if wanted is None:
            raise Permanent("ObjectLockUnsupported", "spec.s3.objectLock says nothing of how objects are to be kept")
        retention: ObjectLockRetentionTypeDef = {"Mode": wanted.mode.value, "RetainUntilDate": until}
        if not keys:
            self._check(retention)
        with ThreadPoolExecutor(LOCKS_AT_ONCE, thread_name_prefix="lock") as pool:
            for _ in pool.map(lambda key: self._lock(key, retention, until), keys):
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
        named = self._store.named(key)
        patiently(
            lambda: self._store.ask(key, lambda client: client.put_object_retention(**named, Retention=retention)),
            self._store.patience,
        )

    def _kept_until(self, key: str) -> datetime:
        named = self._store.named(key)
        answer = self._store.ask(key, lambda client: client.head_object(**named, **self._key_options))
        return answer.get("ObjectLockRetainUntilDate") or NEVER

    def _check(self, retention: "ObjectLockRetentionTypeDef") -> None:
        """Does the bucket have it, and may we? Asked of an object that is not there, since a locked one would stay."""
        bucket = self._store.bucket
        try:
            self._store.ask(bucket, lambda client: client.get_object_lock_configuration(Bucket=bucket))
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
