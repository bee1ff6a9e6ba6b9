"""A restore onto every node of a cluster, as the operator drives one: each step on all nodes, then the next."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from tests.agent.surroundings import Surroundings, endpoint_of, restore_order
from tests.agent_process import Agent, agent_process
from tests.weaviate_server import WeaviateCluster

from weaviate_backup.core.session import NodeReport, RestoreOrder, SessionOrder, Step


def restore_orders(
    cluster: WeaviateCluster, store: Surroundings, mapping: dict[str, str], *, backup_id: str, **wishes: Any
) -> list[SessionOrder]:
    """As the operator makes them: every node takes the part of the backup's node that is mapped to it, if any."""
    sources = {target: source for source, target in mapping.items()}
    first = restore_order(cluster, store, backup_id=backup_id)
    return [
        first.model_copy(
            update={
                "node": node.name,
                "weaviate": endpoint_of(cluster, number),
                "work": RestoreOrder(source_node=sources.get(node.name), node_mapping=mapping, **wishes),
            }
        )
        for number, node in enumerate(cluster.nodes)
    ]


async def restore_everywhere(
    directory: Path,
    cluster: WeaviateCluster,
    store: Surroundings,
    orders: list[SessionOrder],
    collections: tuple[str, ...],
) -> list[NodeReport]:
    """The last node's agent applies. Agents find cluster credentials where the caller put some: `<node>/cluster`."""
    async with contextlib.AsyncExitStack() as stack:
        agents: list[Agent] = []
        for order, node in zip(orders, cluster.nodes, strict=True):
            (directory / node.name).mkdir(exist_ok=True)
            running = agent_process(
                directory / node.name, order=order, data_path=node.data_path, credentials=store.credentials
            )
            agents.append(await stack.enter_async_context(running))
        for step in (Step.INSPECT, Step.DOWNLOAD, Step.PLACE):
            await asyncio.gather(*(agent.step(step, collections=collections) for agent in agents))
        await agents[-1].step(Step.APPLY, collections=collections)
        for step in (Step.CONFIRM, Step.RELEASE):
            reports = await asyncio.gather(*(agent.step(step, collections=collections) for agent in agents))
        return list(reports)
