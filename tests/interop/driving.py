"""Backups and restores of a whole cluster: by Weaviate itself, or by one agent per node as the operator drives them."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.agent.surroundings import Surroundings, endpoint_of, keep_directories
from tests.agent_process import Agent, agent_process
from tests.weaviate_server import WeaviateCluster

from weaviate_backup.core.restore_plan import RestoreVerdict, RestoreWishes, TargetFacts, plan_restore
from weaviate_backup.core.session import BackupOrder, NodeReport, RestoreOrder, SessionOrder, Step, StepPhase

SECONDS = 300.0
POLL_SECONDS = 0.3


async def stock_backup(
    cluster: WeaviateCluster, store: Surroundings, backup_id: str, *, level: str, base: str | None = None
) -> None:
    """By the server, until it says SUCCESS."""
    keep_directories(store, backup_id, cluster)
    body: dict[str, Any] = {"id": backup_id, "config": {"CompressionLevel": level}}
    if base is not None:
        body["incremental_base_backup_id"] = base
    await cluster.call("POST", "/v1/backups/s3", body)
    await _succeeded(cluster, f"/v1/backups/s3/{backup_id}")


async def stock_restore(cluster: WeaviateCluster, backup_id: str) -> None:
    await cluster.call("POST", f"/v1/backups/s3/{backup_id}/restore", {})
    await _succeeded(cluster, f"/v1/backups/s3/{backup_id}/restore")


async def _succeeded(cluster: WeaviateCluster, path: str) -> None:
    async with asyncio.timeout(SECONDS):
        while (status := await cluster.call("GET", path))["status"] != "SUCCESS":
            assert status["status"] not in ("FAILED", "CANCELED"), status
            await asyncio.sleep(POLL_SECONDS)


async def our_backup(
    directory: Path,
    cluster: WeaviateCluster,
    store: Surroundings,
    backup_id: str,
    *,
    version: str,
    collections: Sequence[str],
    after_first_cut: Callable[[], Awaitable[None]] | None = None,
    **how: Any,
) -> list[NodeReport]:
    """Frozen everywhere, then uploaded, each node verified by the next one, committed. `how`: of `BackupOrder`.

    With `after_first_cut` the leader is frozen before that and the others after it.
    """
    nodes = tuple(node.name for node in cluster.nodes)
    work = BackupOrder.model_validate(
        {
            "started_at": datetime.now(UTC),
            "leader": nodes[0],
            "nodes": nodes,
            "collections": tuple(collections),
            "chunk_size_bytes": 4 << 20,
            "compression_level": "ZstdBestSpeed",
        }
        | how
    )
    async with _agents(directory, cluster, store, backup_id, version=version, work=[work] * len(nodes)) as agents:
        await _freeze_all(agents, after_first_cut)
        uploaded = await _all(agents, Step.UPLOAD, collections=tuple(collections))
        verified: dict[str, str] = {}
        for position, node in enumerate(nodes):
            report = uploaded[position].uploaded
            assert report is not None
            await agents[(position + 1) % len(nodes)].step(Step.VERIFY, verify_node=node)
            verified[node] = report.manifest_sha256
        await agents[0].step(Step.COMMIT, verified=verified)
        return await _all(agents, Step.RELEASE)


async def our_restore(
    directory: Path,
    cluster: WeaviateCluster,
    store: Surroundings,
    backup_id: str,
    *,
    version: str,
    wishes: RestoreWishes | None = None,
) -> RestoreVerdict:
    """Inspected everywhere and judged; carried out unless that verdict refuses it."""
    work = [RestoreOrder(source_node=node.name) for node in cluster.nodes]
    async with _agents(directory, cluster, store, backup_id, version=version, work=work) as agents:
        reports = await _all(agents, Step.INSPECT)
        inspected = {agent.order.node: report.inspected for agent, report in zip(agents, reports, strict=True)}
        found = {node: each for node, each in inspected.items() if each is not None}
        verdict = plan_restore(wishes or RestoreWishes(), found, await _facts(cluster))
        if not verdict.refusals:
            await _all(agents, Step.DOWNLOAD, collections=verdict.collections)
            await _all(agents, Step.PLACE, collections=verdict.collections)
            await agents[-1].step(Step.APPLY, collections=verdict.collections)
            await _all(agents, Step.CONFIRM, collections=verdict.collections)
        await _all(agents, Step.RELEASE)
        return verdict


async def _freeze_all(agents: Sequence[Agent], after_first_cut: Callable[[], Awaitable[None]] | None) -> None:
    """The others as soon as the leader has read the schema, if not later."""
    leader, *others = agents
    report = await leader.take(Step.FREEZE)
    while report.surveyed is None and report.steps[Step.FREEZE].phase is StepPhase.RUNNING:
        report = await leader.report(after=report.revision, wait_seconds=20)
    if after_first_cut is not None or report.surveyed is None:
        report = await leader.step(Step.FREEZE)
    if after_first_cut is not None:
        await after_first_cut()
    assert report.surveyed is not None
    await asyncio.gather(leader.step(Step.FREEZE), _all(others, Step.FREEZE, schema_sha256=report.surveyed.sha256))


async def _all(agents: Sequence[Agent], step: Step, **fields: Any) -> list[NodeReport]:
    return list(await asyncio.gather(*(agent.step(step, **fields) for agent in agents)))


@asynccontextmanager
async def _agents(
    directory: Path,
    cluster: WeaviateCluster,
    store: Surroundings,
    backup_id: str,
    *,
    version: str,
    work: Sequence[BackupOrder | RestoreOrder],
) -> AsyncIterator[list[Agent]]:
    """One per node, of one operation."""
    uid = str(uuid.uuid4())
    async with AsyncExitStack() as stack:
        starting = []
        for number, node in enumerate(cluster.nodes):
            order = SessionOrder(
                operation_uid=uid,
                node=node.name,
                backup_id=backup_id,
                location=store.location,
                server_version=version,
                weaviate=endpoint_of(cluster, number),
                work=work[number],
            )
            agent = agent_process(
                directory / node.name, order=order, data_path=node.data_path, credentials=store.credentials
            )
            starting.append(stack.enter_async_context(agent))
        yield list(await asyncio.gather(*starting))


async def _facts(cluster: WeaviateCluster) -> TargetFacts:
    meta = await cluster.call("GET", "/v1/meta")
    schema = await cluster.call("GET", "/v1/schema")
    aliases = await cluster.call("GET", "/v1/aliases")
    return TargetFacts(
        nodes=dict.fromkeys((node.name for node in cluster.nodes), True),
        version=meta["version"],
        collections=tuple(each["class"] for each in schema["classes"] or ()),
        aliases={each["alias"]: each["class"] for each in aliases["aliases"] or ()},
    )
