"""What a person wants to read when an operation went wrong: descriptions, events, the ends of the logs."""

from collections.abc import Iterator

from e2e.cluster.kubectl import Kubectl, KubectlError
from e2e.cluster.surroundings import Surroundings

TAIL_LINES = 60
RESOURCES = "weaviatebackuplocations,weaviatebackups,weaviaterestores"


def diagnosis(lab: Surroundings) -> Iterator[tuple[str, str]]:
    """Title and text of each piece; a piece that cannot be had says why."""
    kubectl = Kubectl(lab.namespace)
    yield "kubectl describe", _attempt(kubectl, "describe", RESOURCES)
    yield "pods", _attempt(kubectl, "get", "pods", "--all-namespaces", "--output", "wide")
    yield "events", _attempt(kubectl, "get", "events", "--sort-by=.lastTimestamp")
    for name in ("weaviate-backup-operator", "weaviate-backup-agent"):
        yield from _logs(kubectl, name)
    logs = lab.directory / "logs"
    for path in sorted(logs.rglob("*.log")) if logs.is_dir() else []:
        if "weaviate-backup" in path.name or "wvb-" in path.name:
            lines = path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            yield f"{path.relative_to(lab.directory)} (kept by the lab)", "\n".join(lines)


def _logs(kubectl: Kubectl, application: str) -> Iterator[tuple[str, str]]:
    try:
        pods = kubectl.everywhere("pods", [f"app.kubernetes.io/name={application}"])
    except KubectlError as error:
        yield application, str(error)
        return
    for pod in pods:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        yield f"log of {namespace}/{name}", _attempt(Kubectl(namespace), "logs", name, f"--tail={TAIL_LINES}")


def _attempt(kubectl: Kubectl, *arguments: str) -> str:
    try:
        return kubectl.run(*arguments).rstrip()
    except KubectlError as error:
        return str(error)
