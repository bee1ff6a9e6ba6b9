"""Memory and time of one agent with very many files: `python -m e2e.bench.many_files [--tenants N …]`.

A synthetic volume of inactive tenants with 30 files each, frozen, uploaded, verified, committed, inspected, downloaded
and placed by the agent's own steps, each in a process of its own. Only the answers of a Weaviate are made up. Files are
names of few, since their number is what is measured; what comes back is real files.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tests.agent.hand_frozen import COLLECTION, Node
from tests.agent.small_restore import PLACE
from tests.places import place_of

from weaviate_backup.agent.access import KEPT_FILE, Access, _keep
from weaviate_backup.agent.commit import _commit
from weaviate_backup.agent.download import _download
from weaviate_backup.agent.expansion import LocalShards, TenantStatus
from weaviate_backup.agent.freeze import FrozenCollection, summarize, take_place
from weaviate_backup.agent.inspect_backup import _inspect
from weaviate_backup.agent.journal import JOURNAL, Journal
from weaviate_backup.agent.kept_documents import keep_document
from weaviate_backup.agent.place import _place_all
from weaviate_backup.agent.shard_freezer import ShardFreezer
from weaviate_backup.agent.upload import _upload
from weaviate_backup.agent.verify import _verify
from weaviate_backup.agent.workspace import SCHEMA, Workspace
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.session import RestoreOrder, SessionOrder, Step, StepCommand, WeaviateEndpoint
from weaviate_backup.settings import AgentSettings
from weaviate_backup.stored.meter import Meter

UID, RESTORE_UID, NODE, BACKUP_ID = "0b5f2c1e", "1b5f2c1e", "weaviate-0", "nightly"
FILES_OF_TENANT = 30
SHARED_BY = 1000
"""Tenants whose files are names of the same ones: a file system allows so many names of one."""
CHUNK_BYTES = 128 << 20
FIRST = ("indexcount", "proplengths", "version")
NAMES = (*FIRST, *(f"lsm/objects/segment-{number:019}.db" for number in range(FILES_OF_TENANT - len(FIRST))))


class _NothingOpen:
    """A Weaviate that has no tenant in memory."""

    async def has_open(self, *_: str) -> bool:
        return False


@dataclass(frozen=True)
class Volume:
    """In one directory: two nodes' volumes and a store."""

    base: Path

    @property
    def node(self) -> Node:
        return Node(self.base, self.base / "store", UID, {}, chunk_size_bytes=CHUNK_BYTES)

    def make(self, tenants: int) -> None:
        (self.base / "store").mkdir(parents=True)
        for number in range(tenants):
            shared = self.base / "shared" / str(number // SHARED_BY)
            if not shared.exists():
                _write_tenant(shared)
            tenant = self.node.data / COLLECTION.lower() / f"tenant-{number:07}"
            (tenant / "lsm" / "objects").mkdir(parents=True)
            for name in NAMES:
                os.link(shared / name, tenant / name)
        statuses = {f"tenant-{number:07}": "COLD" for number in range(tenants)}
        physical = {
            name: {"name": name, "ownsVirtual": [], "ownsPercentage": 0, "belongsToNodes": [NODE], "status": status}
            for name, status in statuses.items()
        }
        state = {"indexID": COLLECTION, "partitioningEnabled": True, "physical": physical}
        schema = {"class": {"class": COLLECTION, "properties": []}, "state": state, "aliases": {}, "version": 1}
        self.node.directory.mkdir(parents=True)
        keep_document(place_of(self.node.directory) / SCHEMA / f"{COLLECTION}.json", schema, durable=False)
        _keep(place_of(self.node.directory) / KEPT_FILE, Access())

    def restoring(self) -> Workspace:
        data = self.base / "restored"
        data.mkdir(exist_ok=True)
        order = SessionOrder(
            operation_uid=RESTORE_UID,
            node=NODE,
            backup_id=BACKUP_ID,
            location=LocationSpec.model_validate(PLACE),
            server_version="1.39.1",
            weaviate=WeaviateEndpoint(host="127.0.0.1", data_path=str(data)),
            work=RestoreOrder(source_node=NODE),
        )
        nowhere = self.base / "nowhere"
        settings = AgentSettings(
            operation_uid=RESTORE_UID,
            node=NODE,
            data_path=data,
            credentials_directory=nowhere,
            ca_directory=nowhere,
            filesystem_root=self.base / "store",
        )
        return Workspace(settings, order, Journal(place_of(data) / ".weaviate-backup" / RESTORE_UID / JOURNAL))


def _write_tenant(directory: Path) -> None:
    for number, name in enumerate(NAMES):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(200 + 10 * number))


def _freeze(volume: Volume) -> None:
    workspace, meter = volume.node.workspace(), Meter()
    with workspace.journal as journal:
        take_place(workspace)
        names = sorted(each.name for each in (volume.node.data / COLLECTION.lower()).iterdir())
        statuses = dict.fromkeys(names, TenantStatus.INACTIVE)
        made_up = cast(Any, _NothingOpen())
        freezer = ShardFreezer(workspace, meter, raft=made_up, node=made_up, driver=made_up)
        asyncio.run(freezer.freeze(COLLECTION, statuses, 1, multi_tenant=True))
        shards = LocalShards(statuses, multi_tenant=True)
        frozen = summarize(workspace, (COLLECTION,), {COLLECTION: FrozenCollection(COLLECTION, shards)})
        workspace.directory.sync_file_system()
        journal.append("frozen", result=frozen.model_dump(mode="json"))


def _of_backup(step: Callable[[Workspace], object]) -> Callable[[Volume], None]:
    def run(volume: Volume) -> None:
        workspace = volume.node.workspace()
        with workspace.journal:
            step(workspace)

    return run


def _commit_verified(workspace: Workspace) -> None:
    digest = workspace.journal.last("uploaded")
    assert digest is not None
    _commit(workspace, {NODE: digest["result"]["manifest_sha256"]}, Meter())


def _inspected(volume: Volume) -> None:
    workspace = volume.restoring()
    with workspace.journal as journal:
        inspected = _inspect(workspace, Meter())
        assert inspected.contents.problems == () == inspected.problems, inspected
        journal.append("inspected", sha256=inspected.contents.sha256)


def _downloaded(volume: Volume) -> None:
    workspace = volume.restoring()
    with workspace.journal as journal:
        told = journal.last("inspected")
        assert told is not None
        command = StepCommand(
            operation_uid=RESTORE_UID, step=Step.DOWNLOAD, collections=(COLLECTION,), backup_sha256=told["sha256"]
        )
        _download(workspace, command, Meter())


def _placed(volume: Volume) -> None:
    workspace = volume.restoring()
    with workspace.journal:
        _place_all(workspace, (COLLECTION,), Meter())


STEPS: dict[str, Callable[[Volume], None]] = {
    "freeze": _freeze,
    "upload": _of_backup(lambda workspace: _upload(workspace, (COLLECTION,), Meter())),
    "verify": _of_backup(lambda workspace: _verify(workspace, NODE, Meter())),
    "commit": _of_backup(_commit_verified),
    "inspect": _inspected,
    "download": _downloaded,
    "place": _placed,
}


def _run_step(name: str, base: Path) -> None:
    began_at = time.monotonic()
    STEPS[name](Volume(base))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": round(time.monotonic() - began_at, 1), "peak_mib": peak_bytes >> 20}))


def _measure(tenants: int, parent: Path) -> dict[str, dict[str, float]]:
    base = Path(tempfile.mkdtemp(prefix="many-files-", dir=parent))
    try:
        Volume(base).make(tenants)
        found = {}
        for name in STEPS:
            command = [sys.executable, "-m", "e2e.bench.many_files", "--step", name, "--directory", str(base)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
            told = f"{found[name]['seconds']:8.1f} s {found[name]['peak_mib']:6} MiB"
            print(f"{tenants * FILES_OF_TENANT:9} files {name:10} {told}", flush=True)
        return found
    finally:
        shutil.rmtree(base)


def main() -> None:
    """Measure, smallest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, nargs="+", default=[6_250, 25_000, 100_000], help="of 30 files each")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="with room for 20 GB")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        _run_step(asked.step, asked.directory)
        return
    for tenants in asked.tenants:
        _measure(tenants, asked.directory)


if __name__ == "__main__":
    main()
