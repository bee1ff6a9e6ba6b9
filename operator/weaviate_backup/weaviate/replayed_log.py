"""Whether what raft says of the schema can be believed: a server that starts answers before it has replayed its log.

The raft port listens first, and whoever leads answers, through any node. A leader that has just started, or has just
been elected, may still have to apply what was decided before it: collections, tenants and aliases are missing from its
answers until then, or are as they once were. So an answer counts when it lies between two looks at data ports: the
first saw a leader that had applied its whole log, and the second the same leader in the same term. A leader that
starts again leads in a later term only. What is decided in a term is applied by its leader before anybody hears of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from weaviate_backup.answers import understood
from weaviate_backup.core.pod_addresses import address_of, port_of
from weaviate_backup.errors import Permanent, Transient, excerpt
from weaviate_backup.weaviate.rest import Json, NodeClient
from weaviate_backup.weaviate.rpc import ClusterCredentials, url_host, wrong_credentials

CATCH_UP_SECONDS = 30.0
"""A step waits so long by itself; the operator takes it again."""
PAUSE_SECONDS = 0.05
ELECTIONS = 3
"""So often a question is asked anew because another leads by then."""

T = TypeVar("T")

_asking: ContextVar["LogWatch | None"] = ContextVar("_asking", default=None)
"""Whose looks the questions of this task lie between already."""


class Standing(NamedTuple):
    """A node that leads, and raft's term in which it does."""

    leader: str
    term: int


@dataclass(frozen=True)
class Position:
    """Of one node in raft. Indexes are those of log entries; `pending` batches of them wait to be applied."""

    node: str
    leader: str
    leader_address: str
    own_address: str
    leads: bool
    term: int
    ready: bool
    """It knows a leader, and has applied the log that it had on disk when it started."""
    applied_index: int
    last_index: int
    pending: int


class LogWatch:
    """Looks at one node's data port, and at the leader's. It holds no connection.

    Whoever answers must be `node`: the address of a pod that was made anew may be another's.
    """

    def __init__(self, node: str, host: str, data_port: int, credentials: ClusterCredentials | None = None) -> None:
        self._node = node
        self._host = host
        self._data_port = data_port
        self._credentials = credentials
        self._standing: Standing | None = None

    async def settled(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` comes to, an answer or a refusal, when one leader that had replayed its log said all of it.

        `ask` may ask many questions, in tasks of its own. Raises `SchemaCatchingUp`, which passes.
        """
        if _asking.get() is self:
            return await ask()
        for _ in range(ELECTIONS):
            before = self._standing or await self._replayed()
            token, refusal = _asking.set(self), None
            try:
                answer = await ask()
            except Permanent as error:
                refusal = error
            finally:
                _asking.reset(token)
            afterwards, _ = await self._look()
            if afterwards != before:
                self._standing = None
            elif refusal is not None:
                raise refusal
            else:
                return answer
        raise Transient("SchemaCatchingUp", f"Weaviate's raft at {self._host} changes its leader again and again")

    async def _replayed(self) -> Standing:
        """Waits for a leader that has applied all that its log held when we first saw it lead."""
        deadline = asyncio.get_running_loop().time() + CATCH_UP_SECONDS
        goals: dict[Standing, int] = {}
        while True:
            standing, leading = await self._look()
            if standing is None:
                why = f"{leading.node} and the leader it knows ({leading.leader or 'none'}) do not agree who leads"
            else:
                goal = goals.setdefault(standing, leading.last_index)
                if leading.ready and leading.applied_index >= goal and not leading.pending:
                    self._standing = standing
                    return standing
                why = f"{leading.node} leads and has applied entry {leading.applied_index} of {goal} of its log"
            if asyncio.get_running_loop().time() > deadline:
                message = f"{why}; until it has, what Weaviate's raft says of the schema is not believed"
                raise Transient("SchemaCatchingUp", message)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look(self) -> tuple[Standing | None, Position]:
        """Who leads, when the node and the leader say the same of it; and the leader's position."""
        own = await self._position(self._host, self._data_port)
        if own.node != self._node:
            where = f"{url_host(self._host)}:{self._data_port}"
            raise Transient("ServerForeign", f"Weaviate node {own.node!r} answers at {where}, not {self._node!r}")
        if not own.leader or not (own.leads or own.leader_address):
            return None, own
        leading = own if own.leader == own.node else await self._position(*data_address(own, self._data_port))
        same = leading.leads and leading.node == own.leader and leading.term == own.term
        return (Standing(leading.node, leading.term) if same else None), leading

    async def _position(self, host: str, port: int) -> Position:
        async with NodeClient(host, port, self._credentials) as node:
            try:
                return read_position(await node.statistics())
            except Permanent as error:
                if error.reason != "AuthenticationFailed":
                    raise
                raise wrong_credentials(f"position in raft of {url_host(host)}:{port}") from error


def read_position(answer: Json) -> Position:
    """Of `GET /nodes/statistics`. A server that has not begun with raft says nothing of it."""
    with understood("GET /nodes/statistics"):
        raft: Json = answer.get("raft") or {}
        node = excerpt(str(answer["name"]))
        servers: list[Json] = raft.get("latestConfiguration") or []
        return Position(
            node=node,
            leader=excerpt(str(answer.get("leaderId") or "")),
            leader_address=str(answer.get("leaderAddress") or ""),
            own_address=next((str(each.get("address")) for each in servers if each.get("id") == node), ""),
            leads=raft.get("state") == "Leader",
            term=_number(raft.get("term")),
            ready=answer.get("ready") is True,
            applied_index=_number(raft.get("appliedIndex")),
            last_index=_number(raft.get("lastLogIndex")),
            pending=_number(raft.get("fsmPending")),
        )


def data_address(own: Position, own_data_port: int) -> tuple[str, int]:
    """Host and data port of the leader that a node knows. All nodes of a StatefulSet have the same ports; of nodes that
    share an address, each port is as far from the node's raft port as another's is from its own."""
    host, raft_port = _host_and_port(own.leader_address)
    if not own.own_address:
        return host, own_data_port
    return host, port_of(own_data_port + raft_port - _host_and_port(own.own_address)[1], "raft's leader's data port")


def _host_and_port(address: str) -> tuple[str, int]:
    """Raft names addresses, no names: whoever has none that a pod can have is not told the cluster's credentials."""
    host, _, port = address.rpartition(":")
    return address_of(host.removeprefix("[").removesuffix("]"), "raft's leader"), port_of(port, "raft's leader's port")


def _number(value: Any) -> int:
    return int(value or 0)
