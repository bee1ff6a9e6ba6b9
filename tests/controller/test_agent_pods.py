"""What an agent's pod mounts for its location: each Secret under the name its program looks for."""

import pytest

from weaviate_backup.api.location import CUSTOMER_KEY, LocationSpec
from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.controller.agent_pods import AgentImage, Owner, store_worker_pod
from weaviate_backup.core.session import CA_MOUNT, CREDENTIALS_MOUNT

OWNER = Owner(kind="WeaviateBackup", name="b", namespace="n", uid="0123456789")
KEYS = {"credentialsSecretRef": {"name": "keys"}, "caSecretRef": {"name": "authority", "key": "pem"}}
CREDENTIALS = {"secret": {"name": "keys"}}
ENCRYPTION = {"customerKeySecretRef": {"name": "own", "key": "backups"}}
OWN_KEY = {"secret": {"name": "own", "items": [{"key": "backups", "path": CUSTOMER_KEY}], "optional": True}}


@pytest.mark.parametrize(
    ("spec", "sources"),
    [
        ({"s3": {"bucket": "abc", **KEYS}}, [CREDENTIALS]),
        ({"s3": {"bucket": "abc", **KEYS, "serverSideEncryption": ENCRYPTION}}, [CREDENTIALS, OWN_KEY]),
        ({"s3": {"bucket": "abc", "caSecretRef": KEYS["caSecretRef"], "serverSideEncryption": ENCRYPTION}}, [OWN_KEY]),
        ({"gcs": {"bucket": "abc", **KEYS}}, [CREDENTIALS]),
        ({"azure": {"container": "abc", **KEYS}}, [CREDENTIALS]),
    ],
)
def test_secrets_are_mounted_beside_each_other(spec: dict[str, object], sources: list[object]) -> None:
    pod = store_worker_pod(
        OWNER, name="w", location=LocationSpec.model_validate(spec), options=AgentOptions(),
        image=AgentImage("image", "IfNotPresent"), lease_seconds=60, deadline_seconds=60,
    )  # fmt: skip
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert volumes["credentials"]["projected"]["sources"] == sources
    assert volumes["ca"]["secret"] == {
        "secretName": "authority",
        "items": [{"key": "pem", "path": "ca.crt"}],
        "optional": True,
    }
    assert (mounts["credentials"], mounts["ca"]) == (CREDENTIALS_MOUNT, CA_MOUNT)
