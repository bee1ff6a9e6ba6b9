"""What a store says beside objects' content: listings, errors, descriptions. Read by the client libraries, whole, and
unpacked; so they are given a body with bounds.

Objects' content is read by other calls (`bodies`), as it comes.
"""

import time
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from typing import Any
from xml.parsers import expat

from weaviate_backup.answers import MANY, too_large
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.layout.json_bounds import BeyondBounds

LIMIT_BYTES = MANY.size_bytes
"""A page of 1,000 names has 4 MiB at most, and as much again where stores add metadata."""
LIMIT_VALUES = MANY.values
"""Of JSON as of XML: an element takes a hundred bytes of memory."""
LIMIT_DEPTH = 64
"""Of XML; no store's answer has a quarter of it, and the libraries go down by calls."""
WHAT = "the store"
TOTAL_SECONDS = 120.0
BLOCK_BYTES = 64 << 10
REDIRECTS = range(300, 400)
XML_MAY_BEGIN_WITH = b"\xef\xbb\xbf \t\r\n"


def bound(raw: Any) -> None:
    """Have the body of an answer of urllib3, when it is read as a document, keep the bounds."""
    raw.stream = _Document(raw).stream


def stay_here(status: int, headers: MutableMapping[str, str]) -> None:
    """A redirect is an answer like any other: no library is told where to."""
    if status in REDIRECTS:
        headers.pop("Location", None)


class _Document:
    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._until = time.monotonic() + TOTAL_SECONDS

    def stream(self, _: int = BLOCK_BYTES, decode_content: bool | None = None) -> Iterator[bytes]:
        """In one block, after it was looked at. Raises `AnswerTooLarge`, `EndpointWrong`, `StoreUnavailable`."""
        found = bytearray()
        # what has come, and not what was asked for: who drips would be waited for within one call
        while block := self._raw.read1(BLOCK_BYTES, decode_content=decode_content):
            found += block
            if len(found) > LIMIT_BYTES:
                raise too_large(WHAT, f"more than {LIMIT_BYTES} bytes")
            if time.monotonic() > self._until:
                raise Transient("StoreUnavailable", f"the store's answer did not end within {TOTAL_SECONDS:g} s")
        content = bytes(found)
        _refuse_xml(content)
        if not content.lstrip(XML_MAY_BEGIN_WITH).startswith(b"<"):  # no parser of JSON reads on after that
            _refuse_json(content)
        if content:
            yield content


def _refuse_xml(content: bytes) -> None:
    """In whatever encoding it comes. What is no XML ends at its first character."""
    elements = depth = 0

    def enter(*_: object) -> None:
        nonlocal elements, depth
        elements, depth = elements + 1, depth + 1
        if elements > LIMIT_VALUES:
            raise too_large(WHAT, f"more than {LIMIT_VALUES} elements")
        if depth > LIMIT_DEPTH:
            raise too_large(WHAT, f"elements more than {LIMIT_DEPTH} deep")

    def leave(*_: object) -> None:
        nonlocal depth
        depth -= 1

    def refuse_entity(*_: object) -> None:
        raise Permanent("EndpointWrong", "the store's answer defines entities of XML, which no store does")

    if content.count(b"=") > LIMIT_VALUES:
        raise too_large(WHAT, f"more than {LIMIT_VALUES} attributes")
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = enter, leave
    parser.EntityDeclHandler = refuse_entity
    with suppress(expat.ExpatError):  # what is wrong with it is the library's to say
        parser.Parse(content, True)


def _refuse_json(content: bytes) -> None:
    try:
        MANY.refuse_beyond(content)
    except BeyondBounds as error:
        raise too_large(WHAT, str(error)) from error
