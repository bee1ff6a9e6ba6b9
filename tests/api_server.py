"""A real Kubernetes API on loopback: etcd, kube-apiserver and, if asked, a few controllers. No root, no nodes.

`ApiServer` is a context manager; everything it starts dies with it, or with the process that started it. It speaks
JSON itself (`request`), hands out a kubeconfig for any other client, and runs kubectl. It installs nothing.
"""

import base64
import contextlib
import ctypes
import hashlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from e2e.lab.programs import program
from tests.ports import free_port

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
ADMIN_TOKEN = "admin"
CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
)
"""What an operator depends on: owned objects go, namespaces go, pods find a service account."""

Json = dict[str, Any]


class ApiServer:
    """One API server with a store of its own below `directory`; ready when entered.

    Without controllers nothing makes default service accounts, so pods are admitted without one.
    """

    def __init__(
        self, directory: Path, *, controllers: bool = False, audited: bool = False, flags: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.audit_log = directory / "audit.log"
        """One event a line, of every request that is answered; only when `audited`."""
        self.kubeconfig = directory / "kubeconfig"
        self.url = ""
        self._controllers = controllers
        self._audited = audited
        self._flags = flags
        self._stack = ExitStack()
        self._tls: ssl.SSLContext | None = None
        self._port = 0
        self._local = threading.local()
        self._resources: dict[tuple[str, str], tuple[str, str, bool]] = {}

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if connection := getattr(self._local, "connection", None):
            connection.close()
        self._stack.close()

    def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        token: str = ADMIN_TOKEN,
    ) -> tuple[int, Json]:
        """One request as the administrator (or with another token): status code and decoded body, whatever they are."""
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        connection = self._connection()
        try:
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
        except (http.client.HTTPException, ConnectionError, ssl.SSLEOFError):
            # Closed by the other side while idle: once more on a new one.
            connection.close()
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
        return answer.status, _decoded(answer.read())

    def _connection(self) -> http.client.HTTPSConnection:
        """One kept connection per thread, since a handshake costs more than most requests."""
        known: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if known is None:
            known = http.client.HTTPSConnection(HOST, self._port, context=self._tls, timeout=30)
            self._local.connection = known
        return known

    def apply(self, manifest: Json, *, dry_run: bool = False, field_manager: str = "test") -> tuple[int, Json]:
        """Server-side apply with strict field validation."""
        query = {"fieldManager": field_manager, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        path = self.path_of(manifest)
        return self.request("PATCH", path, manifest, query=query, content_type="application/apply-patch+yaml")

    def path_of(self, manifest: Json, *, collection: bool = False) -> str:
        """Where an object lives, as discovery tells it."""
        root, plural, namespaced = self._resource(manifest["apiVersion"], manifest["kind"])
        namespace = manifest["metadata"].get("namespace", "default")
        scope = f"/namespaces/{namespace}" if namespaced else ""
        path = f"{root}{scope}/{plural}"
        return path if collection else f"{path}/{manifest['metadata']['name']}"

    def _resource(self, group_version: str, kind: str) -> tuple[str, str, bool]:
        """Root path, plural and whether namespaced; asked for once, since a kind does not change these."""
        if (group_version, kind) not in self._resources:
            root = f"/api/{group_version}" if "/" not in group_version else f"/apis/{group_version}"
            listed = self.request("GET", root)[1].get("resources", ())
            found = [entry for entry in listed if entry["kind"] == kind and "/" not in entry["name"]]
            if not found:
                raise LookupError(f"the API server does not serve {kind} in {group_version}")
            self._resources[group_version, kind] = (root, found[0]["name"], found[0]["namespaced"])
        return self._resources[group_version, kind]

    def install_crds(self, definitions: Sequence[Json]) -> None:
        """Apply the definitions strictly and wait until each is served."""
        for definition in definitions:
            status, answer = self.apply(definition)
            assert status in (200, 201), answer.get("message", answer)
        self.await_crds(definitions)

    def await_crds(self, definitions: Sequence[Json]) -> None:
        """Wait until each is served: some time after it was written."""
        deadline = time.monotonic() + START_SECONDS
        for definition in definitions:
            spec = definition["spec"]
            path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
            self._await(lambda path=path: self.request("GET", path)[0] == 200, deadline, f"{path} to be served")

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        done = subprocess.run(
            [program("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def token_of(self, namespace: str, account: str) -> str:
        """A token of a service account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        status, answer = self.request("POST", path, body)
        assert status == 201, answer
        return str(answer["status"]["token"])

    def kubeconfig_with(self, token: str) -> Path:
        """Of whoever has that token."""
        path = self.directory / f"kubeconfig-{hashlib.sha256(token.encode()).hexdigest()[:8]}"
        path.write_text(_kubeconfig(self.url, self.directory / "ca.crt", token))
        return path

    def _start(self, stack: ExitStack) -> None:
        folder = self.directory
        _write_certificates(folder)
        (folder / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
        self._port = port = free_port()
        self.url = f"https://{HOST}:{port}"
        self.kubeconfig.write_text(_kubeconfig(self.url, folder / "ca.crt"))
        self._tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        store = f"http://{HOST}:{free_port()}"
        stack.enter_context(
            _running(
                [
                    str(program("etcd")),
                    f"--data-dir={folder / 'etcd'}",
                    f"--listen-client-urls={store}",
                    f"--advertise-client-urls={store}",
                    f"--listen-peer-urls=http://{HOST}:0",
                    "--unsafe-no-fsync",
                ],
                log=folder / "etcd.log",
            )
        )
        server = stack.enter_context(_running(self._server_command(store, port), log=folder / "kube-apiserver.log"))
        deadline = time.monotonic() + START_SECONDS
        self._await(lambda: self._is_ready(server), deadline, f"the API server; see {folder}")
        if self._controllers:
            stack.enter_context(_running(self._controllers_command(), log=folder / "kube-controller-manager.log"))
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._await(lambda: self.request("GET", account)[0] == 200, deadline, f"the controllers; see {folder}")

    def _server_command(self, store: str, port: int) -> list[str]:
        folder = self.directory
        return [
            str(program("kube-apiserver")),
            f"--etcd-servers={store}",
            f"--bind-address={HOST}",
            f"--secure-port={port}",
            f"--tls-cert-file={folder / 'server.crt'}",
            f"--tls-private-key-file={folder / 'server.key'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            f"--service-account-key-file={folder / 'accounts.key'}",
            f"--service-account-signing-key-file={folder / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            "--allow-privileged",
            *([] if self._controllers else ["--disable-admission-plugins=ServiceAccount"]),
            *(self._audit_flags() if self._audited else []),
            *self._flags,
        ]

    def _audit_flags(self) -> list[str]:
        policy = self.directory / "audit-policy.yaml"
        rules = [{"level": "Metadata", "omitStages": ["RequestReceived"]}]
        policy.write_text(yaml.safe_dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]

    def _controllers_command(self) -> list[str]:
        folder = self.directory
        return [
            str(program("kube-controller-manager")),
            f"--kubeconfig={self.kubeconfig}",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={folder / 'accounts.key'}",
            f"--root-ca-file={folder / 'ca.crt'}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--controllers={','.join(CONTROLLERS)}",
        ]

    def _is_ready(self, server: subprocess.Popen[bytes]) -> bool:
        if server.poll() is not None:
            log = (self.directory / "kube-apiserver.log").read_text(errors="replace")
            raise RuntimeError(f"kube-apiserver ended at once: {log[-2000:]}")
        try:
            return self.request("GET", "/readyz")[0] == 200
        except (http.client.HTTPException, OSError):
            return False

    @staticmethod
    def _await(condition: Any, deadline: float, what: str) -> None:
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited in vain for {what}")
            time.sleep(0.05)


@contextlib.contextmanager
def _running(command: list[str], *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, or with its parent should that be killed."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one C call, and no thread of ours holds a lock then
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(STOP_SECONDS)


_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    os.setsid()


def _decoded(body: bytes) -> Json:
    try:
        value = json.loads(body)
    except ValueError:
        return {"message": body.decode(errors="replace")}
    return value if isinstance(value, dict) else {"value": value}


def _kubeconfig(url: str, authority: Path, token: str = ADMIN_TOKEN) -> str:
    data = base64.b64encode(authority.read_bytes()).decode()
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority-data": data}}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
    )


def _write_certificates(folder: Path) -> None:
    """An authority, the server's certificate, and the key that signs service account tokens."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    authority = (
        _certificate(authority_name, authority_name, authority_key, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = (
        _certificate(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")]),
            authority_name,
            server_key,
            authority_key,
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (folder / "server.crt").write_bytes(server.public_bytes(serialization.Encoding.PEM))
    _write_key(folder / "server.key", server_key)
    _write_key(folder / "accounts.key", rsa.generate_private_key(public_exponent=65537, key_size=2048))


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
