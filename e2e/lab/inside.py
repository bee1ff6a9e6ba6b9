"""What happens inside the sandbox: the cluster comes up, the command runs, its status is handed out. Started by run.py.

Everything here may be killed at any instant; the sandbox's end cleans up.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from e2e.lab.control_plane import ControlPlane
from e2e.lab.network import BRIDGE, make_networks
from e2e.lab.node import Node
from e2e.lab.operator_release import install_operator, location_objects
from e2e.lab.plan import NAMESPACE, NODES, Plan
from e2e.lab.processes import LabFailed, Processes
from e2e.lab.programs import program
from e2e.lab.progress import console, step, warn
from e2e.lab.sandbox import become_first_process
from e2e.lab.stores import finish_stores, start_store
from e2e.lab.stores.store import Store
from e2e.lab.weaviate_manifest import STATEFUL_SET, volume_directory, weaviate_objects

COMMANDS = ("kubectl", "helm", "ctr")
"""Programs that the command finds on its PATH."""

_KUBELET_TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""Settings of the whole machine that a kubelet makes. It is shown files that say so, and changes nothing."""


def main() -> None:
    become_first_process()
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # there is no way out of the sandbox, and everything in it is near
    plan = Plan.load(Path(sys.argv[1]))
    os.environ |= _private_folders(plan.directory / "home")
    try:
        lab = _start(plan)
        with step("Weaviate and the operator, ready"):
            urls = _finish(plan, lab)
    except (LabFailed, RuntimeError, subprocess.CalledProcessError) as error:
        console.print(f"[red]{error}[/]", markup=True)
        sys.exit(70)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(_run_command(plan, lab, urls))


def _private_folders(home: Path) -> dict[str, str]:
    """Where kubectl and helm keep their caches, so that they do not write into the caller's home."""
    folders = {"KUBECACHEDIR": "kubectl", "HELM_CACHE_HOME": "helm/cache"}
    folders |= {"HELM_CONFIG_HOME": "helm/config", "HELM_DATA_HOME": "helm/data"}
    return {variable: str(home / folder) for variable, folder in folders.items()}


class _Lab:
    """What runs."""

    def __init__(self, control_plane: ControlPlane, processes: Processes, stores: list[Store]) -> None:
        self.control_plane = control_plane
        self.processes = processes
        self.stores = stores


def _start(plan: Plan) -> _Lab:
    """Starts everything as early as it can: the machine has few cores, and most parts wait for each other."""
    with step("network and nodes"):
        _isolate(plan)
        _bound_volumes(plan)
        make_networks(NODES)
        processes = Processes(plan.logs)
        control_plane = ControlPlane(plan.directory, processes, namespace=NAMESPACE)
        control_plane.start_server()
        stores = [start_store(kind, lab_directory=plan.directory, processes=processes) for kind in plan.stores]
        nodes = [
            Node(number, name, lab_directory=plan.directory, golden_roots=plan.golden_roots)
            for number, name in enumerate(NODES)
        ]
        for node in nodes:
            node.make_namespaces(processes)
        for node in nodes:
            node.start_containerd(processes)
    with step("control plane"):
        control_plane.wait_until_ready()
        control_plane.start_controllers()
        for node in nodes:
            processes.wait_for(f"containerd of {node.name}", node.socket.exists)
            node.start_kubelet(processes, control_plane)
            node.start_proxy(processes, control_plane)
        control_plane.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
        finish_stores(stores, lab_directory=plan.directory, processes=processes)
        control_plane.apply(weaviate_objects(plan, stores))
    return _Lab(control_plane, processes, stores)


def _isolate(plan: Plan) -> None:
    """Hides the machine's /run, resolver and the settings that a kubelet would change."""
    _mount("-t", "tmpfs", "tmpfs", "/run")
    resolver = plan.directory / "resolv.conf"
    search = f"{NAMESPACE}.svc.cluster.local svc.cluster.local cluster.local"
    resolver.write_text(f"nameserver {BRIDGE}\nsearch {search}\noptions ndots:5\n")
    shown = Path(os.path.realpath("/etc/resolv.conf"))
    if not shown.exists():
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.touch()
    _mount("--bind", str(resolver), str(shown))
    for setting, value in _KUBELET_TUNABLES.items():
        real = Path("/proc/sys") / setting
        if real.exists():
            shown = Path("/run/tunables") / setting
            shown.parent.mkdir(parents=True, exist_ok=True)
            shown.write_text(value)
            _mount("--bind", str(shown), str(real))


def _bound_volumes(plan: Plan) -> None:
    """Volumes that can be full. Before the nodes are made, which see the mounts of their time."""
    for ordinal in range(plan.replicas if plan.volume_mebibytes else 0):
        directory = volume_directory(plan.directory, ordinal)
        directory.mkdir(parents=True)
        _mount("-t", "tmpfs", "-o", f"size={plan.volume_mebibytes}m", "tmpfs", str(directory))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _finish(plan: Plan, lab: _Lab) -> list[str]:
    """Waits for Weaviate, and installs the operator meanwhile. Gives the pods' URLs."""
    with ThreadPoolExecutor(2) as pool:
        installing: Future[None] | None = None
        if plan.chart is not None:
            installing = pool.submit(install_operator, plan.chart, lab.control_plane)
        urls = _wait_for_weaviate(plan, lab)
        if installing is not None:
            wait([installing])
            installing.result()
            lab.control_plane.apply([item for store in lab.stores for item in location_objects(store)])
    if plan.chart is None:
        warn("no operator runs in this lab: it was left out, or there is no chart")
    return urls


def _wait_for_weaviate(plan: Plan, lab: _Lab) -> list[str]:
    def look() -> list[str] | None:
        if not _nodes_are_ready(lab.control_plane):
            return None
        addresses = _pod_addresses(plan, lab.control_plane)
        if addresses is None:
            return None
        urls = [f"http://{address}:8080" for address in addresses]
        return urls if all(_is_synchronized(url, plan.replicas) for url in urls) else None

    return lab.processes.wait_for("a synchronized Weaviate", look, seconds=180, every=0.2)


def _nodes_are_ready(control_plane: ControlPlane) -> bool:
    nodes = (control_plane.get("/api/v1/nodes") or {}).get("items", [])
    return sum(_is_ready(node.get("status", {})) for node in nodes) == len(NODES)


def _is_ready(status: dict[str, Any]) -> bool:
    return any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions", []))


def _pod_addresses(plan: Plan, control_plane: ControlPlane) -> list[str] | None:
    """Addresses by ordinal, once all pods are ready."""
    addresses = []
    for ordinal in range(plan.replicas):
        pod = control_plane.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{STATEFUL_SET}-{ordinal}")
        status = pod.get("status", {}) if pod else {}
        if not _is_ready(status):
            return None
        addresses.append(status["podIP"])
    return addresses


def _is_synchronized(url: str, replicas: int) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v1/cluster/statistics", timeout=5) as response:
            said: dict[str, Any] = json.load(response)
    except OSError:
        return False
    return bool(said.get("synchronized")) and len(said.get("statistics", [])) == replicas


def _run_command(plan: Plan, lab: _Lab, urls: list[str]) -> int:
    """Runs the command in the lab's network, with the terminal's input and output, and gives its status."""
    environment = dict(os.environ)
    for store in lab.stores:
        environment |= store.command_environment
    environment |= {
        "KUBECONFIG": str(lab.control_plane.kubeconfig),
        "PATH": f"{_command_folder(plan)}:{os.environ['PATH']}",
        "LAB_NAMESPACE": NAMESPACE,
        "LAB_DIR": str(plan.directory),
        "WEAVIATE_URLS": " ".join(urls),
    }
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = subprocess.Popen(
        plan.command,
        cwd=plan.working_directory,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads yet
    )
    _warn_when_a_part_dies(lab.processes)
    status = command.wait()
    return status if status >= 0 else 128 - status


def _command_folder(plan: Plan) -> Path:
    folder = plan.directory / "bin"
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).symlink_to(program(name))
    return folder


def _warn_when_a_part_dies(processes: Processes) -> None:
    """A test may kill a part on purpose, so it is only told."""

    def watch() -> None:
        while True:
            try:
                processes.require_all_alive()
            except LabFailed as error:
                warn(str(error).splitlines()[0])
                return
            time.sleep(2)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
