"""A namespace of a real API server with locations in it, and a real S3 server that they name."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.agent.foreign_backup import ForeignBackup
from tests.api_server import ApiServer, Json
from tests.s3_server import S3Server, running_s3_server
from tests.stored.conftest import BIG
from tests.stored.own_backup import own_backup

from weaviate_backup.api.names import API_VERSION

numbers = itertools.count()


@dataclass(frozen=True)
class Cluster:
    """What a person with a kubeconfig reaches."""

    server: ApiServer
    namespace: str
    s3: S3Server

    def apply(self, kind: str, name: str, *, namespace: str | None = None, **content: Json) -> None:
        metadata = {"name": name, "namespace": namespace or self.namespace}
        version = "v1" if kind == "Secret" else API_VERSION
        status, answer = self.server.apply({"apiVersion": version, "kind": kind, "metadata": metadata, **content})
        assert status in (200, 201), answer

    def bucket(self, name: str, *, namespace: str | None = None, **changes: object) -> Path:
        """A location of that name over a bucket of its own; the directory where its objects lie."""
        bucket = f"{name}-{next(numbers)}"
        self.s3.make_bucket(bucket)
        reference = {"credentialsSecretRef": {"name": "keys"}}
        spec = {"bucket": bucket, "path": "prod", "endpoint": self.s3.endpoint, "useSSL": False, **reference}
        self.apply("WeaviateBackupLocation", name, namespace=namespace, spec={"s3": spec, **changes})
        return self.s3.directory / bucket / "prod"

    def make_namespace(self, name: str) -> None:
        self.server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        self.apply("Secret", "keys", namespace=name, stringData=dict(self.s3.credentials))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3_server(tmp_path_factory.mktemp("s3") / "data") as server:
        yield server


@pytest.fixture
def cluster(api_server: ApiServer, s3: S3Server) -> Cluster:
    cluster = Cluster(api_server, f"plugin-{next(numbers)}", s3)
    cluster.make_namespace(cluster.namespace)
    return cluster


@pytest.fixture
def backup(cluster: Cluster) -> ForeignBackup:
    """With manifests, at the location `here`."""
    return own_backup(cluster.bucket("here"), "nightly", files=BIG)
