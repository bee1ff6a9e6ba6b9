"""Backups that a real server makes, for corpora: made once per version, kept in the project's cache."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from e2e.lab.cache import exclusively, project_cache
from e2e.lab.programs import WEAVIATE_VERSION
from tests.weaviate_server import WeaviateCluster, weaviate_cluster

LEVELS = ("DefaultCompression", "ZstdBestSpeed", "NoCompression")
BACKUP_SECONDS = 60
LARGEST_BYTES = 64 << 10
"""Of a seed: a large one takes long and says no more."""


def stock_backups() -> Path:
    """The directory that holds them, as the server's module for files lays them out, and its own `data`."""
    place = project_cache() / f"fuzzing-{WEAVIATE_VERSION}"
    with exclusively(project_cache() / "fuzzing.lock", waiting_for="another process that makes backups for fuzzing"):
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            asyncio.run(_make(place))
            (place / "complete").touch()
    return place


def seeds(stock: Path | None, pattern: str) -> list[bytes]:
    """What lies at such paths; nothing without stock backups."""
    if stock is None:
        return []
    found = (path.read_bytes() for path in sorted(stock.glob(pattern)) if path.is_file())
    return [content for content in found if len(content) <= LARGEST_BYTES]


async def _make(place: Path) -> None:
    """One collection with an index of vectors, one with tenants; a backup of each compression."""
    environment = {"ENABLE_MODULES": "backup-filesystem", "BACKUP_FILESYSTEM_PATH": str(place / "backups")}
    async with weaviate_cluster(place / "data", environment=environment) as cluster:
        await cluster.create({"class": "Article", "properties": [{"name": "title", "dataType": ["text"]}]})
        await cluster.create({"class": "Note", "multiTenancyConfig": {"enabled": True}})
        await cluster.call("POST", "/v1/schema/Note/tenants", [{"name": name} for name in ("acme", "globex")])
        for level in LEVELS:
            await cluster.insert(_objects(30))
            await _back_up(cluster, {"id": level.lower(), "config": {"CompressionLevel": level}})


def _objects(count: int) -> list[dict[str, Any]]:
    return [
        {"class": "Article", "properties": {"title": f"title {number}"}, "vector": [float(number), 1.0]}
        for number in range(count)
    ] + [{"class": "Note", "tenant": "acme", "vector": [float(number), 2.0]} for number in range(count)]


async def _back_up(cluster: WeaviateCluster, request: dict[str, Any]) -> None:
    await cluster.call("POST", "/v1/backups/filesystem", request)
    async with asyncio.timeout(BACKUP_SECONDS):
        while (found := await cluster.call("GET", f"/v1/backups/filesystem/{request['id']}"))["status"] != "SUCCESS":
            if found["status"] == "FAILED":
                raise RuntimeError(f"the server's backup failed: {found}")
            await asyncio.sleep(0.2)
