"""How much JSON from outside may ask of our memory: judged from its bytes, before one object is made of them. Pure.

A parser makes up to 25 times as much of a document as it has bytes (`[{},{},…]`), and gives up, or worse, on one that
is a few kilobytes of `[`. So the values are counted first, and how deep they lie: both take a few passes of C.
"""

import json
import re
import sys
from dataclasses import dataclass
from typing import Any

KIB, MIB = 1 << 10, 1 << 20
MORE_MEMORY = "give the agents more memory (spec.agent.resources.limits.memory)"
"""The cure of a document beyond an agent's bounds, which are shares of its memory."""
DEPTH = 128
"""Weaviate nests properties of objects, Kubernetes schemas; more than this is written to hurt."""
_BEGIN = (b"[", b"{", b",", b":")
_ONLY_LISTS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_ESCAPED_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class BeyondBounds(ValueError):
    """The document is JSON perhaps, but not of a size that is parsed here. Its text says which bound was passed."""


class TooDeep(BeyondBounds):
    """No program writes such a document."""


@dataclass(frozen=True)
class JsonBounds:
    """Of one document: bytes, values of any kind (names of fields count, too), and levels."""

    size_bytes: int
    values: int
    depth: int = DEPTH

    def refuse_beyond(self, content: bytes) -> None:
        """Raises `BeyondBounds`. What is no JSON passes here: the parser says so better."""
        if len(content) > self.size_bytes:
            raise BeyondBounds(f"{len(content)} bytes, more than {self.size_bytes}")
        values = values_in(content)
        if values > self.values:
            raise BeyondBounds(f"up to {values} values, more than {self.values}")
        if _is_deeper(content, self.depth):
            raise TooDeep(f"more than {self.depth} levels of values in values, or brackets that do not match")

    def parse(self, content: bytes) -> Any:
        """Raises `ValueError` for what is no JSON, or no text, `BeyondBounds` for too much of it."""
        self.refuse_beyond(content)
        value = json.loads(content.decode())  # not json.loads(bytes), which takes UTF-16, too
        if holds_half(content, value):
            raise ValueError("it holds half a character, which is no text")
        return value


def values_in(content: bytes) -> int:
    """At least as many as a parser makes of it: each follows a bracket, a comma or a colon."""
    return 1 + sum(content.count(mark) for mark in _BEGIN)


def holds_half(content: bytes, value: Any) -> bool:
    """Whether a text in it has half a character, which JSON can spell alone: it could be encoded nowhere. `value`: what
    a parser made of the content."""
    if not _ESCAPED_HALF.search(content):
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def memory_of(value: Any) -> int:
    """Bytes that a parsed value takes, at most: names of fields are counted each time, though a parser shares them."""
    found, left = 0, [value]
    while left:
        each = left.pop()
        found += sys.getsizeof(each)
        if isinstance(each, dict):
            left += (*each, *each.values())
        elif isinstance(each, list | tuple):
            left += each
    return found


def _is_deeper(content: bytes, depth: int) -> bool:
    """Whether brackets outside of strings lie in one another more than `depth` times, or do not match while there are
    so many: then it is no JSON, and no parser is to find out."""
    bare = content.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 2 * values_in(bare):
        return True  # more strings than values
    outside = b"".join(bare.split(b'"')[::2])
    nested = outside.translate(_ONLY_LISTS, _NO_BRACKETS)
    opened = nested.count(b"[")
    if opened <= depth:
        return False
    if len(nested) != 2 * opened:
        return True
    for _ in range(depth):
        nested = nested.replace(b"[]", b"")
    return bool(nested)
