"""What the bounds of JSON let through, and that a hostile document costs nothing before it is refused."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.answers.hostile_server import Peak, wide

from weaviate_backup import answers
from weaviate_backup.errors import Permanent, excerpt
from weaviate_backup.layout.json_bounds import DEPTH, BeyondBounds, JsonBounds, TooDeep, values_in

ROOM = JsonBounds(1 << 20, 10_000)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def count(value: Any) -> int:
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return 1 + sum(map(count, inner))


@settings(deadline=None)
@given(anything, st.booleans())
def test_what_is_within_the_bounds_is_parsed_as_it_is(value: Any, ascii_only: bool) -> None:
    content = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert values_in(content) >= count(value)
    assert ROOM.parse(content) == value


@pytest.mark.parametrize("around", [b"%s", b'{"a":%s}', b'["]\\"]",%s]', rb'["\\",%s]'])
def test_levels_are_counted_outside_of_strings(around: bytes) -> None:
    extra = around.count(b"%s}") + around.count(b"%s]")
    allowed = DEPTH - extra
    ROOM.parse(around % (b"[" * allowed + b"]" * allowed))
    with pytest.raises(TooDeep):
        ROOM.parse(around % (b"[" * (allowed + 1) + b"]" * (allowed + 1)))


@pytest.mark.parametrize(
    "content",
    (
        *(b"[" * 500_000, b"]" * 500_000, b"[" * 9000 + b"]" * 9000, b'"' * 900_000, wide(600_000), b"{}" * 400_000),
        *(b'{"a":' * 9000, b"\\" * 900_000, b"[" * 200 + b'"' + b"]" * 200, "[1]".encode("utf-16"), b"\xff", b""),
    ),
    ids=lambda content: repr(content[:4]),
)
def test_what_is_not_is_refused_without_making_it(content: bytes) -> None:
    peak = Peak()
    with pytest.raises(ValueError):
        ROOM.parse(content)
    assert peak.mib < 48


@pytest.mark.parametrize("half", [rb'"\ud800"', rb'{"a":["\uDFFF"]}', rb'{"\udc00\ud83d":1}'])
def test_half_a_character_is_no_text(half: bytes) -> None:
    """Who wrote it out again would fail, wherever that is."""
    with pytest.raises(ValueError, match="half a character"):
        ROOM.parse(half)
    assert ROOM.parse(rb'"\ud83d\ude00"') == "\U0001f600"
    assert ROOM.parse(rb'"\\ud800"') == r"\ud800"


def test_a_wide_document_within_bytes_is_beyond_values() -> None:
    with pytest.raises(BeyondBounds, match="values"):
        answers.MANY.refuse_beyond(wide(15 << 20))
    with pytest.raises(Permanent, match="AnswerTooLarge"):
        answers.parse(wide(15 << 20), answers.MANY, what="GET /v1/schema")


@pytest.mark.parametrize("gib", [0.25, 0.5, 1, 4, 64])
def test_a_document_takes_a_share_of_memory(gib: float) -> None:
    memory = int(gib * (1 << 30))
    bounds = answers.document_bounds(memory)
    assert bounds.size_bytes <= max(memory // 8, answers.LEAST_BYTES)
    assert bounds.values * 220 <= max(memory // 2, 22_000_000)


@pytest.mark.parametrize("text", ["\x1b[2Jx", "a\x07b", "\u202eabc", "\ud800", "\x9b31m", "a\u2028b"])
def test_foreign_text_steers_no_terminal(text: str) -> None:
    shown = excerpt(text)
    assert shown.isprintable() and shown.encode()


@settings(deadline=None)
@given(st.text(st.characters()), st.integers(2, 300))
def test_an_excerpt_is_short_and_can_be_shown(text: str, limit: int) -> None:
    shown = excerpt(text, limit)
    assert len(shown) <= limit and shown.isprintable() and shown.encode() is not None
