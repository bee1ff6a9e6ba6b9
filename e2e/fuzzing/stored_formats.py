"""Readers of what lies in a store: chunks, manifests, descriptors, roles and users, signatures, and a backup of all."""

import base64
import contextlib
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.fuzzing import own_seeds
from e2e.fuzzing.judging import SECRET, Broken, Format, Reading
from e2e.fuzzing.spoiling import behind, in_bytes, in_json, in_lines, packed
from e2e.fuzzing.spoiling_archives import in_archive
from e2e.fuzzing.stock_seeds import seeds
from tests.agent.foreign_backup import COLLECTION
from tests.places import place_of
from tests.whole_manifest import NodeManifest, decode_node_manifest, encode_node_manifest

from weaviate_backup.agent.chunk_receiver import ChunkReceiver
from weaviate_backup.agent.wanted_files import DescribedCollection, WantedChunk
from weaviate_backup.errors import Permanent
from weaviate_backup.layout import descriptors, go_json, manifests
from weaviate_backup.layout.chunk_reader import read_chunk
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.json_bounds import JsonBounds, memory_of
from weaviate_backup.layout.packing import ChunkPart
from weaviate_backup.layout.roles_and_users import encode_roles, parse_policy_file, parse_roles, parse_users
from weaviate_backup.layout.schemas import encode_schema, read_schemas
from weaviate_backup.layout.signatures import judge_signature, load_public_key, load_signing_key, signer_of
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.stored.meter import Meter
from weaviate_backup.stored.storing import refuse_beyond

BOUNDS = JsonBounds(1 << 20, 20_000)
LIMIT_BYTES = 1 << 20
LIMIT_ENTRIES = 500
LIMIT_INODES = 60
LEVELS = ("NoCompression", "ZstdBestSpeed", "BestSpeed")
Read = Callable[[bytes], Any]


def same(first: object, second: object, what: str) -> None:
    if first != second:
        raise Broken(f"{what} differs: {first!r:.300} and {second!r:.300}")


def compression_of(content: bytes) -> CompressionType:
    """By its first bytes."""
    magic = {b"\x28\xb5\x2f\xfd": CompressionType.ZSTD, b"\x1f\x8b": CompressionType.GZIP}
    return next((kind for start, kind in magic.items() if content.startswith(start)), CompressionType.NONE)


def own_chunks() -> list[bytes]:
    return [
        content
        for level in LEVELS
        for split in (None, own_seeds.SPLIT_BYTES)
        for content, _ in own_seeds.chunks(level, split_bytes=split)
    ]


def _chunk(_: Path, stock: Path | None) -> Reading:
    def entries(content: bytes) -> list[tuple[str, int, int, bytes]]:
        return [
            (each.path, each.offset, each.mode, b"".join(each.blocks))
            for each in read_chunk(
                io.BytesIO(content),
                compression=compression_of(content),
                collection=COLLECTION,
                limit_bytes=LIMIT_BYTES,
                limit_entries=LIMIT_ENTRIES,
            )
        ]

    def read(content: bytes, _: Path) -> None:
        found = entries(content)
        parts = tuple(_part(path, offset, mode, block) for path, offset, mode, block in found)
        again = own_seeds.written(parts, [block for _, _, _, block in found])
        same(found, entries(again), "what is written of it")

    return Reading(own_chunks() + seeds(stock, f"backups/*/*/{COLLECTION}/chunk-*"), read)


def _part(path: str, offset: int, mode: int, block: bytes) -> ChunkPart:
    return ChunkPart(path.split("/")[1], path, offset, len(block), offset + len(block), mode)


def _receiver(directory: Path, _: Path | None) -> Reading:
    """As a manifest tells of it, and as a descriptor does."""
    key, split = "chunk", own_seeds.SPLIT_BYTES
    store_root = directory / "store"
    store_root.mkdir(exist_ok=True)
    store, truth = FilesystemStore(store_root), own_seeds.FILES
    parts = {
        (part.path, part.offset): part.sha256
        for each in (None, split)
        for _, record in own_seeds.chunks("NoCompression", split_bytes=each)
        for part in record.parts
    }
    wholes = {at: digest for at, digest in parts.items() if digest == hashlib.sha256(truth[at[0]]).hexdigest()}
    named = DescribedCollection(names=set(truth), shards={"s0"})

    def receive(content: bytes, private: Path, chunk: WantedChunk) -> dict[str, bytes]:
        (store_root / key).write_bytes(content)
        receiver = ChunkReceiver(store, place_of(private), Meter(), limit_bytes=LIMIT_BYTES, limit_inodes=LIMIT_INODES)
        try:
            receiver.receive(chunk)
        finally:
            made = list(private.rglob("*"))
            if (
                len(made) > LIMIT_INODES + 1
                or sum(each.stat().st_size for each in made if each.is_file()) > LIMIT_BYTES
            ):
                raise Broken(f"{len(made)} files and folders were made")
        root = private / COLLECTION
        return {each.relative_to(root).as_posix(): each.read_bytes() for each in made if each.is_file()}

    def read(content: bytes, private: Path) -> None:
        compression = compression_of(content)
        vouched = WantedChunk(COLLECTION, key, compression, LIMIT_BYTES, wholes, limit_entries=len(wholes))
        with contextlib.suppress(Permanent):
            same(receive(content, private / "vouched", vouched), truth, "what a manifest vouches for")
        told = WantedChunk(COLLECTION, key, compression, is_named=named.is_named, limit_entries=LIMIT_ENTRIES)
        names = receive(content, private / "told", told).keys()
        if not names <= truth.keys():
            raise Broken(f"{sorted(names - truth.keys())[:3]} are in no descriptor")

    return Reading(own_chunks(), read)


def _node_manifest(directory: Path, stock: Path | None) -> Reading:
    backup = own_seeds.backup_with_manifests(directory, "m1")
    corpus = [(backup.root / "m1" / f"{node}/manifest.json.zst").read_bytes() for node in ("n0", "n1")]

    def read(content: bytes, _: Path) -> None:
        lines = list(manifests.read_node_manifest(io.BytesIO(content), key="k", line_bounds=BOUNDS))
        shards = tuple(each for each in lines if isinstance(each, manifests.ShardRecord))
        chunks = tuple(each for each in lines if isinstance(each, manifests.ChunkLine))
        assert isinstance(lines[0], manifests.NodeHeader)
        manifest = NodeManifest(lines[0], shards, chunks)
        assert manifest.source_bytes >= 0
        assert manifest.stored_bytes >= 0
        same(decode_node_manifest(encode_node_manifest(manifest), key="k"), manifest, "a manifest")

    return Reading(corpus, read)


def _schema(_: Path, stock: Path | None) -> Reading:
    schema = {
        "class": own_seeds.CLASS,
        "state": own_seeds.STATE,
        "aliases": {"News": COLLECTION},
        "version": 7,
    }
    corpus = [encode_schema(COLLECTION, schema), encode_schema(COLLECTION, schema) + encode_schema("Book", schema)]

    def read(content: bytes, _: Path) -> None:
        found = list(read_schemas(io.BytesIO(content), what="k", bounds=BOUNDS))
        again = b"".join(encode_schema(collection, schema) for collection, schema in found)
        same(list(read_schemas(io.BytesIO(again), what="k", bounds=BOUNDS)), found, "a schema")

    return Reading(corpus, read)


def _document(corpus: list[bytes], read: Read) -> Reading:
    """Of bounded JSON: bounds are judged where a store's document is read."""

    def bounded(content: bytes, _: Path) -> None:
        refuse_beyond(content, BOUNDS, what="k")
        read(content)

    return Reading(corpus, bounded)


def _backup_manifest(directory: Path, _: Path | None) -> Reading:
    backup = own_seeds.backup_with_manifests(directory, "m2")

    def read(content: bytes) -> None:
        manifest = manifests.decode_backup_manifest(content, key="k")
        again = manifests.encode_backup_manifest(manifest)
        same(manifests.decode_backup_manifest(again, key="k"), manifest, "a manifest")

    return _document([(backup.root / "m2" / "manifest.json").read_bytes()], read)


def _node_descriptor(directory: Path, stock: Path | None) -> Reading:
    backup = own_seeds.chain_of_backups(directory)
    corpus = [(backup.root / each / "n0/backup.json").read_bytes() for each in ("b1", "b3")]

    def read(content: bytes) -> None:
        descriptor = descriptors.parse_node_descriptor(content, key="k")
        again = descriptors.parse_node_descriptor(descriptors.encode(descriptor), key="k")
        same(again, descriptor, "a descriptor")

    return _document(corpus + seeds(stock, "backups/*/*/backup.json"), read)


def _backup_config(directory: Path, stock: Path | None) -> Reading:
    backup = own_seeds.chain_of_backups(directory)
    corpus = [(backup.root / each / "backup_config.json").read_bytes() for each in ("b1", "b3")]

    def read(content: bytes) -> None:
        config = descriptors.parse_backup_config(content, key="k")
        same(descriptors.parse_backup_config(descriptors.encode(config), key="k"), config, "a descriptor")

    return _document(corpus + seeds(stock, "backups/*/backup_config.json"), read)


def _roles(_: Path, stock: Path | None) -> Reading:
    def read(content: bytes, _: Path) -> None:
        roles = parse_roles(content, bounds=BOUNDS, what="roles")
        same(parse_roles(encode_roles(roles), bounds=BOUNDS, what="roles"), roles, "roles")
        assert roles.custom <= roles.names
        assert isinstance(roles.hold_something, bool)

    return Reading([own_seeds.roles()], read)


def _users(_: Path, stock: Path | None) -> Reading:
    def read(content: bytes, _: Path) -> None:
        for name, each in parse_users(content, bounds=BOUNDS, what="users").items():
            assert each.user.id == name
            if SECRET in repr(each):
                raise Broken("a secret in what is shown of a user")

    return Reading([own_seeds.users()], read)


def _policy_file(_: Path, stock: Path | None) -> Reading:
    corpus = [
        "".join(
            f"{kind}, {', '.join(fields)}\n"
            for kind, rules in (("p", roles.policies), ("g", roles.assignments))
            for fields in rules
        )
        for roles in (own_seeds.ROLES,)
    ]

    def read(content: bytes, _: Path) -> None:
        roles = parse_policy_file(content.decode(errors="replace"))
        same(parse_roles(encode_roles(roles), bounds=BOUNDS, what="roles"), roles, "roles")

    return Reading([each.encode() for each in corpus], read)


def _signature(_: Path, stock: Path | None) -> Reading:
    def read(content: bytes, _: Path) -> None:
        refuse_beyond(content, BOUNDS, what="k")
        assert isinstance(signer_of(content), str)
        judged = judge_signature(
            content,
            backup_id="b1",
            manifest_sha256=own_seeds.DIGEST,
            public_keys=[own_seeds.PUBLIC_KEY],
            required=True,
            what="spec.verify.publicKeys",
        )
        if (judged.problem is None) is not bool(judged.signed_by):
            raise Broken(f"neither good nor bad: {judged}")
        if judged.problem is not None:
            raise Permanent(judged.problem.reason, judged.problem.message)
        good = json.loads(own_seeds.signature())
        if judged.signed_by and base64.b64decode(json.loads(content)["signature"]) != base64.b64decode(
            good["signature"]
        ):
            raise Broken("another signature was taken for good")

    return Reading([own_seeds.signature()], read)


def _keys(_: Path, stock: Path | None) -> Reading:
    def read(content: bytes, _: Path) -> None:
        try:
            load_public_key(content.decode(errors="replace"), what="spec.verify.publicKeys[0]")
        except Permanent:
            load_signing_key(content, what="key 'a' of Secret 'b'")

    pem = own_seeds.PUBLIC_PEM
    return Reading(
        [
            pem.encode(),
            own_seeds.PUBLIC_KEY.encode(),
            own_seeds.PRIVATE_PEM.encode(),
            pem.replace("\n", "\r\n").encode(),
        ],
        read,
    )


SHAPES: dict[bytes, go_json.Shape] = {
    b"c": go_json.CLASS, b"s": go_json.SHARDING_STATE, b"a": go_json.ALIASES, b"r": go_json.ROLES, b"u": go_json.USERS,
}  # fmt: skip


def _go_json(_: Path, stock: Path | None) -> Reading:
    """What it gives is what any parser gives, and as large as its bounds say."""
    aliases = json.dumps([{"alias": "News", "class": COLLECTION}]).encode()
    documents = (own_seeds.definition(), own_seeds.state(), aliases, own_seeds.roles(), own_seeds.users())

    def read(content: bytes, _: Path) -> None:
        shape = SHAPES.get(content[:1])
        found = go_json.parse_for_go(content[1:], shape, bounds=BOUNDS, what="the document")
        same(found, json.loads(content[1:].decode()), "what is parsed")
        if memory_of(found) > 1024 * BOUNDS.values + 64 * BOUNDS.size_bytes:
            raise Broken("values take more than their bounds")

    return Reading([kind + document for kind, document in zip(SHAPES, documents, strict=True)], read)


FORMATS = (
    Format("chunk", _chunk, packed(in_archive)),
    Format("receiver", _receiver, packed(in_archive)),
    Format("node-manifest", _node_manifest, packed(in_lines)),
    Format("schema", _schema, packed(in_lines)),
    Format("backup-manifest", _backup_manifest, in_json),
    Format("node-descriptor", _node_descriptor, in_json),
    Format("backup-config", _backup_config, in_json),
    Format("roles", _roles, in_json),
    Format("users", _users, in_json),
    Format("policy-file", _policy_file, in_bytes),
    Format("signature", _signature, in_json),
    Format("keys", _keys, in_bytes),
    Format("go-json", _go_json, behind(1, in_json)),
)
