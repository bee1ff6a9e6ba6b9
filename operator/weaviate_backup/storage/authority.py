"""A location's certificate authority as a file: SDKs take one only by path."""

import re
import tempfile
import weakref
from pathlib import Path

from weaviate_backup.errors import Permanent

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def certificates_in(pem: bytes, *, kind: str) -> bytes:
    """The certificates alone, whatever else the Secret's key holds: it may have been named by mistake, or to find out
    what it holds. Raises when there is none."""
    found = _CERTIFICATE.findall(pem)
    if not found:
        raise Permanent(
            "CertificateRefused",
            f"what spec.{kind}.caSecretRef names holds no certificate in PEM; name the key that does, such as ca.crt",
        )
    return b"\n".join(found) + b"\n"


def kept_as_file(ca_pem: bytes, *, owner: object) -> str:
    """Path of a file with the authority; it goes when its owner goes."""
    with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
        file.write(ca_pem)
    weakref.finalize(owner, Path(file.name).unlink, missing_ok=True)
    return file.name
