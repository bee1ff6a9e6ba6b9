"""Why a pod does not start, as precisely as the API server knows it: its own status, or the kubelet's latest warning.

Volumes that cannot be mounted are told in events only.
"""

from weaviate_backup.controller.pod_state import agent_pod_state
from weaviate_backup.core.orders import AgentPhase
from weaviate_backup.core.session import Failure
from weaviate_backup.errors import BackupError, excerpt
from weaviate_backup.kube import EVENTS, PODS, Kube

NOT_STARTED = "WorkerNotStarted"
"""Nobody says why; it may just take long."""
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
        events = await kube.list(EVENTS, namespace, fields={"involvedObject.name": name, "type": "Warning"})
    except BackupError:  # a role without the right to list events: then the pod's own words must do
        events = []
    told = sorted(
        (event for event in events if event.get("reason") in VOLUME_REASONS),
        key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""),
    )
    if not told:
        message = f"pod {name} waits: {state.message}"
        return Failure(reason=NOT_STARTED, message=message, transient=True)
    reason = str(told[-1]["reason"])
    message = f"pod {name} {VOLUME_REASONS[reason]}: {excerpt(str(told[-1].get('message', '')), 400)}"
    return Failure(reason=reason, message=message, transient=True)
