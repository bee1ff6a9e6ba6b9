"""The faults themselves: each is made on real processes, connections and volumes, and gives what undoes it."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from e2e.chaos_rounds import machines, store_line
from e2e.chaos_rounds.drawing import Strike
from e2e.chaos_rounds.ground import FAILURES, OPERATOR, Ground, patiently
from e2e.chaos_rounds.machines import Part
from e2e.cluster.kubectl import Json
from e2e.lab.plan import NODES

BALLAST = "ballast"
SPARE_BYTES = 64 * 1024
"""What a full volume still takes."""
CUT_BYTES_PER_SECOND = 60_000
Undo = Callable[[], None]


class Victims:
    """Made while the lab is whole: it remembers every part that it may have to start again."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._parts: Sequence[Part] = [*machines.api_server(), *machines.store()]
        for ordinal in range(len(NODES)):
            self._parts = [*self._parts, *machines.runtime(ordinal)]
        self._starting = threading.Lock()

    def hit(self, strike: Strike, kind: str, name: str) -> Undo:
        """`kind` and `name`: the operation that is under way."""
        if strike.kind in ("canceled", "deleted"):
            return self._end(strike.kind, kind, name)
        words = strike.kind.split()
        fate = words[-1]
        by_first_word: dict[str, Callable[[], Undo]] = {
            "operator": lambda: self._operator(strike.kind),
            "two": lambda: self._operator(strike.kind),
            "agent": lambda: self._agent(strike),
            "Weaviate": lambda: self._weaviate(strike),
            "store": lambda: self._store(strike.kind),
            "API": lambda: self._process(machines.api_server(), fate),
            "network": lambda: self._network(strike),
            "kubelet": lambda: self._process(machines.kubelet(strike.target[0]), fate),
            "node": lambda: self._reset(strike.target[0]),
            "volume": lambda: self._fill(strike.target[0]),
        }
        return by_first_word[words[0]]()

    def heal(self) -> None:
        """Whatever was done, nothing of it lasts."""
        self._ground.line.set_mode(store_line.THROUGH)
        self._ground.line.bytes_per_second = 0
        frozen = [part.process for part in (*machines.operators(), *machines.api_server(), *machines.store())]
        for ordinal in range(len(NODES)):
            frozen += [*machines.agents(ordinal), *(part.process for part in machines.weaviate(ordinal))]
            machines.heal_network(ordinal)
            self._ballast(ordinal).unlink(missing_ok=True)
        machines.thaw(frozen)
        self._revive(self._parts)
        self._scale(1)

    def _revive(self, parts: Sequence[Part]) -> None:
        """Starts what does not run, in the order in which the lab does."""
        with self._starting:
            for part in parts:
                if machines.is_running(part):
                    continue
                if Path(part.command[0]).name == "containerd":
                    self._socket(part).unlink(missing_ok=True)
                machines.start(part, self._ground.lab.directory)
                if Path(part.command[0]).name == "containerd":
                    _wait_for(self._socket(part))

    def _socket(self, containerd: Part) -> Path:
        return self._ground.lab.directory / "nodes" / str(containerd.node) / "containerd.sock"

    def _operator(self, kind: str) -> Undo:
        replicas = {"operator away": 0, "two operators": 2}
        if kind in replicas:
            self._scale(replicas[kind])
            return lambda: self._scale(1)
        return _processes([part.process for part in machines.operators()], kind.rsplit(maxsplit=1)[-1])

    def _scale(self, replicas: int) -> None:
        arguments = ("scale", OPERATOR, f"--replicas={replicas}", "--request-timeout=10s")
        patiently(lambda: self._ground.operator_kubectl.run(*arguments))

    def _agent(self, strike: Strike) -> Undo:
        ordinal = strike.target[0]
        if strike.kind == "agent pod deleted":
            return self._delete_pods(lambda pod: _is_agent_on(pod, ordinal))
        return _processes(machines.agents(ordinal), strike.kind.split()[-1])

    def _weaviate(self, strike: Strike) -> Undo:
        ordinal = strike.target[0]
        if strike.kind == "Weaviate pod deleted":
            return self._delete_pods(lambda pod: pod["metadata"]["name"] == f"weaviate-{ordinal}")
        return _processes([part.process for part in machines.weaviate(ordinal)], strike.kind.split()[-1])

    def _delete_pods(self, chosen: Callable[[Json], bool]) -> Undo:
        """With a second of grace, so that a new one never meets the old."""
        for pod in self._ground.kubectl.items("pods", "--request-timeout=10s"):
            if chosen(pod):
                name = pod["metadata"]["name"]
                self._ground.delete_pod(name)
        return _nothing

    def _store(self, kind: str) -> Undo:
        line = self._ground.line
        if kind == "store slow":
            before, line.bytes_per_second = line.bytes_per_second, CUT_BYTES_PER_SECOND

            def faster() -> None:
                line.bytes_per_second = before

            return faster
        modes = {
            "store answers 503": store_line.ANSWERS_503,
            "store cuts connections": store_line.CUT,
            "store silent": store_line.SILENT,
        }
        if kind in modes:
            line.set_mode(modes[kind])
            return lambda: line.set_mode(store_line.THROUGH)
        return self._process(machines.store(), kind.rsplit(maxsplit=1)[-1])

    def _process(self, parts: Sequence[Part], fate: str) -> Undo:
        undo = _processes([part.process for part in parts], fate)
        return undo if fate == "frozen" else partial(self._revive, parts)

    def _network(self, strike: Strike) -> Undo:
        ordinal = strike.target[0]
        if strike.kind == "network cut between nodes":
            machines.cut_nodes(*strike.target)
        else:
            machines.cut_control_plane(ordinal)
        return lambda: machines.heal_network(ordinal)

    def _end(self, how: str, kind: str, name: str) -> Undo:
        if how == "canceled":
            self._ground.kubectl.patch(kind, name, {"spec": {"cancel": True}})
        else:
            self._ground.kubectl.delete(kind, name, wait=False)
        return _nothing

    def _ballast(self, ordinal: int) -> Path:
        return self._ground.lab.volume(ordinal) / BALLAST

    def _reset(self, ordinal: int) -> Undo:
        """All processes of the node at once. What the kernel has not written yet is not lost with them."""
        parts = machines.runtime(ordinal)
        machines.kill([*(part.process for part in parts), *machines.everything_on(ordinal)])
        return partial(self._revive, parts)

    def _fill(self, ordinal: int) -> Undo:
        path = self._ballast(ordinal)
        room = os.statvfs(path.parent)
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - SPARE_BYTES))
        return lambda: path.unlink(missing_ok=True)


def _processes(processes: Sequence[int], fate: str) -> Undo:
    if fate == "killed":
        machines.kill(processes)
        return _nothing
    machines.freeze(processes)
    return lambda: machines.thaw(processes)


def _is_agent_on(pod: Json, ordinal: int) -> bool:
    return bool(pod["metadata"]["name"].startswith("wvb-") and pod["spec"].get("nodeName") == NODES[ordinal])


def _nothing() -> None:
    """Kubernetes undoes it."""


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + machines.GONE_SECONDS
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


class Striking:
    """The strikes of one operation, each in a thread of its own, until the operation is over."""

    def __init__(
        self, victims: Victims, strikes: Sequence[Strike], phases: Sequence[str], kind: str, name: str
    ) -> None:
        self.told: list[str] = []
        self._victims, self._phases, self._operation = victims, phases, (kind, name)
        self._reached = {phase: threading.Event() for phase in phases}
        self._over = threading.Event()
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._strike, args=(strike,), daemon=True) for strike in strikes]
        for thread in self._threads:
            thread.start()

    def saw(self, phase: str) -> None:
        """The operation is in this phase; phases that passed unseen count as reached."""
        if phase in self._phases:
            for earlier in self._phases[: self._phases.index(phase) + 1]:
                self._reached[earlier].set()

    def end(self) -> None:
        """No more strikes; what lasts still is undone."""
        self._over.set()
        for event in self._reached.values():
            event.set()
        for thread in self._threads:
            thread.join()
        self._victims.heal()

    def _strike(self, strike: Strike) -> None:
        self._reached[strike.phase].wait()
        if self._over.wait(strike.after_seconds):
            self.told.append(f"{strike}: not reached")
            return
        instant = time.monotonic() - self._began
        try:
            undo = self._victims.hit(strike, *self._operation)
        except FAILURES as error:  # the API server may be another strike's victim
            self.told.append(f"{strike}: at {instant:.1f}s not possible: {error!s:.120}")
            return
        self._over.wait(strike.lasts_seconds)
        undo()
        self.told.append(f"{strike}: from {instant:.1f}s to {time.monotonic() - self._began:.1f}s")
