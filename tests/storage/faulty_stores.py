"""Every kind of store behind a line that fails, and beside it the same store on a sound line, to see what is true."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from tests.s3_server import S3Server, running_s3_server
from tests.storage.dialects import S3, Dialect
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

    kind: str
    line: Line
    dialect: Dialect
    open: Callable[[Patience], ObjectStore]
    store: ObjectStore
    truth: ObjectStore
    unfinished: Callable[[], int]
    credentials: dict[str, str]
    location: LocationSpec

    def key(self) -> str:
        return f"object-{next(numbers)}"


@contextmanager
def s3_trial(directory: Path) -> Iterator[Trial]:
    with running_s3_server(directory / "data") as server, faulty_line(server.endpoint) as line:
        server.make_bucket(BUCKET)
        sound = server.location(BUCKET)
        faulty = LocationSpec(s3=sound.model_copy(update={"endpoint": line.address}))

        def through_line(patience: Patience) -> ObjectStore:
            return open_store(faulty, credentials=server.credentials, patience=patience)

        yield Trial(
            kind="s3",
            line=line,
            dialect=S3,
            open=through_line,
            store=through_line(IMPATIENT),
            truth=open_store(LocationSpec(s3=sound), credentials=server.credentials),
            unfinished=lambda: unfinished_uploads(server, BUCKET),
            credentials=server.credentials,
            location=faulty,
        )


def nth(fits: Fits, number: int) -> Fits:
    """Only the request of that number, counted from one, of those that fit."""
    counted = itertools.count(1)
    return lambda request: fits(request) and next(counted) == number


def unfinished_uploads(server: S3Server, bucket: str) -> int:
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{server.endpoint}",
        region_name="us-east-1",
        aws_access_key_id=server.credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server.credentials["AWS_SECRET_ACCESS_KEY"],
    )
    return len(client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


TRIALS = {"s3": s3_trial}
