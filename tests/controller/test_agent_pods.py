"""What an agent's pod mounts for its location: each Secret under the name its program looks for."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from weaviate_backup.api.location import CUSTOMER_KEY, LocationSpec, SecretKeyReference
from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.controller.agent_pods import (
    AgentImage,
    Owner,
    leaf_keys,
    pod_name,
    store_worker_pod,
)
from weaviate_backup.controller.certificates import issue
from weaviate_backup.controller.operation_secrets import mounted_by_agents
from weaviate_backup.core.orders import PROBING_WORKERS
from weaviate_backup.core.session import CA_MOUNT, CREDENTIALS_MOUNT, SIGNING_MOUNT
from weaviate_backup.core.topology import ClusterAuth
from weaviate_backup.errors import Permanent
from weaviate_backup.settings import AgentSettings

OWNER = Owner(kind="WeaviateBackup", name="b", namespace="n", uid="0123456789")
KEYS = {"credentialsSecretRef": {"name": "keys"}, "caSecretRef": {"name": "authority", "key": "pem"}}
IMAGE = AgentImage("image", "IfNotPresent")
ENCRYPTION = {"customerKeySecretRef": {"name": "own", "key": CUSTOMER_KEY}}


def source(secret: str, *keys: str) -> dict[str, object]:
    """Nothing but these keys, under their own names."""
    return {"secret": {"name": secret, "items": [{"key": key, "path": key} for key in keys], "optional": True}}


S3 = source("keys", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
GCS = source("keys", "GOOGLE_APPLICATION_CREDENTIALS")
AZURE = source("keys", "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY")
OWN_KEY = source("own", CUSTOMER_KEY)
SPLIT = {"credentialKeyRefs": [{"name": "one", "key": "AWS_ACCESS_KEY_ID"}, {"name": "prod-db", "key": "password"}]}


def pod_for(spec: dict[str, object], image: AgentImage = IMAGE) -> Any:
    return store_worker_pod(
        OWNER, name="w", location=LocationSpec.model_validate(spec), options=AgentOptions(),
        image=image, lease_seconds=60, deadline_seconds=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "sources"),
    [
        ({"s3": {"bucket": "abc", **KEYS}}, [S3]),
        ({"s3": {"bucket": "abc", **KEYS, "serverSideEncryption": ENCRYPTION}}, [S3, OWN_KEY]),
        ({"s3": {"bucket": "abc", "caSecretRef": KEYS["caSecretRef"], "serverSideEncryption": ENCRYPTION}}, [OWN_KEY]),
        ({"gcs": {"bucket": "abc", **KEYS}}, [GCS]),
        ({"s3": {"bucket": "abc", "caSecretRef": KEYS["caSecretRef"], **SPLIT}}, [source("one", "AWS_ACCESS_KEY_ID")]),
        ({"azure": {"container": "abc", **KEYS}}, [AZURE]),
    ],
)
def test_secrets_are_mounted_beside_each_other(spec: dict[str, object], sources: list[object]) -> None:
    pod = pod_for(spec)
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert volumes["credentials"]["projected"]["sources"] == sources
    assert volumes["ca"]["secret"] == {
        "secretName": "authority",
        "items": [{"key": "pem", "path": "ca.crt"}],
        "optional": True,
    }
    assert (mounts["credentials"], mounts["ca"]) == (CREDENTIALS_MOUNT, CA_MOUNT)


def test_no_pod_takes_another_key_for_a_customers() -> None:
    """Of a location that was stored before its schema refused it."""
    encryption = {"customerKeySecretRef": {"name": "prod-db", "key": "password"}}
    with pytest.raises(Permanent, match=r"SecretNotMeant: .*customerKeySecretRef\.key 'password'"):
        pod_for({"s3": {"bucket": "abc", "serverSideEncryption": encryption}})


def test_agents_learn_from_the_installer_alone_which_hosts_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = pod_for({"s3": {"bucket": "abc"}}, AgentImage("image", "IfNotPresent", "minio.example.com,*.internal"))
    for each in pod["spec"]["containers"][0]["env"]:
        monkeypatch.setenv(each["name"], each["value"])
    assert AgentSettings.from_environment().trusted_store_hosts == "minio.example.com,*.internal"
    monkeypatch.setenv("WVB_TRUSTED_STORE_HOSTS", "https://minio")
    with pytest.raises(ValidationError, match="'https://minio' is no host to trust"):
        AgentSettings.from_environment()


def test_no_node_s_name_is_in_the_way_of_another_s_or_of_ours() -> None:
    """Nodes may be called as our files and as pods of ours are."""
    nodes = ("ca", "store-0", "plan.json", "cluster.username", "agent-ca")
    names = {node: pod_name(OWNER, node, nodes) for node in (*nodes, *PROBING_WORKERS)}
    assert len(set(names.values())) == len(nodes) + len(PROBING_WORKERS)
    made = issue(OWNER.uid, names, now=datetime.now(UTC), valid_seconds=60)
    data = mounted_by_agents(made, ClusterAuth(username="u", password="p"))
    assert data["ca.crt"].encode() == made.ca_pem
    assert len(data) == 3 + 2 * len(names)
    for node, leaf in made.agents.items():
        assert [data[key].encode() for key in leaf_keys(node)] == [leaf.certificate_pem, leaf.key_pem]


def test_operations_whose_uids_begin_alike_have_pods_of_their_own() -> None:
    first, other = (replace(OWNER, uid=f"1b4e28ba-2fa1-4{variant}d2-883f-0016d3cca427") for variant in ("1", "2"))
    assert pod_name(first, "weaviate-0", ("weaviate-0",)) != pod_name(other, "weaviate-0", ("weaviate-0",))
    assert len(pod_name(first, PROBING_WORKERS[1], ())) <= 63


@pytest.mark.parametrize("signs", [True, False])
def test_the_signing_key_is_in_no_pod_that_was_not_given_it(signs: bool) -> None:
    """The location names it in both."""
    location = {"s3": {"bucket": "abc"}, "signing": {"keySecretRef": {"name": "signer", "key": "pem"}}}
    pod = store_worker_pod(
        OWNER, name="w", location=LocationSpec.model_validate(location), options=AgentOptions(),
        image=AgentImage("image", "IfNotPresent"), lease_seconds=60, deadline_seconds=60,
        signing=SecretKeyReference(name="signer", key="pem") if signs else None,
    )  # fmt: skip
    volumes = [volume["secret"] for volume in pod["spec"]["volumes"] if volume["name"] == "signing"]
    mounts = [mount for mount in pod["spec"]["containers"][0]["volumeMounts"] if mount["mountPath"] == SIGNING_MOUNT]
    assert ("signer" in str(pod)) == signs
    if signs:
        assert volumes == [{"secretName": "signer", "items": [{"key": "pem", "path": "key"}], "optional": True}]
        assert [mount["readOnly"] for mount in mounts] == [True]
