"""Which states a backup may bring back of what changed while it was made. Values in, values out; times in seconds.

Whatever changes has one author, so its changes are a sequence. One that was not acknowledged may have happened or not,
at any time, so its author leaves the thing alone from then on.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

State = int | str | None
"""Tag of an object, status of a tenant, target of an alias; None: it is not there."""


@dataclass(frozen=True)
class Change:
    """`acknowledged_at` None: nobody knows whether it happened."""

    state: State
    sent_at: float
    acknowledged_at: float | None


@dataclass(frozen=True)
class Span:
    """From before the backup was asked for until after its end was seen."""

    began: float
    ended: float


def possible(changes: Sequence[Change], span: Span) -> set[State]:
    """States that some instant of the span can have shown: nothing acknowledged before it is undone, nothing that was
    sent after it is known."""
    settled = [
        n
        for n, change in enumerate(changes)
        if change.acknowledged_at is not None and change.acknowledged_at < span.began
    ]
    first = max(settled, default=0)
    states = {change.state for n, change in enumerate(changes) if n >= first and change.sent_at < span.ended}
    return states if settled else states | {None}


def impossible(
    what: str, history: Mapping[str, Sequence[Change]], found: Mapping[str, State], span: Span
) -> Iterator[str]:
    """Names each thing whose state no instant of the span can have shown."""
    for name in sorted(found.keys() - history.keys()):
        yield f"{what} {name}: nobody made it"
    for name, changes in history.items():
        allowed = possible(changes, span)
        if (state := found.get(name)) not in allowed:
            yield f"{what} {name}: is {state}, possible is {sorted(map(str, allowed))}"


def untold(backup_id: str, keys: Iterable[str], nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Objects of a backup that did not complete, of which its status says nothing: a node's stay when that node was
    given up or could not delete them, and those of all, the claim say, as long as any node's do. `nodes`: of the
    status."""
    names = {str(node.get("name")) for node in nodes}
    given_up = {node["name"] for node in nodes if node.get("phase") == "Unreachable" or node.get("reason")}
    owners = {key: key.removeprefix(f"{backup_id}/").split("/")[0] for key in keys}
    return sorted(key for key, owner in owners.items() if (owner not in given_up if owner in names else not given_up))


SUBJECT = re.compile(r": (?=was |gone, was |new, is )|: \S+ scored ")


def of_what_lived(restored: Sequence[str], to_living: Sequence[str]) -> list[str]:
    """Differences between the restored and what there was, as far as they are differences to what lived at the end of
    the backup, too: a server that dies loses writes, before its cut or after it."""
    also = {_subject(line) for line in to_living}
    return [line for line in restored if _subject(line) in also]


def _subject(line: str) -> str:
    """Of a difference that `compare` tells."""
    return SUBJECT.split(line, maxsplit=1)[0]


def written_again(collection: str, history: Mapping[str, Sequence[Change]], span: Span) -> Iterator[str]:
    """Objects of which the living say nothing: whether a server that died had lost one when it was cut is not to be
    seen any more where the same object was written later. Keys are identifiers, or tenant and identifier."""
    for key, changes in history.items():
        if any(change.sent_at >= span.began for change in changes):
            tenant, _, identifier = key.rpartition("/")
            yield f"{f'{collection}/{tenant}' if tenant else collection} {identifier}: was written again"


def without_excused(wrong: Sequence[str], live: Sequence[str]) -> list[str]:
    """What the database itself had lost before the backup was restored cannot be asked of the backup."""
    excused = {line.split(":")[0] for line in live}
    return [line for line in wrong if line.split(":")[0] not in excused]
