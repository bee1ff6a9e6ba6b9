"""Opening a store loads the client library of its kind, and no other."""

import json
import subprocess
import sys

import pytest

SECRETS = {
    "AWS_ACCESS_KEY_ID": "k",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AZURE_STORAGE_ACCOUNT": "a",
    "AZURE_STORAGE_KEY": "a2V5",
}
LIBRARIES = {"boto3", "google.cloud.storage", "azure.storage.blob", "azure.identity"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"s3": {"bucket": "abc"}}, {"boto3"}),
        ({"gcs": {"bucket": "abc", "useAuth": False}}, {"google.cloud.storage"}),
        ({"azure": {"container": "abc"}}, {"azure.storage.blob"}),
        ({"filesystem": {"volume": {"nfs": {"server": "nas", "path": "/"}}}}, set()),
    ],
)
def test_only_the_library_in_use_is_loaded(spec: dict[str, object], expected: set[str]) -> None:
    script = f"""
import json, sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.storage.factory import open_store
open_store(LocationSpec.model_validate({spec!r}), credentials={SECRETS!r}, filesystem_root=Path("/tmp"))
print(json.dumps([name for name in {sorted(LIBRARIES)!r} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == expected
