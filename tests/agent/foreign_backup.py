"""A backup as a server lays it out, small, in a directory, and easy to spoil: documents are JSON that a test changes.

Chunks are written by our writer, whose bytes servers read; big files stand alone in a chunk and are named in
`bigFilesChunk`, so that a later backup can refer to them.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weaviate_backup.layout.chunk_writer import ChunkWriter
from weaviate_backup.layout.packing import ChunkPart, PlannedChunk
from weaviate_backup.storage.filesystem import FilesystemStore

COLLECTION = "Article"
NODES = ("n0", "n1")
SMALL = ("indexcount", "proplengths", "version")
Json = dict[str, Any]


def shard_of(node: str) -> str:
    return f"s{node[1:]}"


def path_of(node: str, name: str) -> str:
    return f"{COLLECTION.lower()}/{shard_of(node)}/{name}"


@dataclass
class ForeignBackup:
    """Below `root`; `files` are what each node holds of its one shard, by name."""

    root: Path
    backup_id: str
    started_at: str = "2026-05-01T10:00:00.000000001Z"
    base: "ForeignBackup | None" = None
    level: str = "BestSpeed"
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def store(self) -> FilesystemStore:
        return FilesystemStore(self.root)

    def expected(self, node: str) -> dict[str, bytes]:
        """What a restore must bring back to the node: path -> content."""
        older = self.base.expected(node) if self.base else {}
        return older | {path_of(node, name): self._content(node, name) for name in (*SMALL, *self.files)}

    def _content(self, node: str, name: str) -> bytes:
        return self.files.get(name, f"{name} of {self.backup_id}".encode()) + node.encode()

    def write(self) -> "ForeignBackup":
        """All objects, the global descriptor last."""
        for node in NODES:
            self._write_node(node)
        nodes = {node: {"classes": [COLLECTION], "status": "SUCCESS", "error": ""} for node in NODES}
        self.put("backup_config.json", self._head() | {"nodes": nodes, "leader": NODES[0], "node_mapping": None})
        return self

    def _head(self) -> Json:
        return {
            "startedAt": self.started_at,
            "completedAt": "0001-01-01T00:00:00Z",
            "id": self.backup_id,
            "status": "SUCCESS",
            "version": "2.1",
            "serverVersion": "1.39.1",
            "error": "",
            "compressionType": "gzip" if self.level == "BestSpeed" else "zstd",
            "baseBackupId": self.base.backup_id if self.base else "",
        }

    def _write_node(self, node: str) -> None:
        stored = {path_of(node, name): self._content(node, name) for name in (*SMALL, *self.files)}
        small = [path_of(node, name) for name in SMALL]
        self.put_chunk(node, 1, {path: stored[path] for path in small})
        big: Json = {}
        for number, name in enumerate(self.files, start=2):
            path = path_of(node, name)
            self.put_chunk(node, number, {path: stored[path]})
            keys = [f"{COLLECTION}/chunk-{number}"]
            big[path] = {"chunkKeys": keys, "size": len(stored[path]), "modifiedAt": self.started_at}
        shard = {"name": shard_of(node), "node": node, "files": list(stored), "bigFilesChunk": big}
        shard["incrementalBackupInfo"] = {"filesPerBackup": self._reused(node)} if self.base else {}
        chunks = {str(number): [shard_of(node)] for number in range(1, len(self.files) + 2)}
        state = {"physical": {shard_of(each): {"belongsToNodes": [each]} for each in NODES}}
        collection = {
            "name": COLLECTION,
            "backupId": self.backup_id,
            "shards": [shard],
            "shardingState": _packed(state),
            "schema": _packed({"class": COLLECTION}),
            "aliases": _packed([{"alias": "News", "class": COLLECTION}]),
            "aliasesIncluded": True,
            "chunks": chunks,
            "preCompressionSizeBytes": sum(len(content) for content in stored.values()),
        }
        self.put(f"{node}/backup.json", self._head() | {"classes": [collection]})

    def _reused(self, node: str) -> Json:
        """Every big file of every older backup, as the server that stored it described it."""
        found: Json = {}
        older = self.base
        while older is not None:
            (collection,) = older.get(f"{node}/backup.json")["classes"]
            big = collection["shards"][0]["bigFilesChunk"]
            found[older.backup_id] = [{"file": path, "chunkKeys": each["chunkKeys"]} for path, each in big.items()]
            older = older.base
        return found

    def put_chunk(self, node: str, number: int, contents: Mapping[str, bytes]) -> None:
        shard = shard_of(node)
        parts = tuple(ChunkPart(shard, path, 0, len(data), len(data), 0o644) for path, data in contents.items())
        planned = PlannedChunk(COLLECTION, number, parts)
        writer = ChunkWriter(planned, open_source=lambda part: io.BytesIO(contents[part.path]), level=self.level)
        self.put_bytes(f"{node}/{COLLECTION}/chunk-{number}", b"".join(writer.blocks()))

    def put(self, key: str, document: Json) -> None:
        self.put_bytes(key, json.dumps(document).encode())

    def put_bytes(self, key: str, content: bytes) -> None:
        path = self.root / self.backup_id / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def get(self, key: str) -> Json:
        document = json.loads((self.root / self.backup_id / key).read_bytes())
        assert isinstance(document, dict)
        return document

    def change(self, key: str, change: Callable[[Json], object]) -> None:
        """Load, let `change` spoil it in place, store."""
        document = self.get(key)
        change(document)
        self.put(key, document)

    def remove(self, key: str) -> None:
        (self.root / self.backup_id / key).unlink()


def chain(root: Path) -> ForeignBackup:
    """`b3` builds on `b2`, which builds on `b1`; each stored one big file that the others did not."""
    first = ForeignBackup(root, "b1", files={"lsm/objects/segment-1.db": b"first" * 200}).write()
    second = ForeignBackup(
        root, "b2", started_at="2026-05-02T10:00:00Z", base=first, files={"lsm/objects/segment-2.db": b"second" * 300}
    ).write()
    return ForeignBackup(
        root, "b3", started_at="2026-05-03T10:00:00Z", base=second, files={"lsm/objects/segment-3.db": b"third" * 400}
    ).write()


def _packed(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()
