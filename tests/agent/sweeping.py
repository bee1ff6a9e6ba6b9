"""The sweep of a volume without a server, for operations that hold nothing in one."""

from collections.abc import Collection, Iterable
from datetime import datetime

from weaviate_backup.agent.journal import Record
from weaviate_backup.agent.sweep import find_dead
from weaviate_backup.agent.taking_back import remove_operation, take_back
from weaviate_backup.beneath import Place


def removed(
    data_root: Place, operation_uid: str, placed: Iterable[Record], *, collections: Collection[str] = ()
) -> tuple[str, ...]:
    """One operation, as `release` does it while the schema stays as it is. What stays placed."""
    records = list(placed)
    take_back(data_root, operation_uid, records, collections=collections)
    return remove_operation(data_root, operation_uid, records, collections=collections)


def swept(data_root: Place, operation_uid: str, now: datetime) -> tuple[str, ...]:
    """Uids of what was removed."""
    dead = find_dead(data_root, operation_uid, now)
    for each in dead:
        assert each.cuts == []
        removed(data_root, each.uid, each.placed)
    return tuple(each.uid for each in dead)
