"""What the journal says of a placed collection: one record `placed`, and before it, when there are many shards, some of
them in records of their own. A line has a bound, a collection may have half a million tenants."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from weaviate_backup.agent.journal import Journal, Record, journal_damaged

PLACED, SHARDS = "placed", "placed-shards"
SHARDS_IN_A_RECORD = 5_000
"""With the longest names, escaped, they take half of what a line may have."""


def append_placed(
    journal: Journal, *, collection: str, shards: Mapping[str, int], born: Mapping[str, Any], **fields: Any
) -> None:
    """`shards`: their inodes; `born`: as `identity.born_of` reads it. All lasts when this returns.

    The last record is whole by itself when there are few shards, as it always was.
    """
    names, late = list(shards), born.get("late") or {}
    pages = [names[at : at + SHARDS_IN_A_RECORD] for at in range(0, len(names), SHARDS_IN_A_RECORD)] or [[]]
    for page in pages[:-1]:
        journal.append(SHARDS, sync=False, collection=collection, **_part(page, shards, late))
    last = _part(pages[-1], shards, late)
    journal.append(
        PLACED,
        collection=collection,
        shards=last["shards"],
        born={**born, "late": last["late"]},
        earlier_records=len(pages) - 1,
        **fields,
    )


def _part(names: list[str], shards: Mapping[str, int], late: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "shards": {name: shards[name] for name in names},
        "late": {name: late[name] for name in names if name in late},
    }


class Joining:
    """Joins such records, seen one after the other."""

    def __init__(self) -> None:
        self._earlier: defaultdict[str, list[Record]] = defaultdict(list)

    def see(self, record: Record) -> Record | None:
        """The whole of what was placed, once its last record is seen. `JournalDamaged` when one before is missing."""
        if record["kind"] == SHARDS:
            self._earlier[record["collection"]].append(record)
        if record["kind"] != PLACED:
            return None
        seen, count = self._earlier.pop(record["collection"], []), record.get("earlier_records", 0)
        if not isinstance(count, int) or not 0 <= count <= len(seen):
            raise journal_damaged(PLACED)
        if not count:
            return record
        # Of an agent that was killed between them there may be more.
        parts, born = seen[-count:], _dictionary(record.get("born"))
        late = {name: when for part in parts for name, when in part["late"].items()} | _dictionary(born.get("late"))
        shards = {name: inode for part in parts for name, inode in part["shards"].items()} | record["shards"]
        return {**record, "shards": shards, "born": {**born, "late": late}}


def _dictionary(found: object) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def placed_of(journal: Journal) -> dict[str, Record]:
    """Collection -> what was placed of it, whole; the last word counts."""
    joining = Joining()
    joined = (joining.see(record) for record in journal.of(PLACED, SHARDS))
    return last_of(record for record in joined if record is not None)


def last_of(placed: Iterable[Record]) -> dict[str, Record]:
    """By collection: an agent that was killed before it renamed is followed by one that says it again."""
    return {record["collection"]: record for record in placed}
