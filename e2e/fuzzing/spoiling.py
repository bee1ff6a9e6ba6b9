"""Ways to spoil a document: in its bytes, in JSON, in lines of it, and in what is packed or in base64.

A spoiled document is one that our own writers or a server made, less a few steps: so most of it is still understood,
and a step is met by code that comes late.
"""

import base64
import binascii
import gzip
import io
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeVar, cast

import zstandard
from hypothesis import strategies as st

T = TypeVar("T")


class Choices(Protocol):
    """Where a step's choices come from."""

    def one(self, options: Sequence[T]) -> T: ...

    def number(self, least: int, most: int) -> int: ...

    def some_bytes(self, most: int) -> bytes: ...


class Quick(Random):
    """Choices of a generator with a seed: a hundred times as fast as drawn ones, and nothing makes them small."""

    def one(self, options: Sequence[T]) -> T:
        return options[int(self.random() * len(options))]

    def number(self, least: int, most: int) -> int:
        return least + int(self.random() * (most - least + 1))

    def some_bytes(self, most: int) -> bytes:
        return self.randbytes(self.number(0, most))


@dataclass(frozen=True)
class Drawn:
    """Choices that Hypothesis draws, and makes small when they lead to a failure."""

    draw: Callable[[st.SearchStrategy[Any]], Any]

    def one(self, options: Sequence[T]) -> T:
        return cast(T, self.draw(st.sampled_from(options)))

    def number(self, least: int, most: int) -> int:
        return cast(int, self.draw(st.integers(least, most)))

    def some_bytes(self, most: int) -> bytes:
        return cast(bytes, self.draw(st.binary(max_size=most)))


Spoil = Callable[[Choices, bytes, Sequence[bytes]], bytes]
"""Given the document and others of its kind."""

MOST_STEPS = 4
MOST_SLOTS = 2000
LARGE_BYTES = 64 << 10
"""Of JSON that is not taken apart any more: bytes of it are spoiled."""
WIDE_BYTES = 20_000
MOST_BYTES = 4 << 20
"""A document is not made longer; what it unpacks to may be."""

NUMBERS = (0, 1, -1, 127, 128, 255, 256, 511, 512, 65535, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64)
TEXTS = (
    "", ".", "..", "../../x", "/etc/passwd", "a/b", "a\\b", "\0", "\n", "\x1b[2J", "\u202e", "\ud800", "\u212a",
    "\u017f", "é", "A" * 300, "a/" * 200, "0", "-1", "1e999", "null", "Infinity", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z", "2026-05-01T10:00:00", "gzip", "zstd", "HOT", "COLD", "FROZEN", "physical", "class",
    "kind", "node", "chunk", "shard",
)  # fmt: skip
TOKENS = (
    "null", "true", "false", "[]", "{}", "1e999", "-1e999", "1E5", "0.1", "-0", "NaN", "Infinity", "1" * 400,
    "1" * 5000, "[" * 200, "[" * 150 + "]" * 150, '{"a":' * 100 + "1" + "}" * 100, "[" + "{}," * 3000 + "{}]",
    '"\\ud800"', '"\\u0000"', '"' + "\\n" * 300 + '"', "01", "'a'", "",
)  # fmt: skip
FAR = 1 << 16


class Token(str):
    """Goes into the document as it is."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may come twice."""


def spoiled(choose: Choices, corpus: Sequence[bytes], spoil: Spoil) -> bytes:
    """A document of the corpus, spoiled by some steps."""
    content = choose.one(corpus)
    for _ in range(choose.number(0, MOST_STEPS)):
        content = spoil(choose, content, corpus)[:MOST_BYTES]
    return content


def drawn(corpus: Sequence[bytes], spoil: Spoil) -> st.SearchStrategy[bytes]:
    """The same as a strategy."""

    @st.composite
    def document(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
        return spoiled(Drawn(draw), corpus, spoil)

    return document()


def in_bytes(choose: Choices, content: bytes, corpus: Sequence[bytes]) -> bytes:
    """One step that knows nothing of the format."""
    at = choose.number(0, FAR) % (len(content) + 1)
    until = min(len(content), at + 1 + choose.one((0, 1, 2, 3, 7, 8, 31, 100, 511, 512, 4096)))
    put, here = b"", content[at:until]
    match choose.one(("flip", "bytes", "number", "cut", "out", "twice", "other", "text")):
        case "flip":
            until = at + 1
            put = bytes(each ^ (1 << choose.number(0, 7)) for each in here[:1])
        case "bytes":
            put = choose.some_bytes(16)
        case "number":
            number, size = choose.one(NUMBERS), choose.one((1, 2, 4, 8))
            put = (number % (1 << 8 * size)).to_bytes(size, "big" if choose.number(0, 1) else "little")
            until = at + size
        case "cut":
            until = len(content)
        case "twice":
            put = here * choose.one((2, 3, 10, 200))
        case "other":
            other = choose.one(corpus)
            start = choose.number(0, FAR) % (len(other) + 1)
            put = other[start : start + choose.one((4, 64, 1024, 1 << 20))]
        case "text":
            put = choose.one((*TEXTS, *TOKENS)).encode(errors="surrogatepass")
    return content[:at] + put + content[until:]


def in_json(choose: Choices, content: bytes, corpus: Sequence[bytes]) -> bytes:
    """One step in the tree of values; what is no JSON any more is spoiled by bytes."""
    value = _parsed(content)
    if value is None or choose.number(0, 9) == 0:
        return in_bytes(choose, content, corpus)
    return _text_of(_spoil_tree(choose, value)).encode(errors="surrogatepass")


def _parsed(content: bytes) -> Any:
    if len(content) > LARGE_BYTES:
        return None
    try:
        return json.loads(content, object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return None


def _spoil_tree(choose: Choices, value: Any) -> Any:
    root = [value]
    slots = _slots(root)
    container, index = slots[choose.number(0, FAR) % len(slots)]
    here = container[index][1] if isinstance(container, Pairs) else container[index]
    match choose.one(("inside", "inside", "token", "text", "number", "out", "twice", "key", "other", "wide")):
        case "inside":
            _put(container, index, _inside(choose, here))
        case "text":
            _put(container, index, choose.one(TEXTS))
        case "number":
            _put(container, index, choose.one(NUMBERS) * choose.one((1, -1, 10**30)))
        case "out" if container is not root:
            del container[index]
        case "twice" if container is not root:
            container.append(container[index])
        case "key" if isinstance(container, Pairs):
            keys = [each[0] for each, _ in ((c[i], i) for c, i in slots if isinstance(c, Pairs))]
            old = container[index][0]
            named = choose.one((old.upper(), old.lower(), old.swapcase(), *keys[:50], *TEXTS))
            container[index] = (named, here)
        case "other":
            other, at = slots[choose.number(0, FAR) % len(slots)]
            _put(container, index, Token(_text_of(other[at][1] if isinstance(other, Pairs) else other[at])))
        case "wide":
            text = _text_of(here)
            many = min(choose.one((2, 30, 600)), 1 + WIDE_BYTES // (1 + len(text)))
            _put(container, index, Token(f"[{','.join([text] * many)}]"))
        case _:
            _put(container, index, Token(choose.one(TOKENS)))
    return root[0]


def _inside(choose: Choices, here: Any) -> Any:
    """A document in a string, a string's characters, or a number near by."""
    if isinstance(here, bool) or here is None:
        return not here
    if isinstance(here, int):
        return here + choose.one((1, -1, 1 << 20))
    if not isinstance(here, str):
        return Token(choose.one(TOKENS))
    try:
        packed = base64.b64decode(here, validate=True)
    except (binascii.Error, ValueError):
        packed = b""
    if packed[:1] in (b"{", b"["):
        return base64.b64encode(in_json(choose, packed, (packed,))).decode()
    at = choose.number(0, 300) % (len(here) + 1)
    return here[:at] + choose.one(TEXTS) + here[at + choose.number(0, 2) :]


def _slots(root: list[Any]) -> list[tuple[Any, int]]:
    found: list[tuple[Any, int]] = []
    left: list[Any] = [root]
    while left and len(found) < MOST_SLOTS:
        container = left.pop()
        for index, each in enumerate(container):
            found.append((container, index))
            value = each[1] if isinstance(container, Pairs) else each
            if isinstance(value, list):
                left.append(value)
    return found


def _put(container: Any, index: int, value: Any) -> None:
    container[index] = (container[index][0], value) if isinstance(container, Pairs) else value


def _text_of(value: Any) -> str:
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{_text_of(each)}" for key, each in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text_of, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=len(value) % 2 == 0)
    return json.dumps(value)


def in_lines(choose: Choices, content: bytes, corpus: Sequence[bytes]) -> bytes:
    """A document of JSON lines."""
    lines = content.split(b"\n")
    at = choose.number(0, FAR) % len(lines)
    match choose.one(("json", "json", "json", "out", "twice", "swap", "bytes")):
        case "json":
            lines[at] = in_json(choose, lines[at], corpus)
        case "out":
            del lines[at]
        case "twice":
            lines[at:at] = [lines[at]] * choose.one((1, 50))
        case "swap":
            other = choose.number(0, FAR) % len(lines)
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            return in_bytes(choose, content, corpus)
    return b"\n".join(lines)


def unpacked(content: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """What is in a stream of zstd or gzip, and how to pack it again; of anything else itself."""
    try:
        if content.startswith(b"\x28\xb5\x2f\xfd"):
            with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True) as reader:
                return reader.read(8 * MOST_BYTES), zstandard.ZstdCompressor(1, write_content_size=False).compress
        if content.startswith(b"\x1f\x8b"):
            return gzip.decompress(content)[: 8 * MOST_BYTES], lambda inner: gzip.compress(inner, 1, mtime=0)
    except (zstandard.ZstdError, EOFError, OSError, zlib.error):
        pass
    return content, lambda inner: inner


def packed(inside: Spoil) -> Spoil:
    """Mostly what is inside is spoiled, now and then the stream."""

    def spoil(choose: Choices, content: bytes, corpus: Sequence[bytes]) -> bytes:
        if choose.number(0, 4) == 0:
            return in_bytes(choose, content, corpus)
        inner, pack = unpacked(content)
        return pack(inside(choose, inner, [unpacked(choose.one(corpus))[0]]))

    return spoil


def behind(head_bytes: int, spoil: Spoil) -> Spoil:
    """Before the document some bytes that choose what is done with it."""

    def both(choose: Choices, content: bytes, corpus: Sequence[bytes]) -> bytes:
        if choose.number(0, 3) == 0:
            return bytes(choose.number(0, 255) for _ in range(head_bytes)) + content[head_bytes:]
        return content[:head_bytes] + spoil(choose, content[head_bytes:], [each[head_bytes:] for each in corpus])

    return both
