"""Why a pod does not start, as precisely as the API server knows it: its own status, or the kubelet's latest warning.

Volumes that cannot be mounted are told in events only.
"""

from weaviate_backup.controller.pod_state import agent_pod_state
from weaviate_backup.core.orders import AgentPhase
from weaviate_backup.core.read_budget import ReadBudget
from weaviate_backup.core.session import Failure
from weaviate_backup.errors import BackupError, excerpt
from weaviate_backup.kube import EVENTS, PODS, Json, Kube

NOT_STARTED = "WorkerNotStarted"
"""Nobody says why; it may just take long."""
MOST_EVENTS = 1_000
VOLUME_REASONS = {
    "FailedMount": "cannot mount its volumes",
    "FailedAttachVolume": "cannot attach its volumes",
    "FailedMapVolume": "cannot map its volumes",
    "FailedCreatePodSandBox": "cannot be set up",
}


async def waiting_for(kube: Kube, namespace: str, name: str) -> Failure | None:
    """None when it runs, ended, or is gone."""
    state = agent_pod_state(await kube.get(PODS, namespace, name))
    if state.phase is not AgentPhase.STARTING:
        return None
    if state.reason != "ContainerCreating":
        return Failure(reason=state.reason, message=f"pod {name}: {state.message}", transient=True)
    try:
        wanted = {"involvedObject.name": name, "type": "Warning"}
        told = await kube.pick(EVENTS, namespace, _of_volumes, fields=wanted, budget=ReadBudget(objects=MOST_EVENTS))
    except BackupError:  # a role without the right to list events, or too many: then the pod's own words must do
        told = ()
    if not told:
        message = f"pod {name} waits: {state.message}"
        return Failure(reason=NOT_STARTED, message=message, transient=True)
    _, reason, said = max(told)
    message = f"pod {name} {VOLUME_REASONS[reason]}: {said}"
    return Failure(reason=reason, message=message, transient=True)


def _of_volumes(event: Json) -> tuple[str, str, str] | None:
    """When, why, and what was said."""
    reason = str(event.get("reason"))
    if reason not in VOLUME_REASONS:
        return None
    told_at = str(event.get("lastTimestamp") or event.get("eventTime") or "")
    return told_at, reason, excerpt(str(event.get("message", "")), 400)
