"""Readers of what lies on the data volume, where Weaviate, or who took it over, writes too; and of what is said of
collections in any place."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from e2e.fuzzing import own_seeds
from e2e.fuzzing.judging import Broken, Format, Reading
from e2e.fuzzing.spoiling import Choices, behind, in_bytes, in_json, in_lines
from e2e.fuzzing.stock_seeds import seeds
from e2e.fuzzing.stored_formats import BOUNDS, same
from tests.agent.foreign_backup import COLLECTION, NODES
from tests.places import place_of

from weaviate_backup.agent.brought import Brought
from weaviate_backup.agent.chunk_sender import sent_of, stored_record
from weaviate_backup.agent.describing import believed, shard_records
from weaviate_backup.agent.fates import fates, records_of
from weaviate_backup.agent.journal import (
    CUTS,
    JOURNAL,
    REPLAYS,
    Journal,
    cuts_left_over,
    read_records,
)
from weaviate_backup.agent.kept_documents import kept_document
from weaviate_backup.agent.placed_records import placed_of
from weaviate_backup.agent.sweep import OtherOperation
from weaviate_backup.core.session import Frozen, Uploaded
from weaviate_backup.layout import definitions, go_json, sharding_state
from weaviate_backup.layout.compression import CompressionType
from weaviate_backup.layout.manifests import ChunkLine, Line, NodeHeader, StoredDocument, encode_lines
from weaviate_backup.layout.module_addresses import addresses_of
from weaviate_backup.weaviate.commit_log import end_at_instant
from weaviate_backup.weaviate.late_writes import LATE_WRITES, MAGIC, Write, batches, encode, final_writes, read_writes

HEADER = NodeHeader(
    operation_uid="u",
    tool_version="0",
    backup_id="b",
    node="n0",
    server_version="1.39.1",
    compression_type=CompressionType.ZSTD,
    collections=(COLLECTION,),
    descriptor=StoredDocument.of(b""),
)


def _journal(directory: Path, _: Path | None) -> Reading:
    frozen = Frozen(collections=(COLLECTION,), shards=1, bytes_total=5, files_total=1, longest_halt_seconds=0.1)
    uploaded = Uploaded(manifest_sha256="ab" * 32, objects=3, bytes_stored=10)
    at = own_seeds.AT.isoformat()
    shard: dict[str, Any] = {"collection": COLLECTION, "shard": "s0"}
    chunk = {
        "number": 1,
        "stored_bytes": 10,
        "sha256": "ab" * 32,
        "parts": [{"path": "article/s0/a", "offset": 0, "length_bytes": 5, "sha256": "cd" * 32}],
    }
    with Journal(place_of(directory) / "seed" / JOURNAL) as journal:
        journal.append("session", order={"lease_seconds": 300})
        journal.append("cutting", **shard)
        cut: dict[str, Any] = {"driver": "d", "halt_seconds": 0.1, "object_count": 3, "bytes": 5, "files": 1}
        journal.append("shard", **shard, **cut, started_at=at, ended_at=at)
        journal.append("gone", collection=COLLECTION, shard="s1", at=at)
        journal.append("frozen", result=frozen.model_dump(mode="json"))
        journal.append("chunk", collection=COLLECTION, number=1, record=chunk)
        journal.append("uploaded", result=uploaded.model_dump(mode="json"))
        journal.append("fetched", boot="b", key="k", only=None)
        journal.append("brought", collection=COLLECTION, files=4, bytes=5)
        journal.append("unnamed", collection=COLLECTION, shards=["s1"])
        journal.append("downloaded", collections=[COLLECTION], counted=True)
        journal.append("placed-shards", collection=COLLECTION, shards={"s2": 3}, late={})
        journal.append(
            "placed", collection=COLLECTION, inode=1, data_inode=2, shards={"s0": 3}, files=4, earlier_records=1
        )
        journal.append("applied", collection=COLLECTION, index=7)

    def read(content: bytes, private: Path) -> None:
        path = private / JOURNAL
        path.write_bytes(content)
        place = place_of(private) / JOURNAL
        records = list(read_records(place))
        assert OtherOperation.told_by("uid", place).lease_seconds > 0
        with Journal(place) as journal:
            if not content.startswith(path.read_bytes()):
                raise Broken("a journal that is gone on with is no beginning of what was there")
            same(list(journal.of(*{each["kind"] for each in records})), records, "a journal as it is gone on with")
            journal.append("confirmed")
        same(list(read_records(place)), [*records, {"kind": "confirmed"}], "a journal")
        with Journal(place) as journal:
            _use(journal)

    return Reading([(directory / "seed" / JOURNAL).read_bytes()], read)


def _use(journal: Journal) -> None:
    """As the steps do that go on with it."""
    cuts_left_over(journal.of(*CUTS))
    list(journal.of(*REPLAYS))
    placed_of(journal)
    Brought.told_by(journal)
    journal.result("frozen", Frozen)
    journal.result("uploaded", Uploaded)
    lines: list[Line] = [HEADER, *shard_records(records_of(journal, fates(journal)))]
    for (collection, _), at in sent_of(journal).items():
        with believed("chunk"):
            lines.append(ChunkLine.of(collection, stored_record(journal, at)))
    b"".join(encode_lines(lines))


def _late_writes(_: Path, stock: Path | None) -> Reading:
    writes = [Write(UUID(int=number % 3), number, b"o" * (7 * (number % 4))) for number in range(8)]

    def read(content: bytes, private: Path) -> None:
        (private / LATE_WRITES).write_bytes(content)
        place = place_of(private) / LATE_WRITES
        found = list(read_writes(place))
        same(MAGIC + b"".join(encode(each) for each in found), content, "a file of writes")
        last = {each.uuid: each for each in found}
        same({each.uuid: each for each in final_writes(place)}, last, "last writes")
        same([each for batch in batches(found) for each in batch], found, "writes in batches")

    return Reading([MAGIC + b"".join(map(encode, writes)), MAGIC], read)


SELECTORS = struct.Struct("<HH")


def _commit_log(_: Path, stock: Path | None) -> Reading:
    """A case begins with the length at the instant and the next document."""
    entries = [struct.pack("<BQH", 0, number, 1) for number in range(6)]
    entries += [
        struct.pack("<BQHQ", 2, 1, 0, 2),
        struct.pack("<BQHHQQ", 3, 1, 0, 2, 3, 4),
        struct.pack("<BQ", 4, 3),
        b"\x08",
    ]
    entries += [struct.pack("<BIIII", 14, 4, 8, 2, 1) + bytes(12), struct.pack("<BIII", 15, 4, 2, 1) + bytes(20)]
    log = b"".join(entries)
    logs = [log, log[::-1], *seeds(stock, "data/**/main.hnsw.commitlog.d/*")]
    corpus = [SELECTORS.pack(min(len(each) // 2, 65535), 3) + each for each in logs]

    def read(content: bytes, private: Path) -> None:
        if len(content) < SELECTORS.size:
            return
        length, next_document = SELECTORS.unpack_from(content)
        before = content[SELECTORS.size :]
        path = private / "1"
        path.write_bytes(before)
        place = place_of(private) / "1"
        try:
            end_at_instant(place, length, next_document)
        except BaseException:
            same(path.read_bytes(), before, "a log that was refused")
            raise
        after = path.read_bytes()
        if len(after) > len(before):
            raise Broken("a log became longer")
        end_at_instant(place, len(after), next_document)
        same(path.read_bytes(), after, "a log that was cut already")

    return Reading(corpus, read)


def _sharding_state(_: Path, stock: Path | None) -> Reading:
    def read(content: bytes, _: Path) -> None:
        state = go_json.parse_for_go(content, go_json.SHARDING_STATE, bounds=BOUNDS, what="the state")
        if not isinstance(state, dict):
            return
        sharding_state.refuse_odd_names(state, "the state")
        physical = state.get("physical") or {}
        held = {node: set(physical) for node in NODES}
        kept = sharding_state.as_cut(state, held, {node: dict.fromkeys(physical, "HOT") for node in NODES})
        if not kept["physical"].keys() <= physical.keys():
            raise Broken("a shard came from nowhere")
        assert all(isinstance(node, str) for each in physical.values() for node in sharding_state.nodes_of(each))
        definitions.other_shards(state, own_seeds.STATE)

    return Reading([own_seeds.state()], read)


def _definition(_: Path, stock: Path | None) -> Reading:
    def read(content: bytes, _: Path) -> None:
        found = go_json.parse_for_go(content, go_json.CLASS, bounds=BOUNDS, what="the schema")
        if not isinstance(found, dict):
            return
        addresses_of(found)
        definitions.contradiction(found, found)
        definitions.contradiction(found, own_seeds.CLASS)

    return Reading([own_seeds.definition()], read)


def _kept_document(_: Path, stock: Path | None) -> Reading:
    document = {"class": own_seeds.CLASS, "state": own_seeds.STATE, "aliases": {"News": COLLECTION}, "version": 3}

    def read(content: bytes, private: Path) -> None:
        (private / "kept").write_bytes(content)
        found = kept_document(place_of(private) / "kept", {"class": dict, "state": dict, "version": int})
        same(found, json.loads(content.decode()), "what was kept")

    return Reading([json.dumps(document).encode()], read)


def _in_log(choose: Choices, content: bytes, corpus: Sequence[bytes]) -> bytes:
    """Entries of all kinds, some of them cut."""
    if choose.number(0, 1):
        return in_bytes(choose, content, corpus)
    at = choose.number(0, 400) % (len(content) + 1)
    kind = choose.number(0, 16)
    numbers = struct.pack("<QHHII", *(choose.one((0, 1, 2, 7, 300, 65535)) for _ in range(5)))
    return content[:at] + bytes([kind]) + numbers[: choose.number(0, 20)] + content[at:]


FORMATS = (
    Format("journal", _journal, in_lines),
    Format("late-writes", _late_writes, in_bytes),
    Format("commit-log", _commit_log, behind(SELECTORS.size, _in_log), transient=True),
    Format("sharding-state", _sharding_state, in_json),
    Format("definition", _definition, in_json),
    Format("kept-document", _kept_document, in_json),
)
