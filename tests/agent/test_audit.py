"""A store worker looks at what Weaviate's own engine made: real server, real store, one thing spoiled at a time."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from tests.agent.conftest import Source
from tests.agent.surroundings import backup_order, worker_order
from tests.agent_process import Agent, agent_process

from weaviate_backup.api.config import BackupOptions, CompressionLevel
from weaviate_backup.api.status import WeaviateStatus
from weaviate_backup.core.server_place import ServerPlace
from weaviate_backup.core.session import Step
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.weaviate.rest import RestClient
from weaviate_backup.weaviate.server_backups import ServerBackups

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
MADE = "audited"
OPTIONS = BackupOptions(chunk_size=2, compression_level=CompressionLevel.ZSTD_BEST_SPEED)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def made(source: Source) -> AsyncIterator[Path]:
    """Where the objects of a backup lie that the server made through its own API."""
    async with RestClient(source.cluster.nodes[0].rest_url) as rest:
        engine = ServerBackups(rest, ServerPlace("s3"))
        assert await engine.status(MADE) is None
        await engine.create(MADE, source.collections, OPTIONS)
        with pytest.raises(Transient, match="ServerBusy"):
            await engine.create("another", source.collections, OPTIONS)
        with pytest.raises(Permanent, match="already exists"):
            await engine.create(MADE, source.collections, OPTIONS)
        await succeeded(engine, MADE)
        await engine.cancel(MADE)  # too late, and no failure
        assert (await engine.status(MADE)) is not None
    yield source.store.objects / MADE


async def succeeded(engine: ServerBackups, backup_id: str) -> None:
    async with asyncio.timeout(60):
        while True:
            known = await engine.status(backup_id)
            assert known is not None
            assert known.status not in (WeaviateStatus.FAILED, WeaviateStatus.CANCELED), known.error
            if known.status is WeaviateStatus.SUCCESS and known.size_gib is not None:
                return  # it says SUCCESS a moment before it has written, and knows, the size
            await asyncio.sleep(0.1)


@pytest_asyncio.fixture(loop_scope="session")
async def worker(source: Source, made: Path, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Agent]:
    """Looks at a copy of its own of the server's backup."""
    name = "copy-" + str(abs(hash(request.node.name)) % 10**8)
    shutil.copytree(made, source.store.objects / name)
    for document in (source.store.objects / name).rglob("*.json"):
        document.write_text(document.read_text().replace(f'"{MADE}"', f'"{name}"'))
    order = worker_order(backup_order(source.cluster, source.store, source.collections, backup_id=name))
    async with agent_process(tmp_path, order=order, data_path=None, credentials=source.store.credentials) as agent:
        yield agent
    shutil.rmtree(source.store.objects / name)


def objects_of(source: Source, worker: Agent) -> Path:
    return source.store.objects / worker.order.backup_id


async def test_a_whole_backup_passes(source: Source, worker: Agent) -> None:
    report = await worker.step(Step.AUDIT, collections=source.collections)
    audited = report.audited
    assert audited is not None
    stored = [path for path in objects_of(source, worker).rglob("*") if path.is_file()]
    assert audited.objects == len(stored)
    assert audited.bytes_stored == sum(path.stat().st_size for path in stored)
    assert audited.collections == source.collections
    assert audited.checksummed
    assert audited.files > len(source.collections)
    assert report.steps[Step.AUDIT].progress.bytes_done > audited.bytes_stored


async def test_an_identifier_with_objects_is_not_vacant(source: Source, worker: Agent) -> None:
    config = objects_of(source, worker) / "backup_config.json"
    config.rename(config.with_name("something-else"))
    failed = await worker.failure(Step.VACANCY)
    assert failed.failure is not None
    assert failed.failure.reason == "BackupExists"
    assert f"{worker.order.backup_id}/" in failed.failure.message


async def test_an_identifier_without_objects_is_vacant(source: Source, tmp_path: Path) -> None:
    order = worker_order(backup_order(source.cluster, source.store, source.collections, backup_id="nothing-here"))
    async with agent_process(tmp_path, order=order, data_path=None, credentials=source.store.credentials) as agent:
        await agent.step(Step.VACANCY)


def drop_chunk(directory: Path) -> str:
    chunk = next(directory.rglob("chunk-1"))
    chunk.unlink()
    return "is missing or empty"


def empty_chunk(directory: Path) -> str:
    next(directory.rglob("chunk-1")).write_bytes(b"")
    return "is missing or empty"


def flip_bit(directory: Path) -> str:
    chunk = max(directory.rglob("chunk-*"), key=lambda path: path.stat().st_size)
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    return "/chunk-"


def cut_short(directory: Path) -> str:
    chunk = max(directory.rglob("chunk-*"), key=lambda path: path.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:-20])
    return "/chunk-"


def forget_chunk(directory: Path) -> str:
    """The descriptor names files, and no longer the chunk that has them."""
    document = directory / "weaviate-0" / "backup.json"
    described = json.loads(document.read_text())
    collection = next(each for each in described["classes"] if len(each["chunks"]) > 0)
    collection["chunks"].popitem()
    document.write_text(json.dumps(described))
    return ""


def forget_shard(directory: Path) -> str:
    document = directory / "weaviate-0" / "backup.json"
    described = json.loads(document.read_text())
    collection = next(each for each in described["classes"] if each["name"] == "Article")
    collection["shards"].pop()
    document.write_text(json.dumps(described))
    return "Article/"


def lose_descriptor(directory: Path) -> str:
    (directory / "weaviate-0" / "backup.json").unlink()
    return "weaviate-0"


@pytest.mark.parametrize(
    "spoil", [drop_chunk, empty_chunk, flip_bit, cut_short, forget_chunk, forget_shard, lose_descriptor]
)
async def test_what_is_spoiled_is_found(source: Source, worker: Agent, spoil: Callable[[Path], str]) -> None:
    named = spoil(objects_of(source, worker))
    failed = await worker.failure(Step.AUDIT, collections=source.collections)
    assert failed.failure is not None
    assert failed.failure.reason == "VerificationFailed"
    assert not failed.failure.transient
    assert named in failed.failure.message


async def test_a_backup_that_is_not_finished_is_asked_for_again(source: Source, worker: Agent) -> None:
    config = objects_of(source, worker) / "backup_config.json"
    content = config.read_text()
    config.write_text(content.replace('"status":"SUCCESS"', '"status":"STARTED"'))
    failed = await worker.failure(Step.AUDIT, collections=source.collections)
    assert failed.failure is not None
    assert (failed.failure.reason, failed.failure.transient) == ("BackupUnfinished", True)
    config.write_text(content)
    await worker.step(Step.AUDIT, collections=source.collections)


async def test_a_collection_that_is_not_there_is_missed(source: Source, worker: Agent) -> None:
    failed = await worker.failure(Step.AUDIT, collections=(*source.collections, "Elsewhere"))
    assert failed.failure is not None
    assert "nothing of Elsewhere" in failed.failure.message
