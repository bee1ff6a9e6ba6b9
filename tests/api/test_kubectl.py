"""What a person sees: the tables of `kubectl get`, short names, categories, `explain` and field selectors."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.api.objects import MINIMAL, Json, manifest
from tests.api_server import ApiServer

from weaviate_backup.api.backup import BackupPhase, BackupStatus
from weaviate_backup.api.conditions import progressing, ready
from weaviate_backup.api.location_status import LocationStatus
from weaviate_backup.api.model import ApiModel, dump
from weaviate_backup.api.restore import RestorePhase, RestoreStatus
from weaviate_backup.api.status import Progress

pytestmark = pytest.mark.kubernetes

NAMESPACE = "columns"
NOW = datetime.now(UTC)
STATUSES: dict[str, ApiModel] = {
    "WeaviateBackup": BackupStatus(
        phase=BackupPhase.UPLOADING,
        conditions=progressing((), reason="UploadingChunks", message="", generation=1, now=NOW),
        progress=Progress(percent=42),
        size="1.25Gi",
        duration="3m12s",
        backup_id="nightly",
        start_time=NOW,
    ),
    "WeaviateRestore": RestoreStatus(
        phase=RestorePhase.COMPLETED,
        conditions=ready((), reason="Restored", message="", generation=1, now=NOW),
        progress=Progress(percent=100),
        size="2.5Gi",
        duration="1m",
        backup_id="nightly",
        start_time=NOW,
        completion_time=NOW,
    ),
    "WeaviateBackupLocation": LocationStatus(
        conditions=ready((), reason="Probed", message="", generation=1, now=NOW),
        kind="s3",
        address="s3://backups",
        last_probe_time=NOW,
    ),
}


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> Iterator[ApiServer]:
    """One object of each kind, with a status."""
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for kind, status in STATUSES.items():
        body = manifest(kind, MINIMAL[kind], namespace=NAMESPACE)
        assert api_server.apply(body)[0] == 201
        change: Json = {"status": dump(status)}
        path = api_server.path_of(body) + "/status"
        assert api_server.request("PATCH", path, change, content_type="application/merge-patch+json")[0] == 200
    yield api_server


def table(server: ApiServer, *arguments: str) -> tuple[list[str], list[str]]:
    """Header and first row, cell by cell; no cell of ours holds a blank."""
    lines = server.kubectl("get", "--namespace", NAMESPACE, *arguments).stdout.splitlines()
    return lines[0].split(), lines[1].split()


def without_ages(header: list[str], row: list[str]) -> dict[str, str]:
    ages = {"AGE", "STARTED", "FINISHED", "PROBED"}
    return {name: cell for name, cell in zip(header, row, strict=True) if name not in ages}


@pytest.mark.parametrize(
    ("short_name", "cells"),
    [
        (
            "wvb",
            {
                "NAME": "nightly",
                "PHASE": "Uploading",
                "TARGET": "weaviate",
                "LOCATION": "bucket",
                "PROGRESS": "42",
                "SIZE": "1.25Gi",
                "DURATION": "3m12s",
            },
        ),
        (
            "wvr",
            {
                "NAME": "nightly",
                "PHASE": "Completed",
                "TARGET": "weaviate",
                "BACKUP-ID": "nightly",
                "PROGRESS": "100",
                "SIZE": "2.5Gi",
                "DURATION": "1m",
            },
        ),
        ("wvbl", {"NAME": "nightly", "READY": "True", "KIND": "s3", "ADDRESS": "s3://backups"}),
    ],
)
def test_table(server: ApiServer, short_name: str, cells: dict[str, str]) -> None:
    header, row = table(server, short_name)
    assert "AGE" in header
    assert without_ages(header, row) == cells


def test_wide_table_says_why_and_when(server: ApiServer) -> None:
    header, row = table(server, "wvr", "--output=wide")
    cells = dict(zip(header, row, strict=True))
    assert (cells["REASON"], cells["DRY-RUN"]) == ("Restored", "false")
    assert {"STARTED", "FINISHED"} <= set(header)


@pytest.mark.parametrize("category", ["weaviate", "backup"])
def test_categories_list_all_kinds(server: ApiServer, category: str) -> None:
    names = server.kubectl("get", category, "--namespace", NAMESPACE, "--output=name").stdout.split()
    assert sorted(name.partition(".")[0] for name in names) == [
        "weaviatebackup",
        "weaviatebackuplocation",
        "weaviaterestore",
    ]


@pytest.mark.parametrize(
    ("resource", "selector"),
    [
        ("wvb", "spec.target.statefulSet=weaviate"),
        ("wvb", "spec.locationRef.name=bucket"),
        ("wvr", "spec.source.backupRef.name=nightly"),
        ("wvbl", "spec.readOnly=false"),
    ],
)
def test_field_selectors(server: ApiServer, resource: str, selector: str) -> None:
    command = ("get", resource, "--namespace", NAMESPACE, "--output=name", "--field-selector")
    field = selector.partition("=")[0]
    assert len(server.kubectl(*command, selector).stdout.split()) == 1
    assert server.kubectl(*command, f"{field}=nothing").stdout.split() == []


def test_explain_tells_what_a_field_is(server: ApiServer) -> None:
    told = server.kubectl("explain", "weaviatebackups.spec.config").stdout
    assert "Size in MiB at which a chunk is full, 2 to 512." in " ".join(told.split())
