"""A private certificate authority, for servers on the loopback address."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """Signs the certificate of a server on the loopback address."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        unsigned = self._unsigned(self._name, self._key).add_extension(constraints, critical=True)
        self.pem = self._signed(unsigned.add_extension(identifier, critical=False))

    def certificate(self) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "s3")])
        address = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "127.0.0.2")]
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        unsigned = self._unsigned(subject, key).add_extension(address, critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._signed(unsigned.add_extension(issuer, critical=False)), private

    def server_context(self, directory: Path) -> ssl.SSLContext:
        """Of a server with a certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(directory))
        return context

    def client_context(self) -> ssl.SSLContext:
        """Of a client that believes this authority alone."""
        return ssl.create_default_context(cadata=self.pem.decode())

    def issue(self, directory: Path) -> tuple[Path, Path]:
        """A certificate and its key, as files; the authority itself lies beside them as `ca.crt`."""
        (directory / "ca.crt").write_bytes(self.pem)
        paths = directory / "tls.crt", directory / "tls.key"
        for path, content in zip(paths, self.certificate(), strict=True):
            path.write_bytes(content)
        return paths

    def _unsigned(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        hour = datetime.timedelta(hours=1)
        return builder.not_valid_before(now - hour).not_valid_after(now + hour)

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
