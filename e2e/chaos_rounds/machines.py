"""Processes of the lab, as the kernel shows them: found, stopped, killed and started again as they were."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.bench.agent_memory import agent_processes
from e2e.lab.network import BRIDGE, network_namespace, node_address, pod_subnet
from e2e.lab.plan import NODES

GONE_SECONDS = 20
_PROC = Path("/proc")


@dataclass(frozen=True)
class Part:
    """A running program with what is needed to start it again. `node` None: it runs beside the nodes."""

    process: int
    command: tuple[str, ...]
    environment: dict[str, str]
    node: str | None


def api_server() -> list[Part]:
    return [part for part in _parts() if _is(part, "kube-apiserver")]


def store() -> list[Part]:
    return [part for part in _parts() if _is(part, "versitygw")]


def kubelet(ordinal: int) -> list[Part]:
    return [part for part in _parts() if _is(part, "kubelet") and part.node == NODES[ordinal]]


def runtime(ordinal: int) -> list[Part]:
    """containerd, kubelet and kube-proxy of a node, in the order in which they are started."""
    names = ("containerd", "kubelet", "kube-proxy")
    found = [part for part in _parts() if part.node == NODES[ordinal] and any(_is(part, name) for name in names)]
    return sorted(found, key=lambda part: names.index(Path(part.command[0]).name))


def operators() -> list[Part]:
    return [part for part in _parts() if "operator" in part.command and _runs(part, "weaviate-backup-operator")]


def agents(ordinal: int) -> list[int]:
    return agent_processes(f"weaviate-{ordinal}")


def weaviate(ordinal: int) -> list[Part]:
    return [
        part for part in _parts() if _is(part, "weaviate") and part.environment.get("HOSTNAME") == f"weaviate-{ordinal}"
    ]


def everything_on(ordinal: int) -> list[int]:
    """Every process of a node's containers, with those that hold them."""
    parents = _parents()
    holders = [
        part.process for part in _parts() if _is(part, "containerd-shim-runc-v2") and part.node == NODES[ordinal]
    ]
    found = list(holders)
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def kill(processes: Sequence[int]) -> None:
    """SIGKILL, and waits until they are gone."""
    _signal(processes, signal.SIGKILL)
    deadline = time.monotonic() + GONE_SECONDS
    while any(_is_alive(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)


def freeze(processes: Sequence[int]) -> None:
    _signal(processes, signal.SIGSTOP)


def thaw(processes: Sequence[int]) -> None:
    _signal(processes, signal.SIGCONT)


def is_running(part: Part) -> bool:
    """Whether a process does what that one did. One that has ended and is not yet buried has no command line."""
    return any(other.command == part.command for other in _parts())


def start(part: Part, lab_directory: Path) -> None:
    """As it was started by the lab; what it says goes on in the log of its name."""
    enter: list[str] = []
    if part.node is not None:
        pid = (lab_directory / "nodes" / part.node / "pid").read_text()
        enter = ["nsenter", "--net", "--mount", f"--target={pid}"]
    name = Path(part.command[0]).name
    log_name = {"versitygw": "s3"}.get(name, f"{part.node}-{name}" if part.node else name)
    with (lab_directory / "logs" / f"{log_name}.log").open("ab") as log:
        subprocess.Popen(
            [*enter, *part.command], env=part.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def cut_nodes(one: int, other: int) -> None:
    """Nothing passes between two nodes or their pods."""
    _drop(one, [node_address(other), pod_subnet(other)])


def cut_control_plane(ordinal: int) -> None:
    """Nothing passes between a node and what runs beside the nodes: API server, DNS, store."""
    _drop(ordinal, [BRIDGE])


def heal_network(ordinal: int) -> None:
    _nft(ordinal, "add table inet chaos\ndelete table inet chaos\n")


def _drop(ordinal: int, addresses: Sequence[str]) -> None:
    them = "{ " + ", ".join(addresses) + " }"
    chains = "".join(
        f"chain {hook} {{ type filter hook {hook} priority -10; policy accept; "
        f"ip saddr {them} drop; ip daddr {them} drop; }}\n"
        for hook in ("input", "forward", "output")
    )
    _nft(ordinal, f"table inet chaos {{\n{chains}}}\n")


def _nft(ordinal: int, rules: str) -> None:
    command = ["nsenter", f"--net={network_namespace(NODES[ordinal])}", "nft", "-f", "-"]
    subprocess.run(command, input=rules, text=True, check=True)


def _parts() -> Iterator[Part]:
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (part := _part(folder)) is not None:
            yield part


def _part(folder: Path) -> Part | None:
    try:
        command = tuple(word for word in (folder / "cmdline").read_text().split("\0") if word)
        pairs = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    if not command:
        return None
    environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return Part(int(folder.name), command, environment, _node_of(command))


def _node_of(command: Sequence[str]) -> str | None:
    text = " ".join(command)
    return next((node for node in NODES if f"/nodes/{node}/" in text or f"override={node}" in text), None)


def _is(part: Part, name: str) -> bool:
    return Path(part.command[0]).name == name


def _runs(part: Part, name: str) -> bool:
    return any(name in word for word in part.command[:3])


def _parents() -> dict[int, int]:
    found = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                found[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue  # it ended meanwhile
    return found


def _is_alive(process: int) -> bool:
    try:
        return (_PROC / str(process) / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue  # it ended meanwhile
