"""A whole backup, its verification and its restore over a line that fails at random: identical, or a clear failure."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.conftest import Source, differences, emptied, observed
from tests.agent.surroundings import (
    BUCKET,
    Surroundings,
    backup_order,
    nothing_left,
    restore_order,
    whole_restore,
    worker_order,
)
from tests.agent_process import agent_process
from tests.storage.faults import Flip, Moment
from tests.storage.faulty_line import Line, faulty_line
from tests.storage.faulty_stores import unfinished_uploads
from tests.storage.mix import HONEST, LYING, Mix
from tests.weaviate_server import WeaviateCluster

from weaviate_backup.core.session import NodeReport, Step, StepPhase, StepReport

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
SHARE = 0.25
CHUNK_BYTES = 512 << 10
"""Many objects, so that many of them meet a fault."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--scenarios") == "all"
        metafunc.parametrize("seed", range(8 if everything else 1))


@contextlib.contextmanager
def through_line(store: Surroundings) -> Iterator[tuple[Line, Surroundings]]:
    spec = store.location.s3
    assert spec is not None
    assert spec.endpoint is not None
    with faulty_line(spec.endpoint) as line:
        faulty = store.location.model_copy(update={"s3": spec.model_copy(update={"endpoint": line.address})})
        yield line, Surroundings(faulty, store.credentials, store.objects, {})


def endpoint_of_store(source: Source) -> str:
    assert source.store.location.s3 is not None
    return str(source.store.location.s3.endpoint)


async def try_to_back_up(directory: Path, source: Source, store: Surroundings, backup_id: str) -> StepReport | None:
    """As the operator drives it; a step that fails is discarded, released and given back."""
    names, node = source.collections, source.cluster.nodes[0]
    order = backup_order(source.cluster, store, names, backup_id=backup_id, chunk_size_bytes=CHUNK_BYTES)
    worker = worker_order(order)
    async with (
        agent_process(directory, order=order, data_path=node.data_path, credentials=store.credentials) as agent,
        agent_process(directory / "worker", order=worker, data_path=None, credentials=store.credentials) as verifier,
    ):
        failed: StepReport | None = None
        report: NodeReport | None = None
        for runner, step in ((agent, Step.FREEZE), (agent, Step.UPLOAD), (verifier, Step.VERIFY), (agent, Step.COMMIT)):
            uploaded = report.uploaded if report else None
            verified = {order.node: uploaded.manifest_sha256} if uploaded and step is Step.COMMIT else {}
            node_name = order.node if step is Step.VERIFY else None
            await runner.take(step, collections=names, verified=verified, verify_node=node_name)
            ended = await runner.ended(step)
            if ended.steps[step].phase is not StepPhase.DONE:
                failed = ended.steps[step]
                break
            report = ended if runner is agent else report
        if failed is not None:
            for step in (Step.DISCARD, Step.VACATE):
                await agent.take(step)
                await agent.ended(step)
        await agent.step(Step.RELEASE)
    return failed


async def test_faults_that_pass_leave_no_trace(
    source: Source, target: WeaviateCluster, tmp_path: Path, seed: int
) -> None:
    (tmp_path / "worker").mkdir()
    backup_id = f"honest-{seed}"
    with through_line(source.store) as (line, store):
        line.mix = Mix(f"{seed}", SHARE, HONEST)
        assert await try_to_back_up(tmp_path, source, store, backup_id) is None
        assert line.used > 5
        assert unfinished_uploads(endpoint_of_store(source), source.store.credentials, BUCKET) == 0
        await emptied(target, source.dataset)
        line.mix = Mix(f"{seed}-restore", SHARE, HONEST)
        order = restore_order(target, store, backup_id=backup_id)
        await whole_restore(tmp_path / "restore", target, store, order, source.collections)
        assert line.used > 8
    assert differences(source.before, await observed(target, source.dataset)) == []
    assert nothing_left(source.cluster)
    assert nothing_left(target)


async def test_a_store_that_lies_is_found_out(
    source: Source, target: WeaviateCluster, tmp_path: Path, seed: int
) -> None:
    """Committed only when what is stored is right, as a restore over a sound line shows; else a reason is given."""
    (tmp_path / "worker").mkdir()
    backup_id = f"lying-{seed}"
    with through_line(source.store) as (line, store):
        line.mix = Mix(f"{seed}", SHARE, LYING)
        failed = await try_to_back_up(tmp_path, source, store, backup_id)
        assert line.used > 5
    marker = source.store.objects / backup_id / "backup_config.json"
    assert marker.exists() == (failed is None)
    assert unfinished_uploads(endpoint_of_store(source), source.store.credentials, BUCKET) == 0
    if failed is None:
        await emptied(target, source.dataset)
        order = restore_order(target, source.store, backup_id=backup_id)
        await whole_restore(tmp_path / "restore", target, source.store, order, source.collections)
        assert differences(source.before, await observed(target, source.dataset)) == []
    else:
        assert failed.failure is not None
        assert re.fullmatch(r"([A-Z][a-z]+)+", failed.failure.reason), failed.failure
        assert failed.failure.message
        assert not any(secret in failed.failure.message for secret in source.store.credentials.values())
    assert nothing_left(source.cluster)


@pytest.mark.parametrize("document", ["/chunk-1", "/backup.json", "/manifest.json.zst"])
async def test_one_lie_about_what_is_stored_keeps_it_from_being_committed(
    source: Source, tmp_path: Path, document: str
) -> None:
    """The verifier is given one wrong bit of one object; the store has the right ones."""
    (tmp_path / "worker").mkdir()
    backup_id = f"one-lie-{document.strip('/').split('.')[0]}"
    with through_line(source.store) as (line, store):
        line.fail(
            lambda request: request.method == "GET" and document in request.path, Flip(Moment.RECEIVING, 20), times=1
        )
        failed = await try_to_back_up(tmp_path, source, store, backup_id)
        assert line.used == 1
    assert failed is not None
    assert failed.failure is not None
    assert failed.failure.reason in ("VerificationFailed", "HostileBackup")
    assert f"{backup_id}/" in failed.failure.message
    assert not [path for path in (source.store.objects / backup_id).rglob("*") if path.is_file()], "it was discarded"
