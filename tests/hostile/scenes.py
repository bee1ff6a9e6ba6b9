"""What an agent does on a volume, in scenes that need no server: each is one way through the product's own code."""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.agent import sweeping
from tests.agent.foreign_backup import COLLECTION, ForeignBackup
from tests.hostile.volume import LIVE, Volume, write_all

from weaviate_backup.agent import access, place, survey, upload
from weaviate_backup.agent.chunk_receiver import ChunkReceiver
from weaviate_backup.agent.chunk_sender import ChunkSender
from weaviate_backup.agent.confirm import lost_shards
from weaviate_backup.agent.fates import Fate
from weaviate_backup.agent.journal import JOURNAL, SHARD, Journal
from weaviate_backup.agent.linking import take_cut
from weaviate_backup.agent.main import check_ownership
from weaviate_backup.agent.wanted_files import wanted_files
from weaviate_backup.agent.workspace import FROZEN, LATE, RESTORE, Workspace
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.beneath import Place
from weaviate_backup.core.session import (
    DATA_DIRECTORY,
    BackupOrder,
    RestoreOrder,
    SessionOrder,
    Step,
    StepCommand,
    WeaviateEndpoint,
)
from weaviate_backup.settings import AgentSettings
from weaviate_backup.stored.backup_reading import BackupReader
from weaviate_backup.stored.meter import Meter
from weaviate_backup.weaviate import late_writes, pause_staging, snapshot_driver, snapshot_staging
from weaviate_backup.weaviate.inactive_tenants import changes, cut_inactive, fingerprint_of
from weaviate_backup.weaviate.locked_instant import InstantWatch
from weaviate_backup.weaviate.shard_source import ShardCut, ShardFile

UID, DEAD = "11111111-0000", "22222222-0000"
NAMES = ("indexcount", "proplengths", "version", "lsm/objects/segment-1.db", "lsm/.migrations/done")
LOG = "main.hnsw.commitlog.d/17"
STAGED = snapshot_staging.operation_id(UID, "Article", "s1", 0)
LOCATION = LocationSpec.model_validate({"filesystem": {"volume": {"hostPath": {"path": "/store"}}}})
FROZEN_SHARD = f"{DATA_DIRECTORY}/{UID}/{FROZEN}/article/s1"


@dataclass(frozen=True)
class Scene:
    """`prepare` runs before the attack, `act` beside it."""

    name: str
    act: Callable[[Volume], None]
    prepare: Callable[[Volume], None] = lambda _: None


def nothing() -> None:
    pass


def workspace_of(volume: Volume, work: BackupOrder | RestoreOrder) -> Workspace:
    store = volume.base / "store"
    store.mkdir(exist_ok=True)
    settings = AgentSettings(
        operation_uid=UID,
        node="n0",
        data_path=volume.data,
        credentials_directory=volume.base,
        ca_directory=volume.base,
        filesystem_root=store,
    )
    order = SessionOrder(
        operation_uid=UID,
        node="n0",
        backup_id="b1",
        location=LOCATION,
        server_version="1.39.1",
        weaviate=WeaviateEndpoint(host="127.0.0.1"),
        work=work,
    )
    return Workspace(settings, order, Journal(None))


BACKUP = BackupOrder(
    started_at=datetime.now(UTC),
    leader="n0",
    nodes=("n0",),
    collections=("Article",),
    chunk_size_bytes=1 << 20,
    compression_level="NoCompression",
)


def frozen_at(volume: Volume) -> Place:
    return volume.root / FROZEN_SHARD


def take(volume: Volume, staging: Place, names: tuple[str, ...]) -> None:
    files = tuple(ShardFile(name, staging / name, mutable=False) for name in names)
    take_cut(ShardCut("Article", "s1", driver="x", files=files, halt_seconds=0.0), frozen_at(volume), check=nothing)


def cut_by_pause(volume: Volume) -> None:
    live = snapshot_staging.shard_directory(volume.root, "Article", "s1")
    staging = snapshot_staging.staging_directory(volume.root, STAGED, "Article")
    try:
        pause_staging.prepare(staging, live)
        with InstantWatch(live) as watch:
            pass
        watch.lengths()
        next_document = pause_staging.document_counter(live)
        names = pause_staging.stage(staging, live, NAMES, (LOG,))
        pause_staging.no_longer_halted(staging)
        pause_staging.end_logs(staging, {LOG: 0}, next_document)
        take(volume, staging, names)
    finally:
        if not pause_staging.may_be_halted(staging):
            snapshot_staging.let_go_of(staging)


def server_staged(volume: Volume) -> None:
    staging = snapshot_staging.staging_directory(volume.root, STAGED, "Article")
    write_all(Path(str(staging)), {name: LIVE[f"article/s1/{name}"] for name in NAMES})


def cut_by_snapshot(volume: Volume) -> None:
    live = snapshot_staging.shard_directory(volume.root, "Article", "s1")
    staging = snapshot_staging.staging_directory(volume.root, STAGED, "Article")
    try:
        snapshot_staging.check_staging(staging, NAMES)
        names = snapshot_staging.complete(staging, live, NAMES)
        files = snapshot_driver.combine(staging, names, staging, names, queued=frozenset())
        take_cut(ShardCut("Article", "s1", driver="x", files=files, halt_seconds=0.0), frozen_at(volume), check=nothing)
    finally:
        snapshot_staging.let_go_of(staging)


def cut_of_inactive(volume: Volume) -> None:
    cut, before = cut_inactive(volume.root, "Article", "s1")
    take_cut(cut, frozen_at(volume), check=nothing)
    changes(before, fingerprint_of(snapshot_staging.shard_directory(volume.root, "Article", "s1")))


def documents(volume: Volume) -> None:
    check_ownership(volume.root)
    directory = volume.root / DATA_DIRECTORY / UID
    with Journal(directory / JOURNAL) as journal:
        journal.append("session", order={"lease_seconds": 1})
    with Journal(directory / JOURNAL) as journal:
        journal.append("applying", collection="Article")
    found = access.read_access(volume.root, roles_enabled=True)
    access._keep(directory / access.KEPT_FILE, found)
    workspace = workspace_of(volume, BACKUP)
    access.kept_access(workspace)
    schema = {"class": {"class": "Article"}, "state": {}, "aliases": {}, "version": 1}
    for _ in range(2):
        survey._keep(workspace, "Article", schema)
    survey.read_schema(workspace, "Article")


def frozen_before(volume: Volume) -> None:
    write_all(volume.data / FROZEN_SHARD, {name: LIVE[f"article/s1/{name}"] for name in NAMES})


def sent(volume: Volume) -> None:
    workspace = workspace_of(volume, BACKUP)
    size_bytes = sum(len(LIVE[f"article/s1/{name}"]) for name in NAMES)
    fate = Fate(SHARD, 0, files=len(NAMES), size_bytes=size_bytes)
    chunks = upload.plan_of(workspace, {"Article": {"s1": fate}})
    ChunkSender(workspace, workspace.place_in(workspace.open_store()), Meter()).send_all(chunks)


def backup_there(volume: Volume) -> None:
    files = {"lsm/objects/segment-1.db": b"objects" * 100, late_writes.LATE_WRITES: late_writes.MAGIC}
    ForeignBackup(volume.base / "store", "b1", files=files).write()
    write_all(volume.data, {f"{DATA_DIRECTORY}/{UID}/{JOURNAL}": b"", ".backup.tmp/Other/other/file": b"x"})


def received(volume: Volume) -> None:
    workspace = workspace_of(volume, RestoreOrder(source_node="n0"))
    store = workspace.open_store()
    wanted = wanted_files(BackupReader(store, "b1"), "n0", (COLLECTION,))
    target = workspace.directory / RESTORE
    receiver = ChunkReceiver(store, target, Meter(), limit_bytes=workspace.data_root.free_bytes(), limit_inodes=10_000)
    for chunk in wanted.chunks():
        receiver.receive(chunk)
    wanted.check_complete(target)
    workspace.directory.sync_file_system()


def received_before(volume: Volume) -> None:
    os.rename(volume.data / "article", volume.data / "author")
    files = {f"article/s1/{name}": LIVE[f"article/s1/{name}"] for name in NAMES}
    files[f"article/s1/{late_writes.LATE_WRITES}"] = late_writes.MAGIC
    write_all(volume.data / DATA_DIRECTORY / UID / RESTORE / COLLECTION, files)


def placed(volume: Volume) -> None:
    workspace = workspace_of(volume, RestoreOrder(source_node="n0"))
    command = StepCommand(operation_uid=UID, step=Step.PLACE, collections=(COLLECTION,))
    asyncio.run(place.place(workspace, command, Meter()))
    record = workspace.journal.last("placed")
    if record is not None:
        (volume.root / ".backup.tmp" / COLLECTION / "article").rename_to(volume.root / "article")  # as a server
        lost_shards(volume.root, record)
        list(late_writes.final_writes(workspace.directory / LATE / COLLECTION / "s1"))


def left_over(volume: Volume) -> None:
    """Of a dead operation, and of this one."""
    for uid in (DEAD, UID):
        staging = snapshot_staging.staging_directory(
            volume.root, snapshot_staging.operation_id(uid, "Article", "s1", 0), "Article"
        )
        write_all(Path(str(staging)), {"lsm/segment": b"x"})
        temporary = volume.data / ".backup.tmp" / f"Of{uid[0]}"
        write_all(temporary, {"of/s1/file": b"x"})
        lines = [
            {"kind": "session", "order": {"lease_seconds": 1}},
            {"kind": "placed", "collection": f"Of{uid[0]}", "inode": temporary.stat().st_ino, "data_inode": 0}
            | {"shards": {}, "files": 1},
        ]
        journal = volume.data / DATA_DIRECTORY / uid / JOURNAL
        write_all(journal.parent, {"frozen/article/s1/lsm/segment": b"x"})
        journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(journal, (1, 1))


def swept(volume: Volume) -> None:
    sweeping.swept(volume.root, UID, datetime.now(UTC))


def released(volume: Volume) -> None:
    with Journal(volume.root / DATA_DIRECTORY / UID / JOURNAL) as journal:
        records = list(journal.of("placed"))
    sweeping.removed(volume.root, UID, records)


SCENES = (
    Scene("freeze, cut by pause", cut_by_pause),
    Scene("freeze, cut by snapshot", cut_by_snapshot, server_staged),
    Scene("freeze, an inactive tenant", cut_of_inactive),
    Scene("documents and journal", documents),
    Scene("upload", sent, frozen_before),
    Scene("download", received, backup_there),
    Scene("place and confirm", placed, received_before),
    Scene("sweep", swept, left_over),
    Scene("release", released, left_over),
)
