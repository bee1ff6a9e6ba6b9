"""kubectl as a person would use it: the real program, its real answers. Manifests go in by stdin, never by argv."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Any
CALL_SECONDS = 60


class KubectlError(Exception):
    """What kubectl wrote to stderr."""


@dataclass(frozen=True)
class Kubectl:
    """Bound to one namespace."""

    namespace: str

    def run(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = CALL_SECONDS) -> str:
        return _run("--namespace", self.namespace, *arguments, stdin=stdin, timeout_seconds=timeout_seconds)

    def plugin(self, *arguments: str, timeout_seconds: float = CALL_SECONDS) -> str:
        """A plugin of kubectl; it takes no options before its name."""
        return _run(*arguments, "--namespace", self.namespace, timeout_seconds=timeout_seconds)

    def apply(self, *manifests: Mapping[str, Json]) -> str:
        return self.run(
            "apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        )

    def get(self, kind: str, name: str) -> Json | None:
        """The object, or None when there is none."""
        text = self.run("get", kind, name, "--output", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def items(self, kind: str, *options: str) -> list[Json]:
        return list(json.loads(self.run("get", kind, "--output", "json", *options))["items"])

    def delete(self, kind: str, *names: str, wait: bool = True) -> None:
        """No error when there is none; with `wait`, until the object is gone."""
        self.run(
            "delete",
            kind,
            *names,
            "--ignore-not-found",
            f"--wait={str(wait).lower()}",
            timeout_seconds=CALL_SECONDS * 3,
        )

    def patch(self, kind: str, name: str, body: Mapping[str, Json]) -> None:
        self.run("patch", kind, name, "--type", "merge", "--patch", json.dumps(body))

    def wait(self, kind: str, name: str, condition: str, *, timeout_seconds: float) -> None:
        limit = f"--timeout={int(timeout_seconds)}s"
        self.run("wait", f"{kind}/{name}", f"--for={condition}", limit, timeout_seconds=timeout_seconds + 10)

    def everywhere(self, kind: str, labels: Sequence[str] = ()) -> list[Json]:
        """Of all namespaces."""
        selector = ["--selector", ",".join(labels)] if labels else []
        return list(json.loads(self.run("get", kind, "--all-namespaces", "--output", "json", *selector))["items"])


def _run(*arguments: str, stdin: str | None = None, timeout_seconds: float) -> str:
    command = ["kubectl", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    if done.returncode:
        raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
