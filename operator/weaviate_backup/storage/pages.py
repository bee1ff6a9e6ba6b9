"""Pages of a listing, as client libraries give them."""

from collections.abc import Iterator
from typing import TypeVar

from weaviate_backup.errors import Transient

T = TypeVar("T")


def next_page(pages: Iterator[T]) -> T | None:
    """The next one, None after the last. The libraries stumble over an answer that was cut before its first byte."""
    try:
        return next(pages, None)
    except (AttributeError, KeyError, TypeError) as error:
        raise Transient("StoreUnavailable", "the store's answer to a listing is cut off") from error
