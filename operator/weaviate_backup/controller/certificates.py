"""The certificates of one operation: an authority that is forgotten at once, leaves for its agents and the operator.

The authority's key lives only inside `issue`, so nobody can add an identity to a running operation later. Leaves die
with the operation's Secrets and are valid for little longer than it may run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from weaviate_backup.agent_client import ClientIdentity

CLIENT_NAME = "operator"
SLACK = timedelta(hours=1)
"""Clocks of nodes differ, and letting go takes time."""


@dataclass(frozen=True)
class Leaf:
    certificate_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return "Leaf(…)"


@dataclass(frozen=True)
class OperationCertificates:
    """`agents`: node name → leaf."""

    ca_pem: bytes
    agents: Mapping[str, Leaf]
    client: ClientIdentity


def server_name(pod_name: str, operation_uid: str) -> str:
    """The name in the certificate of an agent; no DNS server knows it."""
    return f"{pod_name}.{operation_uid}.wvb.internal"


def issue(operation_uid: str, pods: Mapping[str, str], *, now: datetime, valid_seconds: float) -> OperationCertificates:
    """`pods`: node name → pod name."""
    authority = _Authority(operation_uid, now=now, until=now + timedelta(seconds=valid_seconds) + SLACK)
    agents = {node: authority.leaf(pod, server_names=[server_name(pod, operation_uid)]) for node, pod in pods.items()}
    client = authority.leaf(CLIENT_NAME, server_names=[])
    identity = ClientIdentity(ca_pem=authority.pem, certificate_pem=client.certificate_pem, key_pem=client.key_pem)
    return OperationCertificates(ca_pem=authority.pem, agents=agents, client=identity)


class _Authority:
    def __init__(self, operation_uid: str, *, now: datetime, until: datetime) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"wvb {operation_uid}"[:64])
        self._since, self._until = now - SLACK, until
        builder = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        signed = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.pem = signed.public_bytes(serialization.Encoding.PEM)

    def leaf(self, common_name: str, *, server_names: Sequence[str]) -> Leaf:
        """A server's leaf when it has names, a client's else."""
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server_names else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            self._builder(_named(common_name), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if server_names:
            names = x509.SubjectAlternativeName([x509.DNSName(name) for name in server_names])
            builder = builder.add_extension(names, critical=False)
        return Leaf(
            certificate_pem=builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key_pem=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._since)
            .not_valid_after(self._until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
