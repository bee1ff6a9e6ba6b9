"""The conversation with one S3 store: a client, what is known of the store, and every failure as ours.

Two things are found out here, since they concern every request alike: whether a bucket is named in the path or by the
host, and whether the identity of the agents is there yet.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import botocore.exceptions

from weaviate_backup.answers import understood
from weaviate_backup.api.location import S3Location
from weaviate_backup.core.credential_reach import Reach
from weaviate_backup.errors import BackupError, Permanent
from weaviate_backup.storage.beginning import Beginning, NotYet
from weaviate_backup.storage.object_store import key_prefix
from weaviate_backup.storage.patience import Patience
from weaviate_backup.storage.s3_client import Addressing, first_addressing, may_name_by_host, new_client, new_session
from weaviate_backup.storage.s3_dialect import Dialect
from weaviate_backup.storage.s3_failures import classify, is_of_identity, refusal_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

NO_ANSWER = frozenset({"EndpointUnreachable", "StoreUnavailable", "CertificateRefused"})
T = TypeVar("T")
log = logging.getLogger(__name__)


class Conversation:
    """Of one opened store; for many threads."""

    def __init__(
        self,
        location: S3Location,
        *,
        credentials: Mapping[str, str],
        ca_file: str | None,
        reach: Reach,
        patience: Patience,
        beginning: Beginning,
    ) -> None:
        self.location, self.patience = location, patience
        self.prefix = key_prefix(location.path)
        self.dialect = Dialect()
        self._ca_file, self._reach, self._beginning = ca_file, reach, beginning
        self._of_agents = not credentials.get("AWS_ACCESS_KEY_ID")
        self._session = new_session(credentials)
        self._addressing = first_addressing(location)
        self._changing = threading.RLock()
        self._client: S3Client | None = None
        with suppress(NotYet), self._judged(""):
            self._client_now()

    @property
    def bucket(self) -> str:
        return self.location.bucket

    def named(self, key: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def ask(self, key: str, request: Callable[["S3Client"], T]) -> T:
        """What the store answers. `request` does none of the caller's work: whatever goes wrong in it is judged as the
        store's or the line's, and it may be made twice."""
        addressing = self._addressing
        try:
            with self._judged(key):
                return request(self._client_now())
        except Permanent as refusal:
            if not refusal_of(refusal).is_of_path or not may_name_by_host(self.location, addressing):
                raise
            return self._ask_by_host(key, request, refusal)

    def check(self, request: Callable[["S3Client"], T]) -> T:
        """The same with little patience, on connections of its own."""
        patience = self.patience

        def asked(_: "S3Client") -> T:
            client = self._new_client(patience.connect_seconds, patience.check_read_seconds)
            try:
                return request(client)
            finally:
                client.close()

        return self.ask("", asked)

    def failure(self, error: Exception, key: str) -> BackupError:
        """Of an error of the client's, also while a body is read."""
        failure = classify(error, key=key, location=self.location)
        if not self._of_agents or not is_of_identity(error):
            return failure
        self._client = None  # one that found no credentials when it was made never looks again
        return self._beginning.judge(failure, within_seconds=self.patience.identity_seconds)

    def _ask_by_host(self, key: str, request: Callable[["S3Client"], T], refusal: Permanent) -> T:
        """One thread after the other. It stays so unless nobody answers there, or with the same refusal."""
        with self._changing:
            before = self._addressing, self._client
            if self._addressing is not Addressing.HOST:
                log.warning("the store refuses buckets in paths: they are named by the host")
                self._addressing, self._client = Addressing.HOST, None
            try:
                with self._judged(key):
                    answer = request(self._client_now())
            except BackupError as failure:
                if failure.reason in NO_ANSWER or refusal_of(failure).is_of_path:
                    self._addressing, self._client = before
                    raise refusal from failure
                raise
            return answer

    def _client_now(self) -> "S3Client":
        client = self._client
        if client is None:
            with self._changing:
                client = self._client
                if client is None:
                    client = self._client = self._new_client(self.patience.read_seconds, self.patience.read_seconds)
        return client

    def _new_client(self, connect_seconds: float, read_seconds: float) -> "S3Client":
        with self._changing:  # sessions are for one thread at a time
            try:
                return new_client(
                    self._session,
                    self.location,
                    self._ca_file,
                    self._reach,
                    addressing=self._addressing,
                    connect_seconds=connect_seconds,
                    read_seconds=read_seconds,
                )
            except ValueError as error:  # of an address that is none
                raise self.failure(error, "") from error

    @contextmanager
    def _judged(self, key: str) -> Iterator[None]:
        with understood(key or f"bucket {self.bucket}"):
            try:
                yield
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
                raise self.failure(error, key) from error
