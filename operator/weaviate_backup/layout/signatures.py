"""Signatures of manifests: `manifest.json.sig` says who vouches for a backup. Ed25519; stock Weaviate ignores it.

What is signed is a context string, the backup's identifier and the SHA-256 of `manifest.json`, whose hashes reach all
the rest. So a signature holds for one content under one identifier, and for nothing else that such a key may sign.
Errors never show a key's content.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import ValidationError

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.integrity import Finding
from weaviate_backup.layout.manifests import Document

FORMAT_VERSION = 1
CONTEXT = b"weaviate-backup-operator manifest 1"
KEY_BYTES = 32
SHOWN_DIGITS = 12
"""Of a key's identifier, in messages."""


class ManifestSignature(Document):
    """`manifest.json.sig`. `key_id` is the SHA-256 of the raw public key."""

    kind: Literal["signature"] = "signature"
    format_version: int = FORMAT_VERSION
    algorithm: str = "ed25519"
    key_id: str
    signature: str


@dataclass(frozen=True)
class Judged:
    """`signed_by`: identifier of the key whose signature was found good, else empty."""

    signed_by: str = ""
    problem: Finding | None = None
    warning: Finding | None = None


def load_signing_key(content: bytes, *, what: str) -> Ed25519PrivateKey:
    """From PEM (PKCS8) or the base64 of 32 bytes. Raises `SigningKeyInvalid`, naming `what` holds it."""
    text = content.strip()
    if b"-----BEGIN" not in text:
        return Ed25519PrivateKey.from_private_bytes(_raw(text, reason="SigningKeyInvalid", what=what))
    if b"PUBLIC KEY-----" in text:
        raise _invalid("SigningKeyInvalid", what, "a public key; signing needs the private one")
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except TypeError:
        raise _invalid("SigningKeyInvalid", what, "an encrypted key; store it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _invalid("SigningKeyInvalid", what, "no private key in PEM (PKCS8)") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _invalid("SigningKeyInvalid", what, f"{_kind(key)}; an ed25519 key is needed")
    return key


def load_public_key(text: str, *, what: str) -> Ed25519PublicKey:
    """From PEM or the base64 of 32 bytes. Raises `PublicKeyInvalid`, naming the field."""
    content = text.strip().encode(errors="replace")
    if b"-----BEGIN" not in content:
        return Ed25519PublicKey.from_public_bytes(_raw(content, reason="PublicKeyInvalid", what=what))
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise _invalid("PublicKeyInvalid", what, "no public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise _invalid("PublicKeyInvalid", what, f"{_kind(key)}; an ed25519 key is needed")
    return key


def load_public_keys(texts: Iterable[str], *, what: str) -> dict[str, Ed25519PublicKey]:
    """By identifier. Raises `PublicKeyInvalid`."""
    keys = (load_public_key(text, what=f"{what}[{number}]") for number, text in enumerate(texts))
    return {key_id(key): key for key in keys}


def key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def sign(key: Ed25519PrivateKey, *, backup_id: str, manifest_sha256: str) -> bytes:
    """The object to store; the same again for the same key and manifest."""
    signature = base64.b64encode(key.sign(_signed(backup_id, manifest_sha256))).decode()
    made = ManifestSignature(key_id=key_id(key.public_key()), signature=signature)
    return made.model_dump_json().encode() + b"\n"


def signer_of(content: bytes) -> str:
    """Identifier of the key that a signature of our own says it is made with; empty when it cannot be read."""
    try:
        return ManifestSignature.model_validate_json(content).key_id
    except ValidationError:
        return ""


def judge_signature(
    content: bytes | None,
    *,
    backup_id: str,
    manifest_sha256: str | None,
    public_keys: Iterable[str],
    required: bool,
    what: str,
) -> Judged:
    """`content`: of `manifest.json.sig`, None when it is not there; `what`: the field that holds the public keys.

    `manifest_sha256` None: a server made the backup. Raises `PublicKeyInvalid`.
    """
    keys = load_public_keys(public_keys, what=what)
    if content is None or manifest_sha256 is None:
        why = "nobody signed it" if manifest_sha256 else "Weaviate made it, without a manifest to sign"
        if required:
            message = f"the backup has no signature ({why}), which requireSigned of its location asks for"
            return Judged(problem=Finding("SignatureMissing", backup_id, message))
        message = f"the backup has no signature ({why}): whoever may write to the location can have made it"
        return Judged(warning=Finding("NotSigned", backup_id, message))
    return _check(content, keys, backup_id=backup_id, manifest_sha256=manifest_sha256, what=what)


def _check(
    content: bytes, keys: Mapping[str, Ed25519PublicKey], *, backup_id: str, manifest_sha256: str, what: str
) -> Judged:
    try:
        found = ManifestSignature.model_validate_json(content)
        signature = base64.b64decode(found.signature, validate=True)
    except ValueError:  # not the form, no base64, or characters of another alphabet in it
        return _refused("SignatureInvalid", backup_id, "the signature of the backup cannot be read")
    if found.format_version > FORMAT_VERSION or found.algorithm != "ed25519":
        message = f"its signature has format {found.format_version} ({found.algorithm[:20]}); update the operator"
        return _refused("SignatureInvalid", backup_id, message)
    signer = keys.get(found.key_id)
    if signer is None:
        message = f"the backup is signed with key {found.key_id[:SHOWN_DIGITS]}…, which is none of {what}"
        return _refused("SignerUnknown", backup_id, message)
    try:
        signer.verify(signature, _signed(backup_id, manifest_sha256))
    except InvalidSignature:
        message = f"the signature with key {found.key_id[:SHOWN_DIGITS]}… is not of this backup as it is in the store"
        return _refused("SignatureInvalid", backup_id, message)
    return Judged(signed_by=found.key_id)


def _signed(backup_id: str, manifest_sha256: str) -> bytes:
    """Parts that hold no zero byte, with one between them."""
    return b"\0".join((CONTEXT, backup_id.encode(), manifest_sha256.encode()))


def _raw(text: bytes, *, reason: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise _invalid(reason, what, "neither PEM nor base64") from None
    if len(raw) != KEY_BYTES:
        raise _invalid(reason, what, f"base64 of {len(raw)} bytes; an ed25519 key has {KEY_BYTES}")
    return raw


def _kind(key: object) -> str:
    """`_EllipticCurvePrivateKey` -> `an EllipticCurve key`."""
    name = type(key).__name__.removeprefix("_").removesuffix("PrivateKey").removesuffix("PublicKey")
    return f"a key of kind {name}"


def _invalid(reason: str, what: str, found: str) -> Permanent:
    return Permanent(reason, f"{what} holds {found}")


def _refused(reason: str, backup_id: str, message: str) -> Judged:
    return Judged(problem=Finding(reason, backup_id, message))
