"""What scenarios share: the loaded cluster, operations that must end in one way, and the search for left-overs."""

import itertools
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from e2e.cluster import bucket, manifests
from e2e.cluster.bucket import FileIdentity
from e2e.cluster.diagnosis import diagnosis
from e2e.cluster.following import finish
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.operation_view import OperationView
from e2e.cluster.surroundings import Surroundings
from e2e.dataset.comparison import compare, uneven_replicas
from e2e.dataset.loading import load, remove
from e2e.dataset.observation import Observation, observe, wait_until_answering
from e2e.dataset.shapes import Dataset
from e2e.dataset.weaviate_http import Weaviate

OPERATION_SECONDS = 180
GONE_SECONDS = 60
OPERATOR_LABEL = "app.kubernetes.io/name=weaviate-backup-operator"
AGENT_LABEL = "app.kubernetes.io/name=weaviate-backup-agent"
OUR_KINDS = ("weaviaterestores", "weaviatebackups")


@dataclass
class World:
    """One lab with the data set in it."""

    lab: Surroundings
    kubectl: Kubectl
    weaviate: Weaviate
    dataset: Dataset
    _before: Observation | None = None
    _prefix: str = ""
    _stamp: str = field(default_factory=lambda: secrets.token_hex(2))
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _locations: list[str] = field(default_factory=list)

    def begin(self, test: str) -> None:
        self._prefix = re.sub(r"[^a-z0-9]+", "-", test.lower().removeprefix("test_"))[:30].strip("-")

    def name(self) -> str:
        """Never used before, not even by an earlier run in the same lab."""
        return f"{self._prefix}-{self._stamp}-{next(self._numbers)}"

    def loaded(self) -> Observation:
        """The data set as it is in the cluster; loaded anew if a scenario before has changed it."""
        if self._before is None:
            remove(self.weaviate, self.dataset)
            load(self.weaviate, self.dataset)
            self._before = observe(self.lab.weaviate_urls, self.dataset)
        return self._before

    def forget(self) -> None:
        """The data is no longer what it was."""
        self._before = None

    def remove_data(self) -> None:
        """The accident."""
        self.forget()
        remove(self.weaviate, self.dataset)
        assert self.weaviate.collections() == {}

    def assert_unchanged(self, before: Observation) -> None:
        """All data is there again, as it was; from here on it counts as loaded."""
        wait_until_answering(self.lab.weaviate_urls, [shape.name for shape in self.dataset.shapes])
        after = observe(self.lab.weaviate_urls, self.dataset)
        assert [*compare(before, after), *uneven_replicas(after)] == []
        self._before = before

    def run(self, manifest: manifests.Manifest, *, timeout_seconds: float = OPERATION_SECONDS) -> OperationView:
        """Applied and followed to its end, whatever that is."""
        self.kubectl.apply(manifest)
        return self.finish(manifest, timeout_seconds=timeout_seconds)

    def finish(self, manifest: manifests.Manifest, *, timeout_seconds: float = OPERATION_SECONDS) -> OperationView:
        """The end of one that was applied."""
        kind, name = manifest["kind"].lower(), manifest["metadata"]["name"]
        return finish(self.kubectl, kind, name, timeout_seconds=timeout_seconds)

    def complete(self, manifest: manifests.Manifest) -> OperationView:
        """Applied and followed to Completed; otherwise the test ends with everything a person would look at."""
        return self.assert_completed(self.run(manifest))

    def assert_completed(self, view: OperationView) -> OperationView:
        if not view.is_completed:
            evidence = "\n".join(f"--- {title}\n{text}" for title, text in diagnosis(self.lab))
            raise AssertionError(
                f"{view.kind} {view.name} ended {view.phase}: {view.reason}: {view.message}\n{evidence}"
            )
        return view

    def locate(self, name: str, **options: Any) -> None:
        """A location of its own, with its Secret; gone after the scenario."""
        self._locations.append(name)
        location = manifests.s3_location(name, self.lab.store, secret_name=name, **options)
        self.kubectl.apply(manifests.secret(name, self.lab.store), location)

    def stored(self, backup_id: str = "") -> dict[str, FileIdentity]:
        """Every object of a backup, or of the whole bucket, with what betrays a second write."""
        return bucket.files(self.lab.store, f"{backup_id}/" if backup_id else "")

    def resource(self, kind: str, name: str) -> Any:
        found = self.kubectl.get(kind, name)
        assert found is not None, f"{kind} {name} is gone"
        return found

    def operator_pods(self) -> list[Any]:
        return self.kubectl.everywhere("pods", [OPERATOR_LABEL])

    def kill_operator(self) -> None:
        """As a node failure would: no warning, no grace. The Deployment makes a new one."""
        for pod in self.operator_pods():
            Kubectl(pod["metadata"]["namespace"]).run(
                "delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force"
            )

    def tidy(self) -> None:
        """Our objects are deleted, restores before the backups that they name, locations last."""
        for kind in OUR_KINDS:
            self.kubectl.run("delete", kind, "--all", "--wait=true", timeout_seconds=GONE_SECONDS * 3)
        for name in self._locations:
            self.kubectl.delete("weaviatebackuplocation", name)
            self.kubectl.delete("secret", name)
        self._locations.clear()

    def left_overs(self) -> list[str]:
        """What should be gone and is not, after some patience."""
        deadline = time.monotonic() + GONE_SECONDS
        while (found := self._left_overs()) and time.monotonic() < deadline:
            time.sleep(1)
        return found

    def _left_overs(self) -> list[str]:
        pods = [f"pod {pod['metadata']['name']}" for pod in self.kubectl.items("pods", f"--selector={AGENT_LABEL}")]
        secrets = [
            f"secret {secret['metadata']['name']}"
            for secret in self.kubectl.items("secrets")
            if secret["metadata"]["name"].startswith("wvb-")
        ]
        return [*pods, *secrets, *self.volume_left_overs()]

    def volume_left_overs(self) -> list[str]:
        """Frozen sets, server snapshots and staged restores on the data volumes."""
        found = []
        for ordinal in range(len(self.lab.weaviate_urls)):
            root = self.lab.volume(ordinal)
            candidates = [
                *root.glob(".replica-staging-*"),
                *root.glob(".backup.tmp/*"),
                *root.glob(".weaviate-backup/*"),
            ]
            found += [str(path.relative_to(self.lab.directory)) for path in candidates]
        return found

    def everything_written(self) -> str:
        """All that a person with read access to the cluster could read, but for Secrets."""
        kinds = "pods,events,configmaps,weaviatebackuplocations,weaviatebackups,weaviaterestores"
        logs = [
            Kubectl(pod["metadata"]["namespace"]).run("logs", pod["metadata"]["name"]) for pod in self.operator_pods()
        ]
        return "\n".join([json.dumps(self.kubectl.everywhere(kinds)), *logs])
