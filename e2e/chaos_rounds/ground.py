"""The lab as a round uses it: its addresses now, its store behind the line, and whether all of it is well."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import urllib3
from e2e.chaos_rounds.store_line import StoreLine
from e2e.cluster import manifests
from e2e.cluster.kubectl import Kubectl, KubectlError
from e2e.cluster.surroundings import Surroundings
from e2e.dataset.weaviate_http import Weaviate, WeaviateError
from e2e.lab.plan import OPERATOR_NAMESPACE

T = TypeVar("T")
OPERATOR = "deployment/weaviate-backup-operator"
OPERATOR_LABEL = "app.kubernetes.io/name=weaviate-backup-operator"
AGENT_LABEL = "app.kubernetes.io/name=weaviate-backup-agent"
LOCATION = "chaos"
LEASE_SECONDS = 30
"""Of agents that nobody asks: the shortest that the operator takes, so that the world heals in a minute."""
WELL_SECONDS = 240
FAILURES = (KubectlError, WeaviateError, urllib3.exceptions.HTTPError, OSError, subprocess.TimeoutExpired)


class NotWell(Exception):
    """The cluster did not come back; the message says what is missing."""


def patiently(act: Callable[[], T], *, seconds: float = 90) -> T:
    """Again and again, as long as the API server or a pod does not answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except FAILURES:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@dataclass
class Ground:
    """`lab` has the addresses of now; they change when pods are made anew."""

    lab: Surroundings
    line: StoreLine

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.lab.namespace)

    @property
    def operator_kubectl(self) -> Kubectl:
        return Kubectl(OPERATOR_NAMESPACE)

    @property
    def weaviate(self) -> Weaviate:
        return Weaviate(self.lab.weaviate_urls[0], read_seconds=60)

    def prepare(self) -> None:
        """Short leases, and the location behind the line."""
        self.operator_kubectl.run("set", "env", OPERATOR, f"WVB_AGENT_LEASE_SECONDS={LEASE_SECONDS}")
        self.operator_kubectl.run("rollout", "status", OPERATOR, "--timeout=300s", timeout_seconds=310)
        endpoint = f"{self.lab.store.host_and_port.split(':')[0]}:{self.line.port}"
        location = manifests.s3_location(LOCATION, self.lab.store, secret_name=LOCATION, endpoint=endpoint)
        patiently(lambda: self.kubectl.apply(manifests.secret(LOCATION, self.lab.store), location))
        self.kubectl.wait("weaviatebackuplocation", LOCATION, "condition=Ready", timeout_seconds=300)

    def refresh(self) -> None:
        """Learns the pods' addresses."""
        pods = {pod["metadata"]["name"]: pod["status"] for pod in self.kubectl.items("pods")}
        addresses = [pods.get(name, {}).get("podIP") for name in self.lab.weaviate_nodes]
        if not all(addresses):
            raise NotWell(f"pods have no addresses: {addresses}")
        self.lab = replace(self.lab, weaviate_urls=tuple(f"http://{address}:8080" for address in addresses))

    def delete_pod(self, name: str) -> None:
        """With a second of grace, so that its successor never meets it on the volume."""
        self.kubectl.run("delete", "pod", name, "--grace-period=1", "--wait=false", "--ignore-not-found")

    def restart_weaviate(self) -> None:
        """In order, so that all that was acknowledged is on the volumes: the server keeps its last writes to an index
        in memory."""
        for name in self.lab.weaviate_nodes:
            self.kubectl.run("delete", "pod", name, "--grace-period=60", "--wait=true", timeout_seconds=90)
        self.wait_until_well()

    def wait_until_well(self, *, seconds: float = WELL_SECONDS) -> None:
        """Nodes, operator, Weaviate and location, as before the round."""
        deadline = time.monotonic() + seconds
        while missing := self._missing():
            if time.monotonic() > deadline:
                raise NotWell("; ".join(missing))
            time.sleep(1)

    def _missing(self) -> list[str]:
        try:
            return [*self._nodes(), *self._operator(), *self._location(), *self._weaviate()]
        except (*FAILURES, NotWell) as error:
            return [str(error)]

    def _nodes(self) -> list[str]:
        nodes = self.kubectl.everywhere("nodes")
        return [f"node {node['metadata']['name']} is not ready" for node in nodes if not _is_ready(node)]

    def _operator(self) -> list[str]:
        pods = self.kubectl.everywhere("pods", [OPERATOR_LABEL])
        return [] if len(pods) == 1 and _is_ready(pods[0]) else [f"{len(pods)} operator pods"]

    def _location(self) -> list[str]:
        location = self.kubectl.get("weaviatebackuplocation", LOCATION)
        return [] if location and _is_ready(location) else [f"location {LOCATION} is not ready"]

    def _weaviate(self) -> list[str]:
        pods = [pod for pod in self.kubectl.items("pods") if pod["metadata"]["name"] in self.lab.weaviate_nodes]
        ready = [pod for pod in pods if _is_ready(pod)]
        if len(ready) < len(self.lab.weaviate_nodes):
            return [f"{len(ready)} Weaviate pods are ready"]
        self.refresh()
        for url in self.lab.weaviate_urls:
            Weaviate(url, read_seconds=10).wait_until_synchronized(nodes=len(pods), timeout_seconds=2)
        return []


def _is_ready(resource: Any) -> bool:
    conditions = resource.get("status", {}).get("conditions", [])
    gone = resource["metadata"].get("deletionTimestamp")
    return not gone and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
