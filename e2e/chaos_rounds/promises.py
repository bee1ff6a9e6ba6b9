"""What must hold after an operation, whatever happened during it: asked of the cluster, the volumes and the bucket."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import zstandard
from e2e.chaos_rounds.ground import AGENT_LABEL, FAILURES, Ground
from e2e.chaos_rounds.judging import untold
from e2e.cluster import bucket
from e2e.dataset.weaviate_http import Weaviate

GONE_SECONDS = 150
"""Two leases and their margins: within them an agent that nobody asks has let the server go, and has ended."""

OF_THE_SERVER = ("raft", "backups", "modules")
"""Directories in the data root that are of no collection."""


OURS = (".replica-staging-*", ".weaviate-backup/*", "*/*/changelog/*")
"""On a volume: frozen sets, server snapshots, captures of writes."""
RESTORED = (".backup.tmp/*", "*/*/.late-writes")
"""Staged restores, and late writes, which the server's own restore leaves where they lie."""


def left_overs(ground: Ground, uids: Sequence[str], *, by_server: bool) -> list[str]:
    """What should be gone and is not, after some patience: pods, Secrets, leases, directories, captures. `uids`: of the
    operations that are finished; `by_server`: the server's own restore is not ours to clear."""
    patterns = OURS if by_server else (*OURS, *RESTORED)
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        try:
            found = [str(path.relative_to(ground.lab.directory)) for path in _on_volumes(ground, patterns)]
            found += _in_the_cluster(ground, uids)
        except FAILURES as error:
            found = [f"not to be seen: {error}"]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(1)


def _in_the_cluster(ground: Ground, uids: Sequence[str]) -> Iterator[str]:
    for pod in ground.kubectl.items("pods", f"--selector={AGENT_LABEL}"):
        if not pod["metadata"]["name"].startswith("wvb-probe"):
            yield f"pod {pod['metadata']['name']}"
    for kubectl in (ground.kubectl, ground.operator_kubectl):
        for secret in kubectl.items("secrets"):
            if any(uid in secret["metadata"]["name"] for uid in uids):
                yield f"secret {secret['metadata']['namespace']}/{secret['metadata']['name']}"
    for lease in ground.kubectl.items("leases"):
        if lease["spec"].get("holderIdentity") in uids:
            yield f"lease {lease['metadata']['name']}"


def _on_volumes(ground: Ground, patterns: Sequence[str]) -> Iterator[Path]:
    for ordinal in range(len(ground.lab.weaviate_urls)):
        for pattern in patterns:
            yield from ground.lab.volume(ordinal).glob(pattern)


def schema_faults(ground: Ground, *, by_server: bool) -> Iterator[str]:
    """All nodes know the same collections, every shard is ready, and no volume holds another collection."""
    schemas = {url: Weaviate(url, read_seconds=30).collections() for url in ground.lab.weaviate_urls}
    names = [set(schema) for schema in schemas.values()]
    if any(each != names[0] for each in names):
        yield f"nodes know different collections: {[sorted(each) for each in names]}"
    weaviate = ground.weaviate
    for name in sorted(names[0]):
        yield from (f"shard {line}" for line in weaviate.unfinished(name) if "LAZY_LOADING" not in line)
    if not by_server:
        yield from (f"{path.relative_to(ground.lab.directory)} is of no collection" for path in _of_none(ground))


def clear_after_server(ground: Ground) -> None:
    """What its own restore leaves on the volumes when its pod dies is taken away, as people would."""
    for path in (*_on_volumes(ground, RESTORED), *_of_none(ground)):
        if path.is_dir():
            shutil.rmtree(path)


def _of_none(ground: Ground) -> Iterator[Path]:
    """Directories of collections that there are not."""
    known = {*(name.lower() for name in ground.weaviate.collections()), *OF_THE_SERVER}
    for ordinal in range(len(ground.lab.weaviate_urls)):
        for path in ground.lab.volume(ordinal).iterdir():
            dropped = path.name.endswith(".deleteme")
            if path.is_dir() and path.name[0].isalpha() and path.name not in known and not dropped:
                yield path


def stored_faults(ground: Ground, backup_id: str) -> Iterator[str]:
    """Every byte of a Completed backup is what its manifests say, read without our code."""
    folder = ground.lab.store.bucket_directory / backup_id
    listed = {key.removeprefix(f"{backup_id}/") for key in bucket.listing(ground.lab.store, f"{backup_id}/")}
    manifest = json.loads((folder / "manifest.json").read_text())
    named = {"manifest.json", "backup_config.json", "operation.json"}
    for node, entry in manifest["nodes"].items():
        named |= {f"{node}/manifest.json.zst", f"{node}/backup.json"}
        packed = (folder / node / "manifest.json.zst").read_bytes()
        if hashlib.sha256(packed).hexdigest() != entry["manifest"]["sha256"]:
            yield f"{backup_id}/{node}/manifest.json.zst is not what manifest.json names"
        text = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
        for line in map(json.loads, text.splitlines()):
            for key, stored in _objects_of(node, line):
                named.add(key)
                if (fault := _object_fault(folder / key, stored)) is not None:
                    yield f"{backup_id}/{key} {fault}"
    for key in sorted(named - listed):
        yield f"{backup_id}/{key} is not in the bucket"
    for key in sorted(listed - named):
        yield f"{backup_id}/{key} is in the bucket and named by no manifest"


def _objects_of(node: str, line: Any) -> Iterator[tuple[str, Any]]:
    """Key, and what has its size and SHA-256, of what a line of a node's manifest names."""
    if line["kind"] == "chunk":
        yield f"{node}/{line['collection']}/chunk-{line['number']}", line
    elif line.get("survey"):
        yield f"{node}/schema.json.zst", line["survey"]


def _object_fault(path: Path, line: Any) -> str | None:
    if not path.is_file():
        return "is missing"
    content = path.read_bytes()
    if len(content) != line["size_bytes"]:
        return f"has {len(content)} bytes, not {line['size_bytes']}"
    return None if hashlib.sha256(content).hexdigest() == line["sha256"] else "has another checksum"


def unnamed_debris(ground: Ground, backup_id: str, resource: Any) -> Iterator[str]:
    """A backup that did not complete leaves nothing but what its status tells of. A marker is of one that is whole: its
    object was deleted, or nobody could say any more that it was committed."""
    stored = bucket.listing(ground.lab.store, f"{backup_id}/")
    status = resource.get("status", {})
    if f"{backup_id}/backup_config.json" in stored:
        if status.get("phase") != "Gone" and "Unconfirmed" not in json.dumps(status):
            yield f"{backup_id} has a marker and is not Completed"
        yield from stored_faults(ground, backup_id)
        return
    if left := untold(backup_id, stored, status.get("nodes", [])):
        yield f"{backup_id} left {len(left)} objects, and its status says nothing of it: {left[:4]}"


def credentials_in(texts: Sequence[Path], secrets: Sequence[str]) -> Iterator[str]:
    for path in texts:
        content = path.read_text(errors="replace")
        for secret in secrets:
            if secret in content:
                yield f"{path}: holds the credential {secret[:4]}…"
