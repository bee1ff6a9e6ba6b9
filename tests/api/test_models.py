"""Models read what users write, and write what Kubernetes reads."""

import pytest
from tests.api.objects import FULL, MINIMAL

from weaviate_backup.api.backup import Backup, BackupPhase, BackupSpec
from weaviate_backup.api.config import CompressionLevel, RestoreOption
from weaviate_backup.api.durations import parse_duration, show_bytes, show_duration
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.model import ApiModel, api_name, dump
from weaviate_backup.api.restore import RestorePhase, RestoreSpec

MODELS: dict[str, type[ApiModel]] = {
    "WeaviateBackup": BackupSpec,
    "WeaviateRestore": RestoreSpec,
    "WeaviateBackupLocation": LocationSpec,
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_spec_survives_reading_and_writing(kind: str) -> None:
    written = dump(MODELS[kind].model_validate(FULL[kind]))
    assert {name: value for name, value in written.items() if value != []} == FULL[kind]


def test_defaults_are_weaviate_s() -> None:
    spec = BackupSpec.model_validate(MINIMAL["WeaviateBackup"])
    assert (spec.config.cpu_percentage, spec.config.chunk_size) == (50, 128)
    assert spec.config.compression_level is CompressionLevel.ZSTD_BEST_SPEED
    assert spec.target.stateful_set == "weaviate"
    restore = RestoreSpec.model_validate(MINIMAL["WeaviateRestore"])
    assert restore.config.roles_options is RestoreOption.NO_RESTORE


def test_fields_of_a_newer_schema_are_ignored() -> None:
    spec = BackupSpec.model_validate({**MINIMAL["WeaviateBackup"], "later": {"a": 1}})
    assert "later" not in dump(spec)


def test_an_object_without_status_has_just_begun() -> None:
    backup = Backup.model_validate({"metadata": {"name": "nightly"}, "spec": MINIMAL["WeaviateBackup"]})
    assert backup.status.phase is BackupPhase.PENDING
    assert backup.spec.effective_backup_id("nightly") == "nightly"


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("backup_id", "backupID"),
        ("use_ssl", "useSSL"),
        ("block_size_mib", "blockSizeMiB"),
        ("kms_key_id", "kmsKeyID"),
        ("eta_seconds", "etaSeconds"),
        ("pod_uid", "podUID"),
        ("manifest_sha256", "manifestSHA256"),
        ("id", "id"),
    ],
)
def test_initialisms_are_spelt_as_kubernetes_does(field: str, name: str) -> None:
    assert api_name(field) == name


def test_there_are_three_terminal_phases() -> None:
    ends = {"Completed", "Failed", "Canceled"}
    assert {phase for phase in BackupPhase if phase.is_terminal} == ends
    assert {phase for phase in RestorePhase if phase.is_terminal} == ends
    assert not RestorePhase.APPLYING.is_cancelable


@pytest.mark.parametrize(
    ("spec", "address", "secret"),
    [
        (FULL["WeaviateBackupLocation"], "s3://backups/weaviate/prod", "backup-s3"),
        ({"gcs": {"bucket": "backups", "path": "/a/"}}, "gs://backups/a", None),
        ({"azure": {"container": "backups", "credentialsSecretRef": {"name": "az"}}}, "azure://backups", "az"),
        ({"filesystem": {"volume": {"nfs": {"server": "nas", "path": "/"}}, "path": "x"}}, "file://nfs/x", None),
        ({}, "", None),
    ],
)
def test_a_location_says_where_it_is(spec: dict[str, object], address: str, secret: str | None) -> None:
    location = LocationSpec.model_validate(spec)
    assert (location.address, location.credentials_secret) == (address, secret)
    assert (location.kind in spec) == bool(spec)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("1h30m", 5400), ("24h", 86400), ("500ms", 0.5), ("0s", 0), ("1m1s1ms", 61.001)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "1d", "PT1H", "1h ", "-1h", "1.5h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (42.9, "42s"),
        (192, "3m12s"),
        (3600, "1h"),
        (7500, "2h5m"),
        (97_200, "1d3h"),
        (86_401, "1d"),
        (-1, "0s"),
    ],
)
def test_durations_are_shown(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1.00Ki"), (1_310_720, "1.25Mi"), (40_157_999_104, "37.4Gi"), (10**21, "867Ei")],
)
def test_sizes_are_shown(size_bytes: int, text: str) -> None:
    assert show_bytes(size_bytes) == text
