"""A Kubernetes API of the chart's own, since helm takes over no definitions that somebody else applied."""

from collections.abc import Iterator

import pytest
from tests.api_server import ApiServer
from tests.chart.rendering import CHART, NAMESPACE, RELEASE, Json, helm

from weaviate_backup.api.crd import definitions


class Cluster:
    """An API server on which the release can be installed."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def install(
        self, values: Json | None = None, *flags: str, release: str = RELEASE, namespace: str = NAMESPACE
    ) -> str:
        """Install or upgrade, and wait for our kinds; what helm said, its notes included."""
        command = ("upgrade", "--install", release, str(CHART), "--create-namespace", *flags)
        said = self._helm(*command, namespace=namespace, values=values or {})
        self.server.await_crds(list(definitions().values()))
        return said

    def uninstall(self, *, release: str = RELEASE, namespace: str = NAMESPACE) -> str:
        return self._helm("uninstall", release, namespace=namespace)

    def _helm(self, *arguments: str, namespace: str, values: Json | None = None) -> str:
        access = (f"--kubeconfig={self.server.kubeconfig}", f"--namespace={namespace}")
        done = helm(*arguments, *access, values=values)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Without our kinds, until the chart brings them."""
    with ApiServer(tmp_path_factory.mktemp("chart") / "kubernetes") as server:
        yield Cluster(server)
