"""What an agent's pod tells through the API server: whether its process may live, and why it does not start. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from weaviate_backup.api.resources import AGENT_POD, IDENTITY, only
from weaviate_backup.controller.agent_links import AgentAddress
from weaviate_backup.core.orders import ABSENT, AgentPhase, AgentPod, seconds_since
from weaviate_backup.core.pod_addresses import pod_address
from weaviate_backup.errors import excerpt
from weaviate_backup.layout.json_bounds import memory_of

MOST_BYTES = 16 << 10
"""Of a pod in memory."""
Json = dict[str, Any]
ENDING_SECONDS = 60
"""A pod that was told to end, and is there so long after it should have, is not waited for."""


def agent_pod_state(pod: Json | None) -> AgentPod:
    if pod is None:
        return ABSENT
    status = pod.get("status") or {}
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    phase = status.get("phase")
    if phase in ("Succeeded", "Failed"):
        reason, message = next(_terminations(status), (status.get("reason", ""), status.get("message", "")))
        return AgentPod(AgentPhase.ENDED, created, reason or "AgentEnded", excerpt(message or "the agent ended"))
    if phase == "Running":
        return AgentPod(AgentPhase.RUNNING, created)
    reason, message = next(_waits(status), ("ContainerCreating", "its volumes or image are not ready"))
    return AgentPod(AgentPhase.STARTING, created, reason, excerpt(message))


def reduced(pod: Json) -> Json:
    """An agent's pod as far as it is looked at. One whose status is larger than such a pod's shows none."""
    found = only(pod, AGENT_POD)
    return found if memory_of(found) <= MOST_BYTES else {"metadata": only(pod["metadata"], IDENTITY)}


def agent_address(pod: Json | None, server_name: str) -> AgentAddress | None:
    """Of a running pod."""
    status = (pod or {}).get("status") or {}
    if pod is None or status.get("phase") != "Running" or not status.get("podIP"):
        return None
    return AgentAddress(pod_uid=pod["metadata"]["uid"], host=pod_address(pod), server_name=server_name)


def may_end(pod: Json, now: datetime, *, told: bool) -> bool:
    """Its end is worth waiting for: its node is not long gone, and nobody keeps it by a finalizer or a grace of years.

    `told`: all were told to end, so that one that is not ending was made anew, by somebody else.
    """
    until = pod["metadata"].get("deletionTimestamp")
    if until is None:
        return not told
    return abs(seconds_since(datetime.fromisoformat(until), now)) < ENDING_SECONDS


def _terminations(status: Json) -> Iterator[tuple[str, str]]:
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated")
        if ended:
            yield str(ended.get("reason", "")), str(ended.get("message") or f"exit code {ended.get('exitCode')}")


def _waits(status: Json) -> Iterator[tuple[str, str]]:
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting")
        if waiting and (waiting.get("message") or waiting.get("reason") not in (None, "ContainerCreating")):
            yield str(waiting.get("reason", "")), str(waiting.get("message") or waiting.get("reason"))
    for condition in status.get("conditions") or ():
        if condition.get("status") == "False" and condition.get("reason") == "Unschedulable":
            yield "Unschedulable", str(condition.get("message", ""))
