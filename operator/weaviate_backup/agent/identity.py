"""Whether a directory is the very one that was placed. A number of an inode says so only as long as that lives: a
directory that is made after another was deleted often gets its number."""

from typing import Any

from weaviate_backup.beneath import Place


def is_same(place: Place, inode: object, born: object) -> bool:
    """`inode` and `born` as they were; without a time of birth, then or now, the inode alone is compared."""
    status = place.look()
    if status is None or status.st_ino != inode:
        return False
    now = place.born() if isinstance(born, int) else None
    return now is None or now == born


def born_of(record: dict[str, Any], what: str, *names: str) -> object:
    """What a record of PLACE says of it; older ones do not."""
    found: object = record.get("born")
    for name in (what, *names):
        found = found.get(name) if isinstance(found, dict) else None
    return found
