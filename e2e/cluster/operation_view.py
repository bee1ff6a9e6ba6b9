"""A WeaviateBackup or WeaviateRestore as a person looks at it: a plain value made from its JSON. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

TERMINAL = ("Completed", "Failed", "Canceled")


@dataclass(frozen=True)
class NodeView:
    """One node's part."""

    name: str
    phase: str
    bytes_total: int
    bytes_done: int
    bytes_reused: int
    restarts: int
    longest_halt_seconds: float | None
    message: str


@dataclass(frozen=True)
class OperationView:
    """What the status says, with zeros and empty words for what it does not say yet."""

    kind: str
    name: str
    uid: str
    phase: str
    reason: str
    message: str
    percent: int
    bytes_total: int
    bytes_done: int
    bytes_reused: int
    bytes_stored: int
    bytes_per_second: int | None
    eta_seconds: int | None
    nodes: tuple[NodeView, ...]
    longest_halt_seconds: float | None
    objects: int | None
    seconds: float | None
    warnings: tuple[str, ...]
    server_version: str

    @property
    def is_terminal(self) -> bool:
        return self.phase in TERMINAL

    @property
    def is_completed(self) -> bool:
        return self.phase == "Completed"


def operation_view(resource: Mapping[str, Any]) -> OperationView:
    status = resource.get("status") or {}
    progress = status.get("progress") or {}
    failure = status.get("failure") or {}
    ready: Mapping[str, Any] = next((entry for entry in status.get("conditions") or [] if entry["type"] == "Ready"), {})
    return OperationView(
        kind=resource["kind"],
        name=resource["metadata"]["name"],
        uid=resource["metadata"]["uid"],
        phase=status.get("phase", "Pending"),
        reason=failure.get("reason") or ready.get("reason", ""),
        message=failure.get("message") or ready.get("message", ""),
        percent=progress.get("percent", 0),
        bytes_total=progress.get("bytesTotal", 0),
        bytes_done=progress.get("bytesDone", 0),
        bytes_reused=progress.get("bytesReused", 0),
        bytes_stored=progress.get("bytesStored", 0),
        bytes_per_second=progress.get("bytesPerSecond"),
        eta_seconds=progress.get("etaSeconds"),
        nodes=tuple(_node(entry) for entry in status.get("nodes") or []),
        longest_halt_seconds=status.get("longestHaltSeconds"),
        objects=status.get("objects"),
        seconds=_seconds(status.get("startTime"), status.get("completionTime")),
        warnings=tuple(f"{entry['reason']}: {entry.get('message', '')}" for entry in status.get("warnings") or []),
        server_version=status.get("serverVersion", ""),
    )


def _node(entry: Mapping[str, Any]) -> NodeView:
    return NodeView(
        name=entry["name"],
        phase=entry.get("phase", "Pending"),
        bytes_total=entry.get("bytesTotal", 0),
        bytes_done=entry.get("bytesDone", 0),
        bytes_reused=entry.get("bytesReused", 0),
        restarts=entry.get("restarts", 0),
        longest_halt_seconds=entry.get("longestHaltSeconds"),
        message=f"{entry['reason']}: {entry.get('message', '')}" if entry.get("reason") else "",
    )


def _seconds(start: str | None, end: str | None) -> float | None:
    if not start or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
