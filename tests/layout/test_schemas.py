"""What all nodes freeze by comes back as it was, collection by collection; what is no list of schemas is refused."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.json_bounds import JsonBounds
from weaviate_backup.layout.schemas import encode_schema, read_schemas

BOUNDS = JsonBounds(1000, 280)
LARGE = (1 << 64) - 1


def test_schemas_of_all_collections_follow_each_other() -> None:
    one: dict[str, Any] = {"class": {"class": "A"}, "state": {"upper": LARGE}, "aliases": {"B": "A"}, "version": 7}
    other: dict[str, Any] = {"class": {}, "state": {}, "aliases": {}, "version": 0}
    content = encode_schema("A", {**one, "later": 1}) + encode_schema("C", other)
    assert list(read_schemas(io.BytesIO(content), what="it", bounds=BOUNDS)) == [("A", one), ("C", other)]
    assert list(read_schemas(io.BytesIO(), what="it", bounds=BOUNDS)) == []


def test_a_line_is_no_longer_than_it_must_be() -> None:
    """A hundred thousand tenants have long ones."""
    schema = {"class": {}, "state": {"t": [1, 2]}, "aliases": {}, "version": 1}
    unpacked = zstandard.ZstdDecompressor().decompress(encode_schema("A", schema))
    assert unpacked == json.dumps({"collection": "A", **schema}).replace(" ", "").encode() + b"\n"


def packed(line: str) -> bytes:
    return zstandard.ZstdCompressor().compress(line.encode() + b"\n")


def refused_lists() -> Iterator[tuple[bytes, str]]:
    schema: dict[str, Any] = {"class": {}, "state": {}, "aliases": {}, "version": 1}
    whole = encode_schema("A", schema)
    for name, wrong in (("class", None), ("state", []), ("aliases", "x"), ("version", "x")):
        yield (
            encode_schema("A", {**schema, name: wrong}),
            "HostileBackup: it is no list of schemas: a line without a s",
        )
    for line in ("[]", "{}", '{"collection": 1}', '"A"'):
        yield packed(line), "HostileBackup: it is no list of schemas: a line without a collection"
    yield encode_schema("../A", schema), "UnsafeName: .*a collection of it"
    yield b"no frame", "HostileBackup: it is no list of schemas"
    yield whole[:-3], "HostileBackup: it is no list of schemas"
    yield packed("{"), "HostileBackup: it is no list of schemas"
    yield packed("[" * 200 + "]" * 200), "HostileBackup: it is no list of schemas: more than 128 levels"
    large = "DocumentTooLarge: a line of it is larger than memory allows: .*limits.memory"
    yield encode_schema("A", {**schema, "state": {"x": "y" * 2000}}), large
    yield encode_schema("A", {**schema, "state": {"x": [1] * 300}}), large


@pytest.mark.parametrize(("content", "refusal"), list(refused_lists()))
def test_what_is_no_list_of_schemas_is_refused(content: bytes, refusal: str) -> None:
    with pytest.raises(Permanent, match=refusal):
        list(read_schemas(io.BytesIO(content), what="it", bounds=BOUNDS))
