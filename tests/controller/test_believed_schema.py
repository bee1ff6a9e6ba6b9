"""What is planned by: collections and aliases, of a leader that has replayed its log."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.answers.test_raft_of_others import served
from tests.ports import HOST
from tests.starting_nodes import Nodes, nodes

from weaviate_backup.controller import cluster_view
from weaviate_backup.core.topology import ClusterView, NodeView, Ports
from weaviate_backup.errors import Transient
from weaviate_backup.weaviate.protocol import cluster_pb2
from weaviate_backup.weaviate.rest import RestClient

__all__ = ["nodes"]
KNOWN = b'{"Schema": {"classes": [{"class": "Article"}]}, "Aliases": {"News": "Article"}}'


async def asked(nodes: Nodes, name: str) -> Any:
    """Of a node whose raft knows one collection so far."""
    answer = cluster_pb2.QueryResponse(answer_json=KNOWN).SerializeToString()
    node = cast(NodeView, SimpleNamespace(name=name, address=HOST))
    async with served(answer) as (port, raft), RestClient(f"http://{HOST}:{nodes.ports['a']}") as rest:
        cluster = cast(ClusterView, SimpleNamespace(namespace="a", ports=Ports(raft=port)))
        try:
            return await cluster_view._ask_raft(cluster, node, rest)
        finally:
            nodes.told["raft"] = len(raft.asked)


@pytest.mark.parametrize("name", ["a", "b"])
async def test_the_schema_of_a_leader_that_has_replayed_its_log(nodes: Nodes, name: str) -> None:
    leader, collections, _ = await asked(nodes, name)
    assert (leader, collections) == ("a", ("Article",))


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("log", [{"lastLogIndex": "9"}, {"fsmPending": "1"}, {"state": "Candidate"}])
async def test_a_part_of_it_is_no_plan(
    nodes: Nodes, name: str, log: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_view, "CATCH_UP_SECONDS", 0.1)
    nodes.raft["a"] |= log
    with pytest.raises(Transient, match="SchemaCatchingUp"):
        await asked(nodes, name)
    assert nodes.told["raft"] == 0
