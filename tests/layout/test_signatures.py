"""A signature holds for one manifest under one identifier; whatever else is there is refused by name, keys unseen."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.signatures import (
    Judged,
    judge_signature,
    key_id,
    load_public_key,
    load_signing_key,
    sign,
    signer_of,
)

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()
PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo
FIELD = "spec.verify.publicKeys"
DIGEST = "a" * 64
KEY = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
OLD = Ed25519PrivateKey.from_private_bytes(b"2" * 32)


def public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def public_pem(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(PEM, PUBLIC).decode()


def judged(
    content: bytes | None,
    *keys: Ed25519PrivateKey,
    backup_id: str = "nightly",
    digest: str | None = DIGEST,
    required: bool = False,
) -> Judged:
    return judge_signature(
        content,
        backup_id=backup_id,
        manifest_sha256=digest,
        public_keys=[public(key) for key in keys or (KEY,)],
        required=required,
        what=FIELD,
    )


def reason_of(found: Judged) -> str:
    assert found.problem is not None
    assert not found.signed_by
    return found.problem.reason


SIGNED = sign(KEY, backup_id="nightly", manifest_sha256=DIGEST)


def test_one_of_several_keys_vouches() -> None:
    assert judged(SIGNED, OLD, KEY, required=True) == Judged(signed_by=key_id(KEY.public_key()))
    assert sign(KEY, backup_id="nightly", manifest_sha256=DIGEST) == SIGNED, "a commit that is repeated says the same"


def test_whoever_signed_is_named_without_a_key() -> None:
    assert signer_of(SIGNED) == key_id(KEY.public_key())
    for content in (b"", b"{}", b"no JSON"):
        assert signer_of(content) == ""


def test_it_holds_for_nothing_else() -> None:
    assert reason_of(judged(SIGNED, backup_id="weekly")) == "SignatureInvalid"
    assert reason_of(judged(SIGNED, digest="b" * 64)) == "SignatureInvalid"
    assert reason_of(judged(SIGNED, OLD)) == "SignerUnknown"
    moved = sign(KEY, backup_id="night", manifest_sha256=f"ly{DIGEST}")
    assert reason_of(judged(moved)) == "SignatureInvalid"


def test_a_key_that_signs_something_else_signs_no_backup() -> None:
    document = json.loads(SIGNED)
    document["signature"] = base64.b64encode(KEY.sign(f"nightly\0{DIGEST}".encode())).decode()
    assert reason_of(judged(json.dumps(document).encode())) == "SignatureInvalid"


def test_another_key_under_this_ones_identifier_is_found_out() -> None:
    document = json.loads(sign(OLD, backup_id="nightly", manifest_sha256=DIGEST))
    document["key_id"] = key_id(KEY.public_key())
    assert reason_of(judged(json.dumps(document).encode())) == "SignatureInvalid"


@given(st.binary(max_size=300))
def test_any_other_bytes_are_no_signature(content: bytes) -> None:
    assert reason_of(judged(content)) == "SignatureInvalid"


@given(st.integers(min_value=0, max_value=len(SIGNED) * 8 - 1))
def test_no_bit_of_it_may_change_what_it_says(bit: int) -> None:
    content = bytearray(SIGNED)
    content[bit // 8] ^= 1 << bit % 8
    found = judged(bytes(content))
    assert found.problem is not None or _says_the_same(bytes(content))


def _says_the_same(content: bytes) -> bool:
    """White space, the name of a field with a default, the unused bits at the end of base64."""
    then, now = json.loads(SIGNED), json.loads(content)
    raw = [base64.b64decode(each["signature"]) for each in (then, now)]
    return raw[0] == raw[1] and then["key_id"] == now["key_id"]


@pytest.mark.parametrize("signature", ["\u202e", "é" * 88, "=", "AAAA", "", " "])
def test_a_signature_of_no_base64_is_invalid(signature: str) -> None:
    found = judged(json.dumps(json.loads(SIGNED) | {"signature": signature}).encode())
    assert reason_of(found) == "SignatureInvalid"


@pytest.mark.parametrize("field", ["key_id", "algorithm"])
def test_what_it_says_of_itself_steers_no_terminal(field: str) -> None:
    found = judged(json.dumps(json.loads(SIGNED) | {field: "\x1b[2J\0\n"}).encode())
    assert found.problem is not None
    assert found.problem.message.isprintable()


@pytest.mark.parametrize("change", [{"format_version": 2}, {"algorithm": "ed448"}])
def test_formats_to_come_are_refused(change: dict[str, object]) -> None:
    assert reason_of(judged(json.dumps(json.loads(SIGNED) | change).encode())) == "SignatureInvalid"


@pytest.mark.parametrize(("content", "digest"), [(None, DIGEST), (None, None), (SIGNED, None)])
def test_a_missing_one_is_a_warning_unless_it_is_required(content: bytes | None, digest: str | None) -> None:
    found = judged(content, digest=digest)
    assert found.warning is not None
    assert (found.problem, found.warning.reason) == (None, "NotSigned")
    assert reason_of(judged(content, digest=digest, required=True)) == "SignatureMissing"


def test_keys_are_read_as_openssl_writes_them() -> None:
    raw = base64.b64encode(KEY.private_bytes_raw())
    for content in (KEY.private_bytes(PEM, PKCS8, PLAIN), raw, raw + b"\n"):
        assert load_signing_key(content, what="it").private_bytes_raw() == KEY.private_bytes_raw()
    for text in (public(KEY), public_pem(KEY), f"\n{public_pem(KEY)}\n"):
        assert key_id(load_public_key(text, what="it")) == key_id(KEY.public_key())


EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
SECRET = b"hunter2hunter2hunter2hunter2hunter2"
BAD = {
    "no base64": (SECRET + b"!", "neither PEM nor base64"),
    "a stranger in it": (base64.b64encode(SECRET[:32]).replace(b"=", b"!="), "neither PEM nor base64"),
    "other length": (base64.b64encode(SECRET), "base64 of 35 bytes; an ed25519 key has 32"),
    "broken PEM": (b"-----BEGIN PRIVATE KEY-----\n" + SECRET + b"\n-----END PRIVATE KEY-----", "no private key in PEM"),
    "a public key": (public_pem(KEY).encode(), "a public key; signing needs the private one"),
    "encrypted": (
        KEY.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(SECRET)),
        "an encrypted key; store it without a passphrase",
    ),
    "EC": (EC.private_bytes(PEM, PKCS8, PLAIN), "a key of kind EC;"),
    "RSA": (RSA.private_bytes(PEM, PKCS8, PLAIN), "a key of kind RSA; an ed25519 key is needed"),
    "Ed448": (ed448.Ed448PrivateKey.generate().private_bytes(PEM, PKCS8, PLAIN), "a key of kind Ed448;"),
    "nothing": (b"", "base64 of 0 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_signing_key_that_is_none_is_named_and_never_shown(case: str) -> None:
    content, said = BAD[case]
    with pytest.raises(Permanent, match=said) as caught:
        load_signing_key(content, what="key 'k' of Secret 's'")
    assert caught.value.reason == "SigningKeyInvalid"
    assert caught.value.message.startswith("key 'k' of Secret 's' holds ")
    lines = [line for line in content.decode().splitlines() if len(line) > 8 and "-----" not in line]
    assert not any(line[:8] in repr(caught.value) for line in lines)


@pytest.mark.parametrize(
    "text",
    ["", "AAAA", KEY.private_bytes(PEM, PKCS8, PLAIN).decode(), EC.public_key().public_bytes(PEM, PUBLIC).decode()],
)
def test_a_public_key_that_is_none_is_named_by_its_place(text: str) -> None:
    with pytest.raises(Permanent) as caught:
        judge_signature(
            SIGNED,
            backup_id="nightly",
            manifest_sha256=DIGEST,
            public_keys=[public(KEY), text],
            required=False,
            what=FIELD,
        )
    assert caught.value.reason == "PublicKeyInvalid"
    assert "spec.verify.publicKeys[1]" in caught.value.message
