"""How far a node is in raft, and who leads, as its statistics tell: the same words on REST and on the data port."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from weaviate_backup.answers import understood
from weaviate_backup.errors import excerpt

Json = dict[str, Any]


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


def read_position(answer: Json, *, what: str) -> Position:
    """Of a node's statistics; `what` names the answer. A server that has not begun with raft says nothing of it."""
    with understood(what):
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


def standing_of(own: Position, leading: Position) -> Standing | None:
    """Who leads, when a node and the leader that it knows say the same of it."""
    same = leading.leads and leading.node == own.leader and leading.term == own.term
    return Standing(leading.node, leading.term) if same else None


def _number(value: Any) -> int:
    return int(value or 0)
