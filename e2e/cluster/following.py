"""Follows one custom resource through `kubectl get --watch` until it is finished, or until its time is up."""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator

from e2e.cluster.kubectl import Kubectl
from e2e.cluster.operation_view import OperationView, operation_view

_ENDED = object()
RESTART_SECONDS = 0.5


class NotFinished(Exception):
    """The operation was not finished in time; the message says where it stood."""


def follow(kubectl: Kubectl, kind: str, name: str, *, timeout_seconds: float) -> Iterator[OperationView]:
    """Every state that the API server reports; the last one is terminal."""
    deadline = time.monotonic() + timeout_seconds
    last: OperationView | None = None
    while True:
        for view in _watch(kubectl, kind, name, deadline):
            last = view
            yield view
            if view.is_terminal:
                return
        if time.monotonic() > deadline:
            where = f"{last.phase} ({last.reason}: {last.message})" if last else "not seen"
            raise NotFinished(f"{kind} {name} is not finished after {timeout_seconds:g} s: {where}")
        time.sleep(RESTART_SECONDS)


def finish(kubectl: Kubectl, kind: str, name: str, *, timeout_seconds: float) -> OperationView:
    """The terminal state."""
    *_, last = follow(kubectl, kind, name, timeout_seconds=timeout_seconds)
    return last


def reach(kubectl: Kubectl, kind: str, name: str, *phases: str, timeout_seconds: float) -> OperationView:
    """The first state in one of the phases, or a terminal one."""
    for view in follow(kubectl, kind, name, timeout_seconds=timeout_seconds):
        if view.phase in phases or view.is_terminal:
            return view
    raise AssertionError("a followed operation ends in a terminal phase")


def _watch(kubectl: Kubectl, kind: str, name: str, deadline: float) -> Iterator[OperationView]:
    """One watch, which the API server may end at any time."""
    command = ["kubectl", "--namespace", kubectl.namespace, "get", kind, name, "--watch", "--output", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    states: queue.SimpleQueue[OperationView | object] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process, states), daemon=True)
    reader.start()
    try:
        while True:
            try:
                state = states.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if not isinstance(state, OperationView):
                return
            yield state
    finally:
        process.kill()
        process.wait()
        reader.join()


def _read(process: "subprocess.Popen[str]", states: "queue.SimpleQueue[OperationView | object]") -> None:
    """Objects as kubectl writes them: one JSON document after another, over many lines."""
    assert process.stdout is not None
    lines: list[str] = []
    with process.stdout:
        for line in process.stdout:
            lines.append(line)
            if line.startswith("}"):
                states.put(operation_view(json.loads("".join(lines))))
                lines.clear()
    states.put(_ENDED)
