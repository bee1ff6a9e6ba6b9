"""Every kind of store behind a line that fails, and beside it the same store on a sound line, to see what is true."""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from tests.azure_server import running_azure_server
from tests.gcs_server import running_gcs_server
from tests.s3_server import running_s3_server
from tests.storage.dialects import AZURE, GCS, S3, Dialect
from tests.storage.faulty_line import Fits, Line, faulty_line

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.patience import Patience

BUCKET = "faulty"
READ_SECONDS = 1.0
IMPATIENT = Patience(
    connect_seconds=1, read_seconds=READ_SECONDS, attempts=4, first_wait_seconds=0.01, longest_wait_seconds=1
)
SLOW_READ_SECONDS = 5.0
PATIENT = Patience(connect_seconds=1, read_seconds=SLOW_READ_SECONDS, first_wait_seconds=0.01)
"""For tests in which a busy machine must not look like a silent store."""
numbers = itertools.count()


@dataclass(frozen=True)
class Trial:
    """`store` is behind the line, `truth` is not; `open` makes one behind it that waits longer or shorter.
    `unfinished` asks the server for uploads that nobody ended."""

    line: Line
    dialect: Dialect
    open: Callable[[Patience], ObjectStore]
    store: ObjectStore
    truth: ObjectStore
    unfinished: Callable[[], int]
    credentials: dict[str, str]
    location: LocationSpec

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(value for name, value in self.credentials.items() if name.endswith("KEY"))

    def key(self) -> str:
        return f"object-{next(numbers)}"


def _trial(
    line: Line, dialect: Dialect, sound: LocationSpec, credentials: dict[str, str], unfinished: Callable[[], int]
) -> Trial:
    faulty = LocationSpec.model_validate(_through(line, sound.model_dump(mode="json", by_alias=True)))

    def through_line(patience: Patience) -> ObjectStore:
        return open_store(faulty, credentials=credentials, patience=patience)

    return Trial(
        line=line,
        dialect=dialect,
        open=through_line,
        store=through_line(IMPATIENT),
        truth=open_store(sound, credentials=credentials),
        unfinished=unfinished,
        credentials=credentials,
        location=faulty,
    )


def _through(line: Line, location: dict[str, Any]) -> dict[str, Any]:
    """The same location at the line's address."""
    (kind, given) = next((kind, given) for kind, given in location.items() if given is not None)
    return {kind: {**given, "endpoint": re.sub(r"[\w.]+:\d+", line.address, given["endpoint"])}}


@contextmanager
def s3_trial(directory: Path) -> Iterator[Trial]:
    with running_s3_server(directory / "data") as server, faulty_line(server.endpoint) as line:
        server.make_bucket(BUCKET)
        unfinished = partial(unfinished_uploads, server.endpoint, server.credentials, BUCKET)
        yield _trial(line, S3, LocationSpec(s3=server.location(BUCKET)), server.credentials, unfinished)


def nth(fits: Fits, number: int) -> Fits:
    """Only the request of that number, counted from one, of those that fit and that no earlier rule took."""
    counted = itertools.count(1)
    return lambda request: fits(request) and next(counted) == number


def unfinished_uploads(endpoint: str, credentials: dict[str, str], bucket: str) -> int:
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{endpoint}",
        region_name="us-east-1",
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
    )
    return len(client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


@contextmanager
def gcs_trial(directory: Path) -> Iterator[Trial]:
    with running_gcs_server(directory) as server, faulty_line(server.endpoint.removeprefix("http://")) as line:
        server.make_bucket(BUCKET)
        sound = server.location(BUCKET)
        yield _trial(line, GCS, LocationSpec(gcs=sound), {}, lambda: 0)


@contextmanager
def azure_trial(directory: Path) -> Iterator[Trial]:
    with running_azure_server(directory) as server, faulty_line(urlsplit(server.endpoint).netloc) as line:
        server.make_container(BUCKET)
        sound = server.location(BUCKET).model_copy(update={"block_size_mib": 8, "concurrency": 4})
        yield _trial(line, AZURE, LocationSpec(azure=sound), server.credentials, lambda: 0)


TRIALS = {"s3": s3_trial, "gcs": gcs_trial, "azure": azure_trial}
