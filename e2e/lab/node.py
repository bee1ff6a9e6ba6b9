"""A node of the lab: kubelet, containerd and kube-proxy of its own, in a network and a mount namespace of its own.

A test enters a node with `nsenter --net --mount --target $(cat LAB_DIR/nodes/<node>/pid)`.
"""

import json
import os
from pathlib import Path
from typing import Any

import yaml
from e2e.lab.control_plane import ControlPlane
from e2e.lab.golden import mount_commands
from e2e.lab.images import PAUSE_IMAGE
from e2e.lab.network import BRIDGE, POD_RANGE, network_namespace, node_address, pod_subnet
from e2e.lab.processes import Processes
from e2e.lab.programs import program
from e2e.lab.system import network_plugins


class Node:
    """One node. Its files lie in `LAB_DIR/nodes/<name>`, its logs beside those of the others."""

    def __init__(self, number: int, name: str, *, lab_directory: Path, golden_roots: tuple[Path, ...]) -> None:
        self.number = number
        self.name = name
        self._directory = lab_directory / "nodes" / name
        self._cgroup = f"/{lab_directory.name}"
        self._golden_roots = golden_roots
        self._resolver = lab_directory / "resolv.conf"
        self.socket = self._directory / "containerd.sock"
        self._pid_file = self._directory / "pid"
        self._directory.mkdir(parents=True)

    def start_containerd(self, processes: Processes) -> None:
        """Needs the node's namespaces."""
        processes.wait_for(f"the mounts of {self.name}", self._mounted.exists, every=0.02)
        environment = os.environ | {"PATH": f"{program('containerd-shim-runc-v2').parent}:{os.environ['PATH']}"}
        config = self._write("containerd.toml", self._containerd_config())
        plugins = self._directory / "cni"
        plugins.mkdir()
        (plugins / "10-lab.conflist").write_text(json.dumps(self._network_config()))
        command = [*self._enter(), program("containerd"), "-c", config]
        processes.start(f"{self.name}-containerd", command, environment=environment)

    def start_kubelet(self, processes: Processes, control_plane: ControlPlane) -> None:
        """Needs a serving containerd; tries by itself until the API server answers."""
        authority = control_plane.certificates.authority
        config = self._write("kubelet.yaml", yaml.safe_dump(self._kubelet_config(authority)))
        processes.start(
            f"{self.name}-kubelet",
            [
                *self._enter(),
                program("kubelet"),
                f"--config={config}",
                f"--kubeconfig={control_plane.kubeconfig}",
                "--root-dir=/var/lib/kubelet",
                "--cert-dir=/var/lib/kubelet/pki",
                f"--hostname-override={self.name}",
                f"--node-ip={node_address(self.number)}",
            ],
        )

    def start_proxy(self, processes: Processes, control_plane: ControlPlane) -> None:
        processes.start(
            f"{self.name}-kube-proxy",
            [
                *self._enter(),
                program("kube-proxy"),
                f"--kubeconfig={control_plane.kubeconfig}",
                "--proxy-mode=nftables",
                f"--hostname-override={self.name}",
                f"--cluster-cidr={POD_RANGE}",
                "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
            ],
        )

    def _enter(self) -> list[str | Path]:
        return ["nsenter", "--net", "--mount", f"--target={self._pid_file.read_text()}"]

    @property
    def _mounted(self) -> Path:
        return self._directory / "mounted"

    def make_namespaces(self, processes: Processes) -> None:
        """Starts the process that holds the node's namespaces. Its network is there already.

        Everything that a node writes outside its folder goes into it; containerd starts on the golden images."""
        commands = ["mount --make-rshared /", "mount -t tmpfs tmpfs /run"]
        for system in ("/var/lib", "/var/log"):
            private = self._directory / system.lstrip("/")
            private.mkdir(parents=True)
            commands.append(f"mount --bind {private} {system}")
        commands += mount_commands(self._golden_roots, over=self._directory / "containerd")
        commands += [f"touch {self._mounted}", "exec sleep infinity"]
        enter = ["nsenter", f"--net={network_namespace(self.name)}", "unshare", "--mount", "--propagation", "private"]
        pid = processes.start(self.name, [*enter, "sh", "-c", " && ".join(commands)])
        self._pid_file.write_text(str(pid))

    def _containerd_config(self) -> str:
        return f"""
version = 3
root = "{self._directory / "containerd" / "mounted"}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "{self.socket}"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
  # Machines without CAP_SYS_RESOURCE refuse a lower score, and every pod would fail to start.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{network_plugins()}"]
    conf_dir = "{self._directory / "cni"}"
"""

    def _network_config(self) -> dict[str, Any]:
        addresses = {
            "type": "host-local",
            "dataDir": str(self._directory / "addresses"),
            "ranges": [[{"subnet": pod_subnet(self.number)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "ipam": addresses}
        return {"cniVersion": "1.0.0", "name": "lab", "plugins": [bridge]}

    def _kubelet_config(self, authority: Path) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(authority)},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self._cgroup,
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            "clusterDNS": [BRIDGE],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self._resolver),
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "50Mi"},
            "serializeImagePulls": False,
            "syncFrequency": "10s",
            "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
        }

    def _write(self, name: str, content: str) -> Path:
        path = self._directory / name
        path.write_text(content)
        return path
