"""Killing the agent at any instant loses the chunks in flight and nothing else, and leaves nothing behind for good."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.agent.conftest import Source, emptied, observed
from tests.agent.surroundings import (
    BUCKET,
    REGION,
    Surroundings,
    backup_order,
    nothing_left,
    restore_order,
    whole_backup,
    worker_order,
)
from tests.agent.throttle import slow_line
from tests.agent_process import Agent, agent_process
from tests.weaviate_server import WeaviateCluster

from weaviate_backup.agent.cgroup import available_cpus, stream_count, worker_count
from weaviate_backup.agent.journal import JOURNAL
from weaviate_backup.core.session import DATA_DIRECTORY, Step, StepPhase

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
CHUNK_BYTES = 128 << 10
LEASE_SECONDS = 1
SLACK_BYTES = 64 << 10
"""Requests' headers, and blocks the slow line had taken when the agent died."""


def journaled(source: Source, uid: str) -> list[str]:
    """The kinds of its lines so far."""
    path = source.cluster.nodes[0].data_path / DATA_DIRECTORY / uid / JOURNAL
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["kind"] for line in lines if line.endswith("}")]


def client_of(store: Surroundings) -> Any:
    assert store.location.s3 is not None
    return boto3.client(
        "s3",
        endpoint_url=f"http://{store.location.s3.host}",
        region_name=REGION,
        aws_access_key_id=store.credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=store.credentials["AWS_SECRET_ACCESS_KEY"],
    )


async def until_some_chunks_are_stored(source: Source, agent: Agent, *, chunks: int) -> None:
    async with asyncio.timeout(60):
        while journaled(source, agent.order.operation_uid).count("chunk") < chunks:
            assert (await agent.report()).steps[Step.UPLOAD].phase is StepPhase.RUNNING
            await asyncio.sleep(0.02)


async def test_a_killed_upload_goes_on_where_it_stopped(source: Source, tmp_path: Path) -> None:
    spec = source.store.location.s3
    assert spec is not None
    async with slow_line(str(spec.endpoint), bytes_per_second=2 << 20) as line:
        slow = source.store.location.model_copy(update={"s3": spec.model_copy(update={"endpoint": line.address})})
        store = Surroundings(slow, source.store.credentials, source.store.objects, {})
        order = backup_order(
            source.cluster,
            store,
            source.collections,
            backup_id="killed",
            chunk_size_bytes=CHUNK_BYTES,
            compression_level="NoCompression",
        )
        data_path = source.cluster.nodes[0].data_path
        s3 = client_of(source.store)
        s3.create_multipart_upload(Bucket=BUCKET, Key=f"killed/{order.node}/left-by-a-dead-process")
        async with agent_process(tmp_path, order=order, data_path=data_path, credentials=store.credentials) as agent:
            frozen = (await agent.step(Step.FREEZE)).frozen
            assert frozen is not None
            for chunks in (2, 6, 10):
                await agent.take(Step.UPLOAD, collections=source.collections)
                await until_some_chunks_are_stored(source, agent, chunks=chunks)
                agent.kill()
                session = agent.session_id
                await agent.start()
                assert agent.session_id != session
                assert (await agent.step(Step.FREEZE)).frozen == frozen
            report = await agent.step(Step.UPLOAD, collections=source.collections)
            assert report.uploaded is not None
            assert s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []
            progress = report.steps[Step.UPLOAD].progress
            assert progress.bytes_done == progress.bytes_total == frozen.bytes_total
            assert progress.bytes_reused > 0
            largest = max(path.stat().st_size for path in (source.store.objects / "killed").rglob("chunk-*"))
            in_flight_bytes = stream_count(worker_count(order.cpu_percentage, available_cpus())) * largest
            assert line.sent_bytes <= report.uploaded.bytes_stored * 1.05 + 3 * (in_flight_bytes + SLACK_BYTES)
            worker = worker_order(order)
            async with agent_process(
                tmp_path / "worker", order=worker, data_path=None, credentials=store.credentials
            ) as verifier:
                verified = await verifier.step(Step.VERIFY, verify_node=order.node)
                assert verified.verified[order.node].manifest_sha256 == report.uploaded.manifest_sha256
            await agent.step(Step.DISCARD)
            await agent.step(Step.RELEASE)
            await agent.step(Step.VACATE)
    assert not [path for path in (source.store.objects / "killed").rglob("*") if path.is_file()]
    assert nothing_left(source.cluster)


@pytest.mark.parametrize(("kind", "count"), [("cutting", 1), ("shard", 1), ("shard", 5)])
async def test_a_killed_freeze_pins_nothing(source: Source, tmp_path: Path, kind: str, count: int) -> None:
    """Killed while a shard is cut or just linked, and others are still to come."""
    order = backup_order(source.cluster, source.store, source.collections, backup_id=f"freeze-{kind}-{count}")
    data_path = source.cluster.nodes[0].data_path
    async with agent_process(tmp_path, order=order, data_path=data_path, credentials=source.store.credentials) as agent:
        await agent.take(Step.FREEZE)
        async with asyncio.timeout(60):
            while journaled(source, order.operation_uid).count(kind) < count:  # noqa: ASYNC110 (a file of another process)
                await asyncio.sleep(0.001)
        agent.kill()
        assert "frozen" not in journaled(source, order.operation_uid), "it was over before it was killed"
        await agent.start()
        report = await agent.step(Step.FREEZE)
        assert report.frozen is not None
        assert report.frozen.collections == source.collections
        assert not list(data_path.glob(".replica-staging-*"))
        await agent.step(Step.RELEASE)
    assert nothing_left(source.cluster)


async def test_an_agent_that_nobody_asks_sends_all_it_has_and_ends(source: Source, tmp_path: Path) -> None:
    """The operator is away for longer than the lease. Nothing is lost: who comes back finds everything done."""
    spec = source.store.location.s3
    assert spec is not None
    async with slow_line(str(spec.endpoint), bytes_per_second=1 << 20) as line:
        slow = source.store.location.model_copy(update={"s3": spec.model_copy(update={"endpoint": line.address})})
        store = Surroundings(slow, source.store.credentials, source.store.objects, {})
        order = backup_order(source.cluster, store, source.collections, backup_id="forgotten", lease_seconds=1)
        data_path = source.cluster.nodes[0].data_path
        async with agent_process(tmp_path, order=order, data_path=data_path, credentials=store.credentials) as agent:
            frozen = (await agent.step(Step.FREEZE)).frozen
            await agent.take(Step.UPLOAD, collections=source.collections)
            asked_at = asyncio.get_running_loop().time()
            assert agent.process is not None
            assert await asyncio.to_thread(agent.process.wait, 60) == 0
            assert asyncio.get_running_loop().time() - asked_at > 2 * order.lease_seconds, "it had nothing to end"
            sent_bytes = line.sent_bytes
            await agent.start()
            assert (await agent.step(Step.FREEZE)).frozen == frozen
            report = await agent.step(Step.UPLOAD, collections=source.collections)
            assert report.uploaded is not None
            assert sent_bytes >= report.uploaded.bytes_stored
            assert line.sent_bytes - sent_bytes < SLACK_BYTES
            for step in (Step.DISCARD, Step.RELEASE, Step.VACATE):
                await agent.step(step)
    assert not [path for path in (source.store.objects / "forgotten").rglob("*") if path.is_file()]
    assert nothing_left(source.cluster)


async def test_a_freeze_that_nobody_asks_for_ends_and_is_taken_up_again(source: Source, tmp_path: Path) -> None:
    """It holds the server, so it does not outlast the lease; what it froze stays."""
    data_path = source.cluster.nodes[0].data_path
    order = backup_order(source.cluster, source.store, source.collections, backup_id="unasked", lease_seconds=1)
    async with agent_process(tmp_path, order=order, data_path=data_path, credentials=source.store.credentials) as agent:
        journal = data_path / DATA_DIRECTORY / order.operation_uid / JOURNAL
        await agent.take(Step.FREEZE)
        assert agent.process is not None
        assert await asyncio.to_thread(agent.process.wait, 60) == 0
        begun = [json.loads(line)["kind"] for line in journal.read_text().splitlines()]
        assert not list(data_path.glob(".replica-staging-*"))
        await agent.start()
        assert (await agent.step(Step.FREEZE)).frozen is not None
        ended = [json.loads(line)["kind"] for line in journal.read_text().splitlines()]
        assert ended[: len(begun)] == begun
        for step in (Step.RELEASE, Step.VACATE):
            await agent.step(step)
    assert nothing_left(source.cluster)


async def test_a_release_stops_an_upload(source: Source, tmp_path: Path) -> None:
    spec = source.store.location.s3
    assert spec is not None
    async with slow_line(str(spec.endpoint), bytes_per_second=256 << 10) as line:
        slow = source.store.location.model_copy(update={"s3": spec.model_copy(update={"endpoint": line.address})})
        store = Surroundings(slow, source.store.credentials, source.store.objects, {})
        order = backup_order(source.cluster, store, source.collections, backup_id="aborted")
        data_path = source.cluster.nodes[0].data_path
        async with agent_process(tmp_path, order=order, data_path=data_path, credentials=store.credentials) as agent:
            await agent.step(Step.FREEZE)
            await agent.take(Step.UPLOAD, collections=source.collections)
            await agent.step(Step.DISCARD)
            report = await agent.step(Step.RELEASE)
            assert report.steps[Step.UPLOAD].phase is StepPhase.FAILED
            await agent.step(Step.VACATE)
    assert not [path for path in (source.store.objects / "aborted").rglob("*") if path.is_file()]
    assert nothing_left(source.cluster)


async def given_a_backup(
    source: Source, target: WeaviateCluster, directory: Path, backup_id: str, names: tuple[str, ...]
) -> None:
    """Of those collections, and nothing of them at the target."""
    order = backup_order(source.cluster, source.store, names, backup_id=backup_id)
    await whole_backup(directory, source.cluster, source.store, order, names)
    await emptied(target, source.dataset)


def restoring(
    source: Source, target: WeaviateCluster, directory: Path, backup_id: str, **changes: Any
) -> AbstractAsyncContextManager[Agent]:
    """An agent of an operation of its own. `changes`: of its order."""
    order = restore_order(target, source.store, backup_id=backup_id).model_copy(update=changes)
    data_path = target.nodes[0].data_path
    return agent_process(directory, order=order, data_path=data_path, credentials=source.store.credentials)


async def test_a_restore_goes_on_after_a_kill_behind_every_step(
    source: Source, target: WeaviateCluster, tmp_path: Path
) -> None:
    """Repeated by a new process, no step does harm: what was placed stays placed, what was applied is not again."""
    names = ("Draft", "Photo")
    await given_a_backup(source, target, tmp_path / "backup", "restored-with-kills", names)
    async with restoring(source, target, tmp_path / "restore", "restored-with-kills") as agent:
        for step in (Step.INSPECT, Step.DOWNLOAD, Step.PLACE, Step.APPLY):
            await agent.step(step, collections=names)
            agent.kill()
            await agent.start()
            report = await agent.step(step, collections=names)
        assert report.applied is not None
        assert report.applied.collections == names
        assert report.applied.raft_index > 0
        confirmed = (await agent.step(Step.CONFIRM, collections=names)).confirmed
        assert confirmed is not None
        assert confirmed.files > 0
        await agent.step(Step.RELEASE)
    now = await observed(target, source.dataset)
    assert now.fingerprints["Photo"] == source.before.fingerprints["Photo"]
    assert nothing_left(target)


async def test_what_raft_took_is_known_again_when_its_answer_was_lost(
    source: Source, target: WeaviateCluster, tmp_path: Path
) -> None:
    """Of every kind of collection: a server fills in and orders anew what it is sent, and that is no difference."""
    names = source.collections
    await given_a_backup(source, target, tmp_path / "backup", "answer-lost", names)
    async with restoring(source, target, tmp_path / "restore", "answer-lost") as agent:
        for step in (Step.INSPECT, Step.DOWNLOAD, Step.PLACE, Step.APPLY):
            await agent.step(step, collections=names)
        agent.kill()
        journal = target.nodes[0].data_path / DATA_DIRECTORY / agent.order.operation_uid / JOURNAL
        lines = journal.read_text().splitlines(keepends=True)
        asked = [line for line in lines if json.loads(line)["kind"] != "applied"]
        assert len(lines) - len(asked) == len(names)
        journal.write_text("".join(asked))
        await agent.start()
        report = await agent.step(Step.APPLY, collections=names)
        assert report.applied is not None
        assert report.applied.raft_index == 0, "none was asked for again"
        for step in (Step.CONFIRM, Step.RELEASE):
            await agent.step(step, collections=names)
    now = await observed(target, source.dataset)
    assert now.fingerprints == source.before.fingerprints
    assert nothing_left(target)


async def test_what_was_placed_outlasts_the_lease(source: Source, target: WeaviateCluster, tmp_path: Path) -> None:
    """Another node's agent may be applying it, and an operator that was away goes on with it."""
    names, data_path = ("Draft", "Photo"), target.nodes[0].data_path
    await given_a_backup(source, target, tmp_path / "backup", "placed-and-left", names)
    async with restoring(source, target, tmp_path / "restore", "placed-and-left", lease_seconds=LEASE_SECONDS) as agent:
        for step in (Step.INSPECT, Step.DOWNLOAD, Step.PLACE):
            await agent.step(step, collections=names)
        assert agent.process is not None
        assert await asyncio.to_thread(agent.process.wait, 60) == 0
        assert {each.name for each in (data_path / ".backup.tmp").iterdir()} == set(names)
        await agent.start()
        for step in (Step.APPLY, Step.CONFIRM, Step.RELEASE):
            await agent.step(step, collections=names)
    now = await observed(target, source.dataset)
    assert now.fingerprints["Photo"] == source.before.fingerprints["Photo"]
    assert nothing_left(target)


async def test_a_release_that_keeps_what_was_placed_leaves_it_to_the_next_operation(
    source: Source, target: WeaviateCluster, tmp_path: Path
) -> None:
    """Nobody can say whether the agent that applies it still does."""
    names, data_path = ("Draft",), target.nodes[0].data_path
    await given_a_backup(source, target, tmp_path / "backup", "kept-back", names)
    async with restoring(source, target, tmp_path / "first", "kept-back", lease_seconds=LEASE_SECONDS) as agent:
        for step in (Step.INSPECT, Step.DOWNLOAD, Step.PLACE):
            await agent.step(step, collections=names)
        await agent.step(Step.RELEASE, keep_placed=True)
        assert (data_path / ".backup.tmp" / "Draft").is_dir()
    await asyncio.sleep(2 * LEASE_SECONDS)
    async with restoring(source, target, tmp_path / "second", "kept-back") as agent:
        for step in (Step.INSPECT, Step.DOWNLOAD, Step.PLACE, Step.APPLY, Step.CONFIRM, Step.RELEASE):
            await agent.step(step, collections=names)
    assert nothing_left(target)
