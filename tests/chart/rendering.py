"""Runs helm on the chart of this tree, offline: rendered manifests as objects, or helm's refusal."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from e2e.lab.programs import OLDER_HELM, program

CHART = Path(__file__).resolve().parents[2] / "charts" / "weaviate-backup-operator"
NAMESPACE = "backup-system"
RELEASE = "wvb"
FULL_NAME = "wvb-weaviate-backup-operator"
HELMS = ("helm", OLDER_HELM)
"""Helm 4 and Helm 3."""
KNOWN = ("backup.weaviate.io/v1alpha1/WeaviateBackupLocation",)
"""What a cluster says that has our definitions."""
OUR_KINDS = ("weaviatebackups", "weaviaterestores", "weaviatebackuplocations")

Json = dict[str, Any]


def helm(*arguments: str | Path, values: Json | None = None, line: str = "helm") -> subprocess.CompletedProcess[str]:
    """One command of a line of helm (HELMS) with those values, and a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        command: list[str | Path] = [program(line), *arguments]
        if values is not None:
            file = Path(home) / "values.yaml"
            file.write_text(yaml.safe_dump(values))
            command += ["--values", file]
        environment = {**os.environ, "HOME": home, "XDG_CACHE_HOME": home, "XDG_CONFIG_HOME": home}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env={**environment, "KUBECONFIG": ""}
        )


def render(
    values: Json | None = None,
    *,
    api_versions: tuple[str, ...] = (),
    line: str = "helm",
    namespace: str = NAMESPACE,
) -> list[Json]:
    """Every object of the release; the caller may change them."""
    text = _rendered(yaml.safe_dump(values or {}), api_versions, line, namespace)
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


@cache
def _rendered(values: str, api_versions: tuple[str, ...], line: str, namespace: str) -> str:
    command: tuple[str | Path, ...] = ("template", RELEASE, CHART, "--namespace", namespace, *_flags(api_versions))
    done = helm(*command, values=yaml.safe_load(values), line=line)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _flags(api_versions: tuple[str, ...]) -> list[str]:
    return [flag for version in api_versions for flag in ("--api-versions", version)]


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    return [found for found in objects if found["kind"] == kind]


def the(objects: list[Json], kind: str) -> Json:
    """The only object of that kind."""
    (found,) = of_kind(objects, kind)
    return found
