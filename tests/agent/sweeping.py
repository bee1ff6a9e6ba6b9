"""The sweep of a volume without a server, for operations that hold nothing in one."""

from datetime import datetime

from weaviate_backup.agent.sweep import find_dead, remove_operation
from weaviate_backup.beneath import Place


def swept(data_root: Place, operation_uid: str, now: datetime) -> tuple[str, ...]:
    """Uids of what was removed."""
    dead = find_dead(data_root, operation_uid, now)
    for each in dead:
        assert each.cuts == []
        remove_operation(data_root, each.uid, each.placed, collections=frozenset())
    return tuple(each.uid for each in dead)
