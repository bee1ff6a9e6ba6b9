"""Which names of collections, shards, nodes and backups may become parts of keys and paths, whoever tells. Pure."""

from weaviate_backup.errors import Permanent, excerpt

NAME_LIMIT = 255


def plain(name: str) -> str:
    """The name. `ValueError` for what leads elsewhere, or what no file system can spell."""
    printable = all(each not in "/\\\0" and not "\ud800" <= each <= "\udfff" for each in name)
    if not name or len(name) > NAME_LIMIT or name in (".", "..") or not printable:
        raise ValueError(f"{excerpt(ascii(name), 40)} is no name")
    return name


def checked_name(name: str, *, what: str) -> str:
    """The name. `UnsafeName` says what it was to name, such as "a shard of Article"."""
    try:
        return plain(name)
    except ValueError as error:
        raise Permanent("UnsafeName", f"{what} has a name that cannot be part of a path: {error}") from error
