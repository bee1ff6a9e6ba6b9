"""Two locations are told apart by where their objects lie, however they are written."""

from typing import Any

import pytest

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.copy_plan import belongs_to_copy, place_of, refuse_overlap
from weaviate_backup.errors import Permanent

S3 = {"bucket": "backups", "path": "prod"}
GCS = {"gcs": S3}
AZURE = {"azure": {"container": "backups", "path": "prod"}}
DIRECTORY = {"filesystem": {"path": "prod", "volume": {"nfs": {"server": "nas", "path": "/"}}}}


def place(spec: dict[str, Any], **known: str) -> str:
    return place_of(LocationSpec.model_validate(spec), **known)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (place({"s3": S3}), place({"s3": {**S3, "path": "/prod/", "region": "eu-central-1"}})),
        (place({"s3": {**S3, "endpoint": "http://minio:9000"}}), place({"s3": {**S3, "endpoint": "minio:9000"}})),
        (place(GCS), place(GCS)),
        (place(AZURE, account="one"), place({"azure": {**AZURE["azure"], "account": "one"}})),
        (place(DIRECTORY, directory="/mnt"), place(DIRECTORY, directory="/mnt/")),
        (place({"s3": S3}), place({"s3": {**S3, "path": "prod/nightly"}})),
        (place({"s3": {"bucket": "backups"}}), place({"s3": {**S3, "path": "nightly"}})),
    ],
)
def test_a_copy_never_lies_in_itself(one: str, other: str) -> None:
    for source, target in ((one, other), (other, one)):
        with pytest.raises(Permanent, match="SameLocation"):
            refuse_overlap(source, target, ["nightly"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (place({"s3": S3}), place({"s3": {**S3, "path": "prod2"}})),
        (place({"s3": S3}), place({"s3": {**S3, "path": ""}})),
        (place({"s3": S3}), place({"s3": {**S3, "endpoint": "minio:9000"}})),
        (place({"s3": S3}), place(GCS)),
        (place(AZURE, account="one"), place(AZURE, account="two")),
        (place(DIRECTORY, directory="/mnt/one"), place(DIRECTORY, directory="/mnt/two")),
    ],
)
def test_other_places_are_let_be(one: str, other: str) -> None:
    refuse_overlap(one, other, ["nightly"])


def test_what_is_beside_a_backup_stays_where_it_is() -> None:
    keys = ["b/backup_config.json", "b/restore_config.json", "b/n0/", "b/manifest.json", "b/n0/backup.json"]
    assert [key for key in keys if belongs_to_copy("b", key)] == ["b/manifest.json", "b/n0/backup.json"]
