"""Documents that our own writers make, for corpora: small, and with something in every field."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from e2e.fuzzing.judging import SECRET
from tests.agent.foreign_backup import COLLECTION, ForeignBackup, chain
from tests.stored.own_backup import own_backup

from weaviate_backup.layout.chunk_writer import ChunkRecord, ChunkWriter
from weaviate_backup.layout.packing import ChunkPart, PlannedChunk, SourceFile, pack
from weaviate_backup.layout.roles_and_users import Roles, encode_roles
from weaviate_backup.layout.signatures import sign

AT = datetime(2026, 5, 1, 10, 0, 0, 123456, tzinfo=UTC)
FILES = {
    "article/s0/indexcount": bytes(8),
    "article/s0/proplengths": b"{}",
    "article/s0/version": b"\x02\x00",
    "article/s0/lsm/objects/segment-1.db": b"objects" * 200,
    "article/s0/main.hnsw.commitlog.d/1": b"",
    f"article/s0/lsm/{'property_' + 'p' * 120}/segment-1.db": b"x" * 700,
}
SPLIT_BYTES = 500
ROLES = Roles(
    policies=(("role:editor", "data/collections/Article/*", "R", "data"), ("role:viewer", "*", "R", "*")),
    assignments=(
        ("db:ada", "role:editor"),
        ("oidc:bob@example.com", "role:admin"),
        ("db:wv_internal_empty", "role:editor"),
    ),
)
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = base64.b64encode(SIGNING_KEY.public_key().public_bytes_raw()).decode()
PUBLIC_PEM = SIGNING_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PRIVATE_PEM = SIGNING_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
DIGEST = "ab" * 32


def chunks(level: str, *, split_bytes: int | None = None) -> list[tuple[bytes, ChunkRecord]]:
    """`FILES` as our writer stores them."""
    sources = [SourceFile(path, len(content)) for path, content in FILES.items()]
    planned = pack(COLLECTION, [("s0", sources)], target_bytes=1 << 20, split_bytes=split_bytes)
    return [stored(each, FILES, level) for each in planned]


def stored(chunk: PlannedChunk, contents: Mapping[str, bytes], level: str) -> tuple[bytes, ChunkRecord]:
    def opened(part: ChunkPart) -> io.BytesIO:
        return io.BytesIO(contents[part.path])

    writer = ChunkWriter(chunk, open_source=opened, level=level)
    return b"".join(writer.blocks()), writer.record


class _Part(io.BytesIO):
    """Of a file as long as it says, the bytes of this part."""

    def __init__(self, block: bytes, offset: int) -> None:
        super().__init__(block)
        self._offset = offset

    def seek(self, at: int, whence: int = 0, /) -> int:
        return super().seek(at - self._offset, whence)


def written(parts: Sequence[ChunkPart], blocks: Sequence[bytes]) -> bytes:
    """The chunk of these parts."""
    left = iter(blocks)
    chunk = PlannedChunk(COLLECTION, 1, tuple(parts))
    writer = ChunkWriter(chunk, open_source=lambda part: _Part(next(left), part.offset), level="NoCompression")
    return b"".join(writer.blocks())


def users() -> bytes:
    """As a server keeps them: one user with a strong hash, one with an imported key."""
    named = {
        name: {
            "Id": name,
            "Active": True,
            "InternalIdentifier": f"identifier of {name}",
            "ApiKeyFirstLetters": SECRET[:3],
            "CreatedAt": "2026-05-01T10:00:00.123456789Z",
            "LastUsedAt": "0001-01-01T00:00:00Z",
            "ImportedWithKey": name == "bob",
            "Namespace": "",
        }
        for name in ("ada", "bob")
    }
    data = {
        "SecureKeyStorageById": {"ada": f"$argon2id$v=19$m=16,t=2,p=1${SECRET}$hash"},
        "IdentifierToId": {"identifier of ada": "ada"},
        "IdToIdentifier": {"ada": "identifier of ada"},
        "Users": named,
        "UserKeyRevoked": {"ada": {}},
        "ImportedApiKeysWeakHash": {"bob": list(range(32))},
    }
    return json.dumps({"Version": 0, "Data": data}).encode()


def roles() -> bytes:
    return encode_roles(ROLES)


def signature() -> bytes:
    return sign(SIGNING_KEY, backup_id="b1", manifest_sha256=DIGEST)


STATE: dict[str, Any] = {
    "indexID": COLLECTION,
    "config": {"virtualPerPhysical": 128, "desiredCount": 1, "key": "_id", "strategy": "hash", "function": "murmur3"},
    "physical": {
        "s0": {
            "name": "s0",
            "ownsVirtual": ["v"],
            "ownsPercentage": 0.5,
            "belongsToNodes": ["n0", "n1"],
            "status": "HOT",
        },
        "s1": {"name": "s1", "belongsToNode": "n1", "status": "COLD"},
        "away": {"name": "away", "belongsToNodes": ["n1"], "status": "FROZEN"},
    },
    "virtual": [{"name": "v", "upper": 18446744073709551615, "ownsPercentage": 1, "assignedToPhysical": "s0"}],
    "partitioningEnabled": True,
    "replicationFactor": 2,
}
CLASS: dict[str, Any] = {
    "class": COLLECTION,
    "description": "d",
    "invertedIndexConfig": {
        "bm25": {"b": 0.75, "k1": 1.2},
        "stopwords": {"preset": "en"},
        "cleanupIntervalSeconds": 60,
    },
    "moduleConfig": {"text2vec-openai": {"baseURL": "https://example.com", "vectorizeClassName": True}},
    "multiTenancyConfig": {"enabled": True, "autoTenantCreation": False},
    "properties": [
        {
            "name": "title",
            "dataType": ["text"],
            "indexFilterable": True,
            "moduleConfig": {"text2vec-openai": {"skip": False}},
        },
        {"name": "part", "dataType": ["object"], "nestedProperties": [{"name": "a", "dataType": ["int"]}]},
        {"name": "of", "dataType": ["Article"]},
    ],
    "replicationConfig": {"factor": 2, "asyncEnabled": False},
    "shardingConfig": {"desiredCount": 1},
    "vectorIndexType": "hnsw",
    "vectorIndexConfig": {"distance": "cosine", "ef": -1},
    "vectorConfig": {
        "a": {"vectorIndexType": "flat", "vectorizer": {"none": {}}, "vectorIndexConfig": {"distance": "dot"}}
    },
}


def state() -> bytes:
    return json.dumps(STATE).encode()


def definition() -> bytes:
    return json.dumps(CLASS).encode()


def with_all_fields(backup: ForeignBackup) -> ForeignBackup:
    """A leader's descriptor with a whole class, state, roles and users."""

    def change(document: dict[str, Any]) -> None:
        collection = document["classes"][0]
        collection["schema"], collection["shardingState"] = _packed(definition()), _packed(state())
        document["rbacBackups"], document["userBackups"] = _packed(roles()), _packed(users())

    backup.change("n0/backup.json", change)
    return backup


def chain_of_backups(root: Path) -> ForeignBackup:
    """Of a server: `b3`, `b2` and `b1`."""
    return with_all_fields(chain(root))


def backup_with_manifests(root: Path, backup_id: str) -> ForeignBackup:
    """Of ours. The descriptors have all fields; the manifests above them are made by whoever spoils them."""
    return own_backup(root, backup_id, files={"lsm/objects/segment-1.db": b"objects" * 100})


def _packed(content: bytes) -> str:
    return base64.b64encode(content).decode()
