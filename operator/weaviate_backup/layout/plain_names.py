"""Names that come from a store and become parts of keys, of paths and of raft commands: one rule for all of them."""

from typing import Annotated

from pydantic import AfterValidator

from weaviate_backup.errors import Permanent, excerpt

NAME_LIMIT = 255


def plain(name: str) -> str:
    """The name. Raises `ValueError` for one that is empty, too long, or could lead elsewhere as part of a path."""
    if not name or len(name) > NAME_LIMIT or name in (".", "..") or any(each in name for each in "/\\\0"):
        raise ValueError(f"{excerpt(name, 40)!r} is no name")
    return name


def plain_or_empty(name: str) -> str:
    return plain(name) if name else name


Name = Annotated[str, AfterValidator(plain)]
NameOrEmpty = Annotated[str, AfterValidator(plain_or_empty)]


def checked_name(name: str, *, what: str) -> str:
    """The name. `UnsafeName` says what it was to name, such as "a shard of Article"."""
    try:
        plain(name).encode()  # JSON can spell what no text can
    except ValueError as error:
        raise Permanent("UnsafeName", f"{what} has a name that cannot be part of a path: {error}") from error
    return name
