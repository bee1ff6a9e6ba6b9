"""What raft says is believed when one leader said it that had applied its whole log, and led all the while."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.answers.test_raft_of_others import served
from tests.ports import HOST
from tests.starting_nodes import NOTHING, Nodes, nodes
from tests.weaviate_server import weaviate_cluster

from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.weaviate.raft import RaftClient, by_one_leader
from weaviate_backup.weaviate.raft_access import AccessClient
from weaviate_backup.weaviate.raft_position import Position, read_position
from weaviate_backup.weaviate.replayed_log import DataPorts, LogWatch, data_address
from weaviate_backup.weaviate.rpc import ClusterCredentials

__all__ = ["nodes"]
TENANTS = 600
SECONDS = 180
ASKED_AT_ONCE = 20
VERSIONS = ("1.39.1", "1.37.14")
Way = Callable[[Nodes, str], LogWatch]
WAYS: dict[str, Way] = {"data ports": Nodes.watch, "REST": Nodes.by_rest}


async def answer() -> str:
    return "whole"


async def never() -> None:
    raise AssertionError("asked")


async def test_two_looks_go_with_the_first_question_and_one_with_each_other(nodes: Nodes) -> None:
    watch = nodes.watch()
    assert [await watch.settled(answer) for _ in range(3)] == ["whole"] * 3
    assert nodes.told == {"a": 4}


async def test_a_follower_asks_for_the_leader(nodes: Nodes) -> None:
    assert await nodes.watch("b").settled(answer) == "whole"
    assert nodes.told == {"a": 2, "b": 2}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("asked", ["a", "b"])
@pytest.mark.parametrize(
    ("says", "raft"),
    [
        ({"ready": False}, {}),
        ({"ready": None}, {}),
        ({}, {"appliedIndex": "6"}),
        ({}, {"appliedIndex": "0", "lastLogIndex": "1505"}),
        ({}, {"fsmPending": "2"}),
        ({}, {"state": "Follower"}),
        ({}, {"state": "Candidate"}),
        ({"name": "c"}, {}),
    ],
)
async def test_no_question_goes_to_a_leader_that_has_something_to_apply(
    nodes: Nodes, asked: str, way: Way, says: dict[str, Any], raft: dict[str, Any]
) -> None:
    nodes.says["a"] |= says
    nodes.raft["a"] |= raft
    with pytest.raises(Transient) as refused:
        await way(nodes, asked).settled(never)
    renamed = "name" in says and asked == "a"
    assert refused.value.reason == ("ServerForeign" if renamed else "SchemaCatchingUp")


async def test_nor_another_node_that_has_its_address_by_now(nodes: Nodes) -> None:
    nodes.ports["c"] = nodes.ports["a"]
    with pytest.raises(Transient, match=r"ServerForeign: Weaviate node 'a' answers at .*, not 'c'"):
        await nodes.watch("c").settled(never)
    with pytest.raises(Transient, match=r"ServerForeign: .* tells nothing of 'c'"):
        await nodes.by_rest("c").settled(never)


@pytest.mark.parametrize("leader", ["", None])
async def test_nor_while_nobody_leads(nodes: Nodes, leader: str | None) -> None:
    nodes.says["b"] |= {"leaderId": leader, "leaderAddress": leader}
    with pytest.raises(Transient, match="do not agree who leads"):
        await nodes.watch("b").settled(never)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_nor_while_the_leader_has_heard_of_no_later_term(nodes: Nodes, way: Way) -> None:
    """It was cut off, and does not know yet that another leads."""
    nodes.raft["b"]["term"] = "4"
    with pytest.raises(Transient, match="do not agree who leads"):
        await way(nodes, "b").settled(never)


async def test_nor_before_raft_has_begun(nodes: Nodes) -> None:
    nodes.says["a"] = {"name": "a", "raft": None, "leaderAddress": None}
    with pytest.raises(Transient, match="do not agree who leads"):
        await nodes.watch().settled(never)


async def test_it_is_waited_for(nodes: Nodes) -> None:
    nodes.says["a"]["ready"] = False

    def start() -> None:
        nodes.says["a"]["ready"] = nodes.told["a"] > 3

    async def after_the_start() -> bool:
        return nodes.says["a"]["ready"] is True

    nodes.at_look = start
    assert await nodes.watch().settled(after_the_start)


async def test_a_log_that_grows_all_the_time_is_not_run_after(nodes: Nodes) -> None:
    nodes.raft["a"]["appliedIndex"] = "6"

    def write() -> None:
        nodes.raft["a"] |= {each: str(int(nodes.raft["a"][each]) + 1) for each in ("appliedIndex", "lastLogIndex")}

    nodes.at_look = write
    assert await nodes.watch().settled(answer) == "whole"


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("asked", ["a", "b"])
@pytest.mark.parametrize("refused", [False, True])
async def test_what_is_said_while_the_leader_starts_again_is_asked_anew(
    nodes: Nodes, asked: str, way: Way, refused: bool
) -> None:
    said: list[int] = []

    async def start_again() -> int:
        said.append(len(said))
        if len(said) == 1:
            nodes.lead_from(4)
            if refused:
                raise Permanent("CollectionNotFound", "not replayed yet")
        return said[-1]

    watch = way(nodes, asked)
    assert await watch.settled(start_again) == 1
    assert watch.leader == "a"


async def test_it_looks_anew_whether_the_next_leader_has_replayed(nodes: Nodes) -> None:
    watch, said = nodes.watch(), list[int]()

    async def start_again() -> None:
        said.append(1)
        nodes.lead_from(4)
        nodes.says["a"]["ready"] = False

    assert await watch.settled(answer) == "whole"
    with pytest.raises(Transient) as refused:
        await watch.settled(start_again)
    assert (refused.value.reason, len(said)) == ("SchemaCatchingUp", 1)


async def test_one_that_starts_again_and_again_is_not_asked_for_ever(nodes: Nodes) -> None:
    terms = iter(range(4, 100))

    async def start_again() -> None:
        nodes.lead_from(next(terms))

    with pytest.raises(Transient, match="changes its leader again and again"):
        await nodes.watch().settled(start_again)


async def test_a_refusal_of_a_leader_that_has_replayed_is_believed(nodes: Nodes) -> None:
    async def refuse() -> None:
        raise Permanent("CollectionNotFound", "gone")

    with pytest.raises(Permanent, match="gone"):
        await nodes.watch().settled(refuse)


async def test_no_question_of_raft_goes_around_it(nodes: Nodes) -> None:
    """Whatever is asked, of the schema, of roles or of users."""
    nodes.says["a"]["ready"] = False
    async with served(NOTHING) as (port, raft_port), AccessClient(HOST, port) as raft:
        raft.watch = nodes.watch()
        questions = (
            raft.class_names(),
            raft.collection("A"),
            raft.sharding_state("A"),
            raft.tenant_statuses("A", ["t"]),
            raft.snapshot("A"),
            raft.aliases(),
            raft.role_names(),
            raft.user_names(),
        )
        for question in questions:
            with pytest.raises(Transient) as refused:
                await question
            assert refused.value.reason == "SchemaCatchingUp"
        assert not raft_port.asked


async def test_many_questions_together_are_looked_after_once(nodes: Nodes) -> None:
    async with served(NOTHING) as (port, raft_port), RaftClient(HOST, port) as raft:
        raft.watch = nodes.watch()

        async def ask() -> None:
            await asyncio.gather(*(raft.class_names() for _ in range(5)))

        await by_one_leader(raft, ask)
        assert (len(raft_port.asked), nodes.told) == (5, {"a": 2})
        await raft.class_names()
        assert nodes.told == {"a": 3}


async def test_both_ports_are_shown_the_clusters_credentials(nodes: Nodes) -> None:
    nodes.credentials = ClusterCredentials("cluster", "secret")
    assert await nodes.watch("b", nodes.credentials).settled(answer) == "whole"
    with pytest.raises(Permanent, match="CLUSTER_BASIC_AUTH_USERNAME") as refused:
        await nodes.watch("b").settled(never)
    assert refused.value.reason == "ClusterAuthenticationFailed", "as every other call to that port says it"


def position(leader: str, own: str) -> Position:
    return Position("b", "a", leader, own, leads=False, term=3, ready=True, applied_index=7, last_index=7, pending=0)


@pytest.mark.parametrize(
    ("leader", "own", "expected"),
    [
        ("10.0.0.7:8300", "10.0.0.8:8300", ("10.0.0.7", 7001)),
        ("10.0.0.7:8300", "", ("10.0.0.7", 7001)),
        ("[fd00::7]:8300", "[fd00::8]:8300", ("fd00::7", 7001)),
        ("127.0.0.1:8310", "127.0.0.1:8300", ("127.0.0.1", 7011)),
    ],
)
def test_the_leaders_data_port(leader: str, own: str, expected: tuple[str, int]) -> None:
    assert data_address(position(leader, own), 7001) == expected


@pytest.mark.parametrize(
    "leader",
    ["", "a.example.org:8300", "10.0.0.7", "x@10.0.0.7:8300", "169.254.169.254:80", "[fe80::1%eth0]:8300", "0.0.0.0:1"],
)
def test_credentials_go_to_addresses_of_pods_only(leader: str) -> None:
    with pytest.raises(Permanent, match="PodAddressInvalid: raft's leader has "):
        data_address(position(leader, ""), 7001)


@pytest.mark.parametrize("leader", ["10.0.0.7:x", "10.0.0.7:0", "10.0.0.7:70000", "10.0.0.7:65535"])
def test_a_port_is_one(leader: str) -> None:
    with pytest.raises(Permanent, match="PortInvalid: raft's leader's "):
        data_address(position(leader, "10.0.0.8:8300"), 8301)


@pytest.mark.parametrize(
    "answer", [{}, {"name": "a", "raft": 5}, {"name": "a", "raft": {"term": "x"}}, {"name": "a", "raft": {"term": [1]}}]
)
def test_a_position_is_looked_at_before_it_is_used(answer: dict[str, Any]) -> None:
    with pytest.raises(Permanent) as refused:
        read_position(answer, what="statistics")
    assert refused.value.reason == "UnexpectedAnswer"


@pytest.mark.weaviate
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_server_that_starts_is_not_believed(version: str, tmp_path: Path) -> None:
    """Asked all the time while it replays its log; without a watch it names some of the tenants, or none."""
    names, whole = [f"t{number}" for number in range(TENANTS)], (TENANTS, ("Last", "Multi"))
    async with weaviate_cluster(tmp_path, version=version) as cluster:
        await cluster.create({"class": "Multi", "properties": [], "multiTenancyConfig": {"enabled": True}})
        for start in range(0, TENANTS, 10):
            tenants = ({"name": name, "activityStatus": "COLD"} for name in names[start : start + 10])
            await asyncio.gather(*(cluster.call("POST", "/v1/schema/Multi/tenants", [each]) for each in tenants))
        await cluster.create({"class": "Last", "properties": []})
        node, answers = cluster.nodes[0], list[Any]()

        async def ask() -> None:
            async with RaftClient(node.host, node.raft_rpc_port) as raft:
                raft.watch = LogWatch(DataPorts(node.name, node.host, node.data_port))
                try:
                    answers.append((len(await raft.tenant_statuses("Multi", names)), await raft.class_names()))
                except BackupError as error:
                    assert isinstance(error, Transient), error

        await cluster.stop_node(node, kill=True)
        cluster.start_node(node)
        asking = set[asyncio.Task[None]]()
        async with asyncio.timeout(SECONDS):
            while not answers:
                if sum(not each.done() for each in asking) < ASKED_AT_ONCE:
                    asking.add(asyncio.create_task(ask()))
                await asyncio.sleep(0.05)
            await asyncio.gather(*asking)
        assert set(answers) == {whole}
