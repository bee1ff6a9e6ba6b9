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
from typing import Protocol, TypeVar

from weaviate_backup.core.pod_addresses import address_of, port_of
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.weaviate.raft_position import Position, Standing, standing_of
from weaviate_backup.weaviate.rest import NodeClient, RestClient
from weaviate_backup.weaviate.rpc import ClusterCredentials, url_host, wrong_credentials

CATCH_UP_SECONDS = 30.0
"""A step waits so long by itself; the operator takes it again."""
PAUSE_SECONDS = 0.05
ELECTIONS = 3
"""So often a question is asked anew because another leads by then."""

T = TypeVar("T")

_asking: ContextVar["LogWatch | None"] = ContextVar("_asking", default=None)
"""Whose looks the questions of this task lie between already."""


class Looker(Protocol):
    """Where positions are read. `where`: for people."""

    where: str

    async def look(self) -> tuple[Standing | None, Position]:
        """Who leads, when a node and the leader that it knows say the same of it; and the leader's position, or that of
        the node."""


class LogWatch:
    """Holds what was seen last, and no connection. `patience_seconds`: for so long it waits for a leader that has
    replayed its log."""

    def __init__(self, looker: Looker, *, patience_seconds: float | None = None) -> None:
        self._looker = looker
        self._patience_seconds = CATCH_UP_SECONDS if patience_seconds is None else patience_seconds
        self._standing: Standing | None = None

    @property
    def leader(self) -> str:
        """Who said what was settled last."""
        return self._standing.leader if self._standing else ""

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
            afterwards, _ = await self._looker.look()
            if afterwards != before:
                self._standing = None
            elif refusal is not None:
                raise refusal
            else:
                return answer
        raise Transient(
            "SchemaCatchingUp", f"Weaviate's raft at {self._looker.where} changes its leader again and again"
        )

    async def _replayed(self) -> Standing:
        """Waits for a leader that has applied all that its log held when we first saw it lead."""
        deadline = asyncio.get_running_loop().time() + self._patience_seconds
        goals: dict[Standing, int] = {}
        while True:
            standing, leading = await self._looker.look()
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


class DataPorts:
    """Of one node, and of its leader. Whoever answers must be `node`: the address of a pod that was made anew may be
    another's."""

    def __init__(self, node: str, host: str, data_port: int, credentials: ClusterCredentials | None = None) -> None:
        self.where = f"{url_host(host)}:{data_port}"
        self._node = node
        self._host = host
        self._data_port = data_port
        self._credentials = credentials

    async def look(self) -> tuple[Standing | None, Position]:
        own = await self._position(self._host, self._data_port)
        if own.node != self._node:
            message = f"Weaviate node {own.node!r} answers at {self.where}, not {self._node!r}"
            raise Transient("ServerForeign", message)
        if not own.leader or not (own.leads or own.leader_address):
            return None, own
        leading = own if own.leader == own.node else await self._position(*data_address(own, self._data_port))
        return standing_of(own, leading), leading

    async def _position(self, host: str, port: int) -> Position:
        async with NodeClient(host, port, self._credentials) as node:
            try:
                return await node.position()
            except Permanent as error:
                if error.reason != "AuthenticationFailed":
                    raise
                raise wrong_credentials(f"position in raft of {url_host(host)}:{port}") from error


class Statistics:
    """Of all nodes, as one of them, `node`, collects them for REST."""

    def __init__(self, node: str, rest: RestClient) -> None:
        self.where = rest.base_url
        self._node = node
        self._rest = rest

    async def look(self) -> tuple[Standing | None, Position]:
        positions = {each.node: each for each in await self._rest.positions()}
        own = positions.get(self._node)
        if own is None:
            raise Transient(
                "ServerForeign", f"Weaviate at {self.where} tells nothing of {self._node!r}, whose pod it is"
            )
        leading = positions.get(own.leader, own)
        return standing_of(own, leading), leading


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
