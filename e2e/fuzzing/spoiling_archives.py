"""Ways to spoil an archive between its entries, and in a header whose checksum stays right."""

import tarfile
from collections.abc import Sequence

from e2e.fuzzing.spoiling import Choices, in_bytes

FIELDS = (
    (0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 6), (263, 2), (345, 155),
)  # fmt: skip
"""Of a header: where each starts, and its bytes."""
KINDS = tuple(each.encode() for each in "0\x001234567gxXLKSDMVz")
SIZES = (0, 1, 511, 512, 513, 65535, 1 << 20, 1 << 33, 8**11 - 1)
NAMES = (
    b"article/s0/evil", b"article/s0/version", b"article/s0/../../../x", b"/tmp/x", b"article/s0/lsm", b"other/s0/a",
    b"article/s0/lsm/objects/segment-1.db", b"article//a", b"article/s0/" + b"a/" * 40 + b"b", b"",
    b"article/s0/\xff\xfe", b"article/s0/\x1b[2J",
)  # fmt: skip
RECORDS = (
    "WEAVIATE.fileOffset", "size", "path", "linkpath", "mtime", "hdrcharset", "k",
    "GNU.sparse.map", "GNU.sparse.major", "GNU.sparse.size",
)  # fmt: skip
VALUES = (
    "0", "1", "-1", "x", "512", "99999999999999999999", "1e5", "article/s0/evil", "../x", "BINARY", "0,1,2,3", "",
)  # fmt: skip


def in_archive(choose: Choices, content: bytes, corpus: Sequence[bytes]) -> bytes:
    """One step that leaves headers with a right checksum."""
    headers = [at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"]
    at = choose.one(headers) if headers else 0
    match choose.one(("field", "field", "field", "entry", "entry", "out", "twice", "swap", "bytes")):
        case "field" if headers:
            start, size = choose.one(FIELDS)
            return content[:at] + _summed(_field(choose, content[at : at + 512], start, size)) + content[at + 512 :]
        case "entry":
            made = b"".join(_entry(choose) for _ in range(choose.one((1, 2, 6))))
            return content[:at] + made + content[at:]
        case "out":
            return content[:at] + content[at + 512 * choose.number(1, 4) :]
        case "twice":
            end = at + 512 * choose.number(1, 6)
            return content[:end] + content[at:end] * choose.one((1, 2, 3, 3, 120)) + content[end:]
        case "swap" if headers:
            other = choose.one(headers)
            return content[:at] + content[other : other + 512] + content[at + 512 :]
        case _:
            return in_bytes(choose, content, corpus)


def _field(choose: Choices, header: bytes, start: int, size: int) -> bytes:
    match size:
        case 1:
            value = choose.one(KINDS)
        case 8 | 12:
            number = choose.one((*SIZES, -1, 2**63, 2**80))
            octal = b"%0*o\0" % (size - 1, number) if 0 <= number < 8 ** (size - 1) else b""
            binary = (b"\xff" if number < 0 else b"\x80") + (number % 256 ** (size - 1)).to_bytes(size - 1, "big")
            value = choose.one((octal or binary, binary, b"x" * size))
        case _:
            value = choose.one(NAMES)
    return header[:start] + value[:size].ljust(size, b"\0") + header[start + size :]


def _entry(choose: Choices) -> bytes:
    info = tarfile.TarInfo()
    kind = choose.one(KINDS)
    body = b""
    if kind in (b"x", b"X", b"g"):
        records = [(choose.one(RECORDS), choose.one(VALUES)) for _ in range(choose.number(1, 3))]
        body = b"".join(_record(key, value) for key, value in records)
    elif kind in (b"L", b"K"):
        body = choose.one(NAMES) + b"\0"
    elif choose.number(0, 1):
        body = bytes(choose.one((1, 512, 5000)))
    info.type, info.size = kind, choose.one((len(body), len(body), len(body), *SIZES))
    header = info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
    name = choose.one(NAMES)
    return _summed(name[:100].ljust(100, b"\0") + header[100:512]) + body + bytes(-len(body) % 512)


def _record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def _summed(header: bytes) -> bytes:
    blank = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]
