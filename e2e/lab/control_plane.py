"""etcd, API server, controller manager, scheduler and DNS of the lab, beside the nodes; and how they are talked to."""

import json
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from e2e.lab.certificates import Certificates, make_certificates
from e2e.lab.network import BRIDGE, SERVICE_RANGE
from e2e.lab.processes import Processes
from e2e.lab.programs import program

_TOKEN = "lab-administrator"
_ETCD = "http://127.0.0.1:2379"
_SERVER = f"https://{BRIDGE}:6443"


class ControlPlane:
    """A running control plane. Everything that talks to it is an administrator: it guards nothing."""

    def __init__(self, directory: Path, processes: Processes, *, namespace: str) -> None:
        self._directory = directory
        self._processes = processes
        self.certificates: Certificates = make_certificates(directory / "certificates")
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(self.certificates.authority, namespace)))
        self._tls = ssl.create_default_context(cafile=str(self.certificates.authority))

    def start_server(self) -> None:
        """etcd and the API server; `wait_until_ready` says when it answers."""
        self._start_etcd()
        self._start_api_server()

    def wait_until_ready(self) -> None:
        self._processes.wait_for("the API server", self._is_ready, seconds=90)

    def start_controllers(self) -> None:
        """Everything that needs the API server, but the nodes."""
        certificates = self.certificates
        self._processes.start(
            "kube-controller-manager",
            [
                program("kube-controller-manager"),
                f"--kubeconfig={self.kubeconfig}",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={certificates.service_account_key}",
                f"--root-ca-file={certificates.authority}",
                "--leader-elect=false",
                "--secure-port=0",
                "--controllers=*,-node-ipam-controller",
            ],
        )
        self._processes.start(
            "kube-scheduler",
            [program("kube-scheduler"), f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"],
        )
        corefile = self._directory / "Corefile"
        corefile.write_text(
            f".:53 {{\n bind {BRIDGE}\n errors\n kubernetes cluster.local in-addr.arpa {{\n"
            f"  kubeconfig {self.kubeconfig}\n  ttl 1\n }}\n cache 1\n}}\n"
        )
        self._processes.start("coredns", [program("coredns"), "-conf", corefile])

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl and gives what it printed."""
        command: list[str | Path] = [program("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Makes or changes objects, in their order."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, path: str) -> dict[str, Any] | None:
        """One GET; None when there is no such thing, or no answer yet."""
        answer = self._get(path)
        return json.loads(answer) if answer is not None else None

    def _get(self, path: str) -> bytes | None:
        request = urllib.request.Request(_SERVER + path, headers={"Authorization": f"Bearer {_TOKEN}"})
        try:
            with urllib.request.urlopen(request, context=self._tls, timeout=5) as response:
                return bytes(response.read())
        except OSError:
            return None

    def _is_ready(self) -> bool:
        return self._get("/readyz") == b"ok"

    def _start_etcd(self) -> None:
        peer = "http://127.0.0.1:2380"
        self._processes.start(
            "etcd",
            [
                program("etcd"),
                f"--data-dir={self._directory / 'etcd'}",
                f"--listen-client-urls={_ETCD}",
                f"--advertise-client-urls={_ETCD}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--unsafe-no-fsync",
            ],
        )

    def _start_api_server(self) -> None:
        certificates = self.certificates
        tokens = self._directory / "tokens.csv"
        tokens.write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
        self._processes.start(
            "kube-apiserver",
            [
                program("kube-apiserver"),
                f"--etcd-servers={_ETCD}",
                "--bind-address=0.0.0.0",
                "--secure-port=6443",
                f"--advertise-address={BRIDGE}",
                f"--tls-cert-file={certificates.certificate}",
                f"--tls-private-key-file={certificates.key}",
                f"--token-auth-file={tokens}",
                f"--service-account-key-file={certificates.service_account_public_key}",
                f"--service-account-signing-key-file={certificates.service_account_key}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-cluster-ip-range={SERVICE_RANGE}",
                "--authorization-mode=RBAC",
                "--allow-privileged",
                "--kubelet-preferred-address-types=InternalIP",
                f"--kubelet-client-certificate={certificates.certificate}",
                f"--kubelet-client-key={certificates.key}",
            ],
        )


def _kubeconfig(authority: Path, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": _SERVER, "certificate-authority": str(authority)}}],
        "users": [{"name": "admin", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin", "namespace": namespace}}],
        "current-context": "lab",
    }
