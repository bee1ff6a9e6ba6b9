"""Stores to copy between: directories, and buckets of one real S3 server behind a line that a test may spoil."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.agent.foreign_backup import ForeignBackup
from tests.s3_server import S3Server, running_s3_server
from tests.storage.faulty_line import Line, faulty_line
from tests.stored.own_backup import own_backup

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.stored.copying import Copied, copy_backup
from weaviate_backup.stored.passage import CopyOptions, Passage

numbers = itertools.count()
BIG = {f"lsm/objects/segment-{number}.db": bytes([number]) * 1000 * number for number in range(1, 8)}


@dataclass(frozen=True)
class Bucket:
    """One on a real server. `directory` is where its objects are files, `line` what lies between."""

    store: ObjectStore
    directory: Path
    line: Line
    location: LocationSpec


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3_server(tmp_path_factory.mktemp("s3") / "data") as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> Iterator[Bucket]:
    name = f"copies-{next(numbers)}"
    s3.make_bucket(name)
    with faulty_line(s3.endpoint) as line:
        spec = {"bucket": name, "path": "prod", "endpoint": line.address, "useSSL": False}
        location = LocationSpec.model_validate({"s3": spec})
        store = open_store(location, credentials=s3.credentials)
        yield Bucket(store, s3.directory / name / "prod", line, location)


def directory_store(root: Path) -> ObjectStore:
    location = LocationSpec.model_validate({"filesystem": {"volume": {"hostPath": {"path": "/backups"}}}})
    root.mkdir(exist_ok=True)
    return open_store(location, credentials={}, filesystem_root=root)


@pytest.fixture
def own(tmp_path: Path) -> ForeignBackup:
    """A backup with manifests, in a directory."""
    return own_backup(tmp_path / "source", "nightly", files=BIG)


def contents(root: Path) -> dict[str, bytes]:
    """Every object below a directory."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def copied(source: Path, target: Path, backup_id: str = "nightly", **wishes: object) -> tuple[Copied, ...]:
    passage = Passage(directory_store(source), directory_store(target), CopyOptions(**wishes))  # type: ignore[arg-type]
    return copy_backup(passage, backup_id)
