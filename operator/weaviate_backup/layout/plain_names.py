"""Names that come from a store and become parts of keys, of paths and of raft commands: one rule for all of them."""

from typing import Annotated

from pydantic import AfterValidator

from weaviate_backup.errors import excerpt

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
