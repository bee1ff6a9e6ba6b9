"""Around an agent under test: a real S3 server with a bucket, orders, and a whole backup driven step by step."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.agent_process import agent_process
from tests.s3_server import running_s3_server
from tests.weaviate_server import WeaviateCluster

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.session import (
    DATA_DIRECTORY,
    BackupOrder,
    NodeReport,
    RestoreOrder,
    SessionOrder,
    Step,
    StoreOrder,
    WeaviateEndpoint,
)

BUCKET = "backups"
REGION = "us-east-1"
SERVER_VERSION = "1.39.1"
NODE = "weaviate-0"


@dataclass(frozen=True)
class Surroundings:
    """A store and what a server and an agent must be told to use it. `objects` is where its objects are files."""

    location: LocationSpec
    credentials: dict[str, str]
    objects: Path
    weaviate_environment: dict[str, str]


@asynccontextmanager
async def s3_server(directory: Path) -> AsyncIterator[Surroundings]:
    with running_s3_server(directory / "s3") as server:
        server.make_bucket(BUCKET)
        yield Surroundings(
            location=LocationSpec(s3=server.location(BUCKET).model_copy(update={"region": REGION})),
            credentials=server.credentials,
            objects=server.directory / BUCKET,
            weaviate_environment={
                **server.credentials,
                "ENABLE_MODULES": "backup-s3",
                "BACKUP_S3_BUCKET": BUCKET,
                "BACKUP_S3_ENDPOINT": server.endpoint,
                "BACKUP_S3_USE_SSL": "false",
                "AWS_REGION": REGION,
            },
        )


def directory_store(directory: Path) -> Surroundings:
    """A filesystem location; the agent is told its root."""
    root = directory / "store"
    root.mkdir(parents=True, exist_ok=True)
    location = LocationSpec.model_validate({"filesystem": {"volume": {"hostPath": {"path": str(root)}}}})
    return Surroundings(location=location, credentials={}, objects=root, weaviate_environment={})


def endpoint_of(cluster: WeaviateCluster, number: int = 0) -> WeaviateEndpoint:
    node = cluster.nodes[number]
    return WeaviateEndpoint(
        host=node.host,
        rest_port=node.rest_port,
        data_port=node.data_port,
        raft_port=node.raft_rpc_port,
        data_path=str(node.data_path),
    )


def backup_order(
    cluster: WeaviateCluster,
    store: Surroundings,
    collections: tuple[str, ...],
    *,
    backup_id: str = "b1",
    uid: str | None = None,
    **changes: Any,
) -> SessionOrder:
    nodes = tuple(node.name for node in cluster.nodes)
    work = {
        "started_at": datetime.now(UTC),
        "leader": NODE,
        "nodes": nodes,
        "collections": collections,
        "chunk_size_bytes": 4 << 20,
        "compression_level": "ZstdBestSpeed",
    }
    order = {
        "operation_uid": uid or str(uuid.uuid4()),
        "node": NODE,
        "backup_id": backup_id,
        "location": store.location,
        "server_version": SERVER_VERSION,
        "weaviate": endpoint_of(cluster),
        "work": BackupOrder.model_validate(work | {key: value for key, value in changes.items() if key in work}),
    }
    return SessionOrder.model_validate(order | {key: value for key, value in changes.items() if key not in work})


def restore_order(cluster: WeaviateCluster, store: Surroundings, *, backup_id: str = "b1") -> SessionOrder:
    return SessionOrder(
        operation_uid=str(uuid.uuid4()),
        node=NODE,
        backup_id=backup_id,
        location=store.location,
        server_version=SERVER_VERSION,
        weaviate=endpoint_of(cluster),
        work=RestoreOrder(source_node=NODE),
    )


def worker_order(order: SessionOrder, *, uid: str | None = None) -> SessionOrder:
    """A store worker of the same operation."""
    return order.model_copy(
        update={
            "node": "store-0",
            "weaviate": None,
            "work": StoreOrder(),
            "operation_uid": uid or order.operation_uid,
        }
    )


@dataclass(frozen=True)
class Backup:
    """What the two agents reported at the end."""

    node: NodeReport
    worker: NodeReport


async def whole_backup(
    directory: Path, cluster: WeaviateCluster, store: Surroundings, order: SessionOrder, collections: tuple[str, ...]
) -> Backup:
    """As the operator drives a single node: freeze, upload, verified by a worker, committed, released."""
    node, credentials = cluster.nodes[0], store.credentials
    async with agent_process(directory, order=order, data_path=node.data_path, credentials=credentials) as agent:
        await agent.step(Step.FREEZE)
        uploaded = (await agent.step(Step.UPLOAD, collections=collections)).uploaded
        assert uploaded is not None
        worker_directory = directory / "worker"
        worker_directory.mkdir()
        if store.objects == directory / "store":
            (worker_directory / "store").symlink_to(store.objects)
        async with agent_process(
            worker_directory, order=worker_order(order), data_path=None, credentials=credentials
        ) as worker:
            report = await worker.step(Step.VERIFY, verify_node=order.node)
            assert report.verified[order.node].manifest_sha256 == uploaded.manifest_sha256
        await agent.step(Step.COMMIT, verified={order.node: uploaded.manifest_sha256})
        return Backup(await agent.step(Step.RELEASE), report)


async def whole_restore(
    directory: Path, cluster: WeaviateCluster, store: Surroundings, order: SessionOrder, collections: tuple[str, ...]
) -> NodeReport:
    """As the operator drives a single node: look, download, place, apply, confirm, release."""
    async with agent_process(
        directory, order=order, data_path=cluster.nodes[0].data_path, credentials=store.credentials
    ) as agent:
        await agent.step(Step.INSPECT)
        await agent.step(Step.DOWNLOAD, collections=collections)
        await agent.step(Step.PLACE, collections=collections)
        await agent.step(Step.APPLY, collections=collections)
        await agent.step(Step.CONFIRM, collections=collections)
        return await agent.step(Step.RELEASE)


def keep_directories(store: Surroundings, backup_id: str, cluster: WeaviateCluster) -> None:
    """Directories of the S3 server that are never empty, for a stock backup of several nodes.

    Each of them writes an object to try its access and deletes it again. The S3 server removes directories as they
    become empty, also under another node's write of that moment, which it then refuses.
    """
    for node in cluster.nodes:
        directory = store.objects / backup_id / node.name
        directory.mkdir(parents=True)
        (directory / "kept").touch()


def nothing_left(cluster: WeaviateCluster) -> bool:
    """Nothing of ours on the volume, and nothing pinned by the server for us."""
    data_path = cluster.nodes[0].data_path
    return not (data_path / DATA_DIRECTORY).exists() and not list(data_path.glob(".replica-staging-*"))
