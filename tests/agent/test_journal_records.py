"""Records of every kind as agents write them, and what is believed of others: a journal lies where Weaviate writes."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.places import place_of

from weaviate_backup.agent.fates import fates, frozen_of
from weaviate_backup.agent.journal import (
    FIELDS,
    JOURNAL,
    Journal,
    Record,
    cuts_left_over,
    read_records,
)
from weaviate_backup.core.session import Frozen
from weaviate_backup.errors import Permanent

AT = "2026-05-01T10:00:00Z"
SHARD: Record = {"collection": "Article", "shard": "s"}
CUT: Record = {"driver": "d", "halt_seconds": 0.5, "object_count": None, "bytes": 1, "files": 1}
RIGHT: dict[str, Record] = {
    "session": {"order": {"lease_seconds": 9}},
    "cutting": SHARD,
    "shard": {**SHARD, **CUT, "started_at": AT, "ended_at": AT},
    "gone": {**SHARD, "at": AT},
    "offloaded": {**SHARD, "at": AT},
    "surveyed": {"result": {}},
    "schema": {"result": {}},
    "frozen": {"result": {}},
    "chunk": {"collection": "Article", "number": 1, "record": {}},
    "uploaded": {"result": {}},
    "fetched": {"boot": "", "key": "b/n/Article/chunk-1", "only": None},
    "brought": {"collection": "Article", "files": 4, "bytes": 7},
    "unnamed": {"collection": "Article", "shards": ["t"]},
    "placed-shards": {"collection": "Article", "shards": {"t": 5}, "late": {}},
    "placed": {"collection": "Article", "inode": 1, "data_inode": 2, "shards": {"s": 3}, "files": 4},
    "applying": {"collection": "Article"},
    "applied": {"collection": "Article", "index": 7},
    "replaying": SHARD,
    "replayed": SHARD,
}
"""As this version writes them, and all before it did."""


def records_of(path: Path, *records: Record) -> list[Record]:
    """Those that are believed of a journal that holds them and one more."""
    last = {"kind": "all-placed", "collections": []}
    path.write_text("".join(json.dumps(each) + "\n" for each in (*records, last)))
    return list(read_records(place_of(path.parent) / path.name))


def test_every_kind_that_has_fields_is_written_somewhere() -> None:
    assert FIELDS.keys() == RIGHT.keys()


@pytest.mark.parametrize("kind", RIGHT)
def test_a_record_as_agents_write_it_is_believed(tmp_path: Path, kind: str) -> None:
    record = {"kind": kind, **RIGHT[kind]}
    assert records_of(tmp_path / JOURNAL, record)[:-1] == [record]
    more = {**record, "of a later version": True}
    assert records_of(tmp_path / JOURNAL, more)[:-1] == [more]


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, fields in RIGHT.items() for field in fields])
def test_one_without_a_field_or_with_another_thing_in_it_ends_the_journal(
    tmp_path: Path, kind: str, field: str
) -> None:
    record = {"kind": kind, **RIGHT[kind]}
    another_thing: Any = "x" if isinstance(record[field], list) else [1]
    assert records_of(tmp_path / JOURNAL, {**record, field: another_thing}) == []
    del record[field]
    assert records_of(tmp_path / JOURNAL, record) == []


@pytest.mark.parametrize("field", ["collection", "shard"])
def test_a_name_that_would_lead_elsewhere_is_not_believed(tmp_path: Path, field: str) -> None:
    assert records_of(tmp_path / JOURNAL, {"kind": "cutting", **SHARD, field: "../x"}) == []


HALF = "\ud800"
"""Of a character: JSON can spell it, no file name and no document can hold it."""


def test_what_is_no_text_is_neither_believed_nor_written(tmp_path: Path) -> None:
    record = {"kind": "shard", **RIGHT["shard"], "driver": f"d{HALF}"}
    assert records_of(tmp_path / JOURNAL, record) == []
    with pytest.raises(Permanent, match="RecordUnreadable: the journal's record 'shard' could not be read back"):
        Journal(None).append(**record)
    whole = record | {"driver": "\U0001f600"}
    assert records_of(tmp_path / JOURNAL, whole)[:-1] == [whole]
    Journal(None).append(**whole)


def of(*kinds_and_shards: tuple[str, str]) -> list[Record]:
    return [{"kind": kind, "collection": "Article", "shard": shard} for kind, shard in kinds_and_shards]


def test_cuts_are_left_over_that_began_and_did_not_end() -> None:
    records = of(("cutting", "b"), ("cutting", "a"), ("cutting", "c"), ("shard", "b"), ("replayed", "a"))
    assert cuts_left_over(records) == [("Article", "a"), ("Article", "c")]
    assert cuts_left_over([*records, *of(("cutting", "b"))])[1] == ("Article", "b"), "it was cut again"


def test_the_last_record_of_a_shard_says_what_became_of_it() -> None:
    journal = Journal(None)
    for kind, shard in (("shard", "b"), ("shard", "a"), ("gone", "a"), ("gone", "c"), ("shard", "c"), ("cutting", "b")):
        journal.append(kind, **{**RIGHT[kind], "shard": shard})
    kinds = {shard: fate.kind for shard, fate in fates(journal)["Article"].items()}
    assert list(kinds.items()) == [("a", "gone"), ("b", "shard"), ("c", "shard")]
    assert list(frozen_of(fates(journal))["Article"]) == ["b", "c"]
    journal.append("thawed")
    journal.append("shard", **{**RIGHT["shard"], "shard": "z"})
    assert list(fates(journal)["Article"]) == ["z"]


@pytest.mark.parametrize("result", [{}, {"collections": 7}])
def test_a_result_that_is_none_is_not_taken_for_one(result: dict[str, Any]) -> None:
    journal = Journal(None)
    assert journal.result("frozen", Frozen) is None
    journal.append("frozen", result=result)
    with pytest.raises(Permanent, match="JournalDamaged: the journal's record 'frozen' is none of ours"):
        journal.result("frozen", Frozen)
