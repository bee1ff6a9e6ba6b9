"""Where the server's own engine would write is compared with where the location lies; what differs is refused."""

from typing import Any

import pytest

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.server_place import ServerPlace, find_place
from weaviate_backup.core.topology import DataVolume
from weaviate_backup.errors import Permanent

Json = dict[str, Any]
MODULE: Json = {"endpoint": "minio:9000", "bucketName": "backups", "rootName": "weaviate", "useSSL": False}
CLAIM = {"persistentVolumeClaim": {"claimName": "backups"}}


def s3(**changes: Any) -> LocationSpec:
    spec = {"bucket": "backups", "path": "weaviate", "endpoint": "minio:9000", "useSSL": False} | changes
    return LocationSpec.model_validate({"s3": spec})


def place(location: LocationSpec, modules: Json, *, nodes: int = 3, mounts: tuple[DataVolume, ...] = ()) -> ServerPlace:
    return find_place(location, modules, nodes=nodes, mounts=mounts)


@pytest.mark.parametrize(
    ("location", "module", "expected"),
    [
        (s3(), MODULE, ServerPlace("s3")),
        (s3(path="other"), MODULE, ServerPlace("s3", path="other")),
        (s3(bucket="elsewhere"), MODULE, ServerPlace("s3", bucket="elsewhere")),
        (s3(path=""), {**MODULE, "rootName": ""}, ServerPlace("s3")),
        (s3(endpoint="MINIO:80"), {**MODULE, "endpoint": "minio"}, ServerPlace("s3")),
        (s3(endpoint="http://minio:9000/", useSSL=None), MODULE, ServerPlace("s3")),
        (s3(endpoint=None, useSSL=True), {**MODULE, "endpoint": "s3.amazonaws.com", "useSSL": True}, ServerPlace("s3")),
        (
            s3(endpoint="s3.eu-central-1.amazonaws.com", useSSL=True),
            {**MODULE, "endpoint": "s3.amazonaws.com", "useSSL": True},
            ServerPlace("s3"),
        ),
    ],
)
def test_only_what_differs_is_overridden(location: LocationSpec, module: Json, expected: ServerPlace) -> None:
    assert place(location, {"backup-s3": module, "text2vec-cohere": {}}) == expected


def test_the_other_kinds_have_names_of_their_own() -> None:
    gcs = LocationSpec.model_validate({"gcs": {"bucket": "backups", "path": "p"}})
    assert place(gcs, {"backup-gcs": {"bucketName": "backups"}}) == ServerPlace("gcs", path="p")
    azure = LocationSpec.model_validate({"azure": {"container": "backups"}})
    assert place(azure, {"backup-azure": {"containerName": "others"}}) == ServerPlace("azure", bucket="backups")


def test_a_directory_is_found_by_the_volume_that_weaviate_mounts() -> None:
    location = LocationSpec.model_validate({"filesystem": {"volume": CLAIM, "path": "prod"}})
    mounts = (
        DataVolume(source={"emptyDir": {}}, mount_path="/tmp"),
        DataVolume(source=CLAIM, mount_path="/backups"),
    )
    modules = {"backup-filesystem": {"backupsPath": "/backups"}}
    assert place(location, modules, nodes=1, mounts=mounts) == ServerPlace("filesystem", path="/backups/prod")
    with pytest.raises(Permanent, match="is not mounted in Weaviate's pod"):
        place(location, modules, nodes=1)
    with pytest.raises(Permanent, match=r"FilesystemNotShared.*there are 3"):
        place(location, modules, mounts=mounts)


@pytest.mark.parametrize(
    ("location", "modules", "reason", "words"),
    [
        (s3(), {}, "ServerModuleMissing", "enabled are: none. Add backup-s3 to ENABLE_MODULES"),
        (s3(), {"backup-gcs": {}}, "ServerModuleMissing", "enabled are: backup-gcs"),
        (
            s3(endpoint="other:9000"),
            {"backup-s3": MODULE},
            "ServerModuleMismatch",
            "BACKUP_S3_ENDPOINT is 'minio:9000'",
        ),
        (s3(useSSL=True), {"backup-s3": MODULE}, "ServerModuleMismatch", "BACKUP_S3_USE_SSL False"),
        (s3(path=""), {"backup-s3": MODULE}, "ServerModuleMismatch", "BACKUP_S3_PATH is 'weaviate'"),
    ],
)
def test_another_store_is_refused(location: LocationSpec, modules: Json, reason: str, words: str) -> None:
    with pytest.raises(Permanent) as refused:
        place(location, modules)
    assert refused.value.reason == reason
    assert words in refused.value.message


def test_overrides_are_sent_in_the_server_s_spelling() -> None:
    overridden = ServerPlace("s3", bucket="b", path="p")
    assert overridden.query == {"bucket": "b", "path": "p"}
    assert overridden.config == {"Bucket": "b", "Path": "p"}
    assert ServerPlace("s3").query == ServerPlace("s3").config == {}
