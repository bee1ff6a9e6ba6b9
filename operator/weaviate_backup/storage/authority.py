"""A location's certificate authority as a file: SDKs take one only by path."""

import tempfile
import weakref
from pathlib import Path


def kept_as_file(ca_pem: bytes, *, owner: object) -> str:
    """Path of a file with the authority; it goes when its owner goes."""
    with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
        file.write(ca_pem)
    weakref.finalize(owner, Path(file.name).unlink, missing_ok=True)
    return file.name
