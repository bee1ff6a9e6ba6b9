"""A node's manifest as one value, as tests make, change and compare it. Agents read and write it line by line."""

import io
from dataclasses import dataclass

from weaviate_backup.layout.manifests import (
    ChunkLine,
    NodeHeader,
    ShardRecord,
    encode_lines,
    read_node_manifest,
)


@dataclass(frozen=True)
class NodeManifest:
    """Everything one node stored."""

    header: NodeHeader
    shards: tuple[ShardRecord, ...]
    chunks: tuple[ChunkLine, ...]

    @property
    def stored_bytes(self) -> int:
        return self.header.descriptor.size_bytes + sum(chunk.size_bytes for chunk in self.chunks)

    @property
    def source_bytes(self) -> int:
        return sum(length for chunk in self.chunks for _, _, length, _ in chunk.files)


def encode_node_manifest(manifest: NodeManifest) -> bytes:
    """As it is stored; the same value always gives the same bytes."""
    return b"".join(encode_lines((manifest.header, *manifest.shards, *manifest.chunks)))


def decode_node_manifest(content: bytes, *, key: str) -> NodeManifest:
    """The whole manifest in memory. Raises as `read_node_manifest`."""
    header, *lines = read_node_manifest(io.BytesIO(content), key=key)
    assert isinstance(header, NodeHeader)  # read_node_manifest refuses anything else
    shards = tuple(line for line in lines if isinstance(line, ShardRecord))
    return NodeManifest(header, shards, tuple(line for line in lines if isinstance(line, ChunkLine)))
