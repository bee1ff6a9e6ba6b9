"""As whom a store is asked: found by whoever grants rights, and no secret."""

import json

import pytest

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.store_identity import identity_of

SECRET = "wJalrXUtnFEMI-not-to-be-seen"
S3 = {"s3": {"bucket": "backups"}}
GCS = {"gcs": {"bucket": "backups"}}
AZURE = {"azure": {"container": "backups", "account": "own"}}
DOCUMENT = {"type": "service_account", "client_email": "saver@project.iam", "private_key": SECRET}


@pytest.mark.parametrize(
    ("spec", "credentials", "said"),
    [
        (S3, {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}, "access key AKIA…MPLE"),
        (S3, {"AWS_ACCESS_KEY_ID": "minioadmin"}, "access key mi…"),
        (S3, {}, "the cloud identity of service account default, or of the node"),
        ({**S3, "serviceAccountName": "saver"}, {}, "the cloud identity of service account saver, or of the node"),
        ({"gcs": {"bucket": "backups", "useAuth": False}}, {}, "anonymous"),
        (GCS, {"GOOGLE_APPLICATION_CREDENTIALS": json.dumps(DOCUMENT)}, "service account saver@project.iam"),
        (GCS, {"GOOGLE_APPLICATION_CREDENTIALS": '{"type": "external_account"}'}, "workload identity federation"),
        (GCS, {"GOOGLE_APPLICATION_CREDENTIALS": SECRET}, "an unreadable key"),
        (GCS, {}, "the cloud identity of service account default, or of the node"),
        (AZURE, {"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": SECRET}, "the key of account acc"),
        (
            AZURE,
            {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=acc;AccountKey={SECRET}=="},
            "the key of account acc",
        ),
        (
            AZURE,
            {"AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint=https://x;SharedAccessSignature=sig={SECRET}"},
            "a shared access signature",
        ),
        (AZURE, {}, "the cloud identity of service account default, or of the node"),
        ({"filesystem": {"volume": {"nfs": {"server": "nas", "path": "/"}}}}, {}, "user 65532:0"),
    ],
)
def test_identity(spec: dict[str, object], credentials: dict[str, str], said: str) -> None:
    everything = {"AWS_SECRET_ACCESS_KEY": SECRET, **credentials}
    found = identity_of(LocationSpec.model_validate(spec), everything, user="65532:0")
    assert found == said
    assert SECRET not in found
