"""Chunks come back as they were written, in every compression, whole and split; what is hostile is refused by name."""

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weaviate_backup.errors import Permanent
from weaviate_backup.layout import packing
from weaviate_backup.layout.chunk_reader import checked_path, read_chunk
from weaviate_backup.layout.chunk_writer import OFFSET_RECORD, ChunkWriter
from weaviate_backup.layout.compression import BLOCK_BYTES, LEVELS, CompressionType, compress, gathered
from weaviate_backup.layout.packing import ChunkPart, PlannedChunk, SourceFile, pack, survey


def opener(contents: Mapping[str, bytes]) -> "Opener":
    return Opener(contents)


class Opener:
    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self.contents = contents

    def __call__(self, part: ChunkPart) -> BinaryIO:
        return io.BytesIO(self.contents[part.path])


def write(chunk: PlannedChunk, contents: Mapping[str, bytes], level: str) -> tuple[bytes, ChunkWriter]:
    writer = ChunkWriter(chunk, open_source=opener(contents), level=level)
    return b"".join(writer.blocks()), writer


def plan(contents: Mapping[str, bytes], *, target_bytes: int, split_bytes: int | None) -> tuple[PlannedChunk, ...]:
    by_shard: dict[str, list[SourceFile]] = {}
    for path, content in contents.items():
        by_shard.setdefault(path.split("/")[1], []).append(SourceFile(path, len(content)))
    return tuple(pack("Article", sorted(by_shard.items()), target_bytes=target_bytes, split_bytes=split_bytes))


names = st.text("abz09-_.", min_size=1, max_size=150).filter(lambda name: name.strip("."))
paths = st.builds(
    lambda shard, folders, name: "/".join(("article", shard, *folders, name)),
    st.text("ABab01-_", min_size=1, max_size=12),
    st.lists(names, max_size=3),
    names,
)


@settings(max_examples=60, deadline=None)
@given(
    contents=st.dictionaries(paths, st.binary(max_size=3000), min_size=1, max_size=12),
    target_bytes=st.integers(1, 4000),
    split_bytes=st.one_of(st.none(), st.integers(1, 1500)),
    level=st.sampled_from(sorted(LEVELS)),
)
def test_round_trip(contents: dict[str, bytes], target_bytes: int, split_bytes: int | None, level: str) -> None:
    restored: dict[str, bytearray] = {path: bytearray(len(content)) for path, content in contents.items()}
    seen_bytes = dict.fromkeys(contents, 0)
    chunks = plan(contents, target_bytes=target_bytes, split_bytes=split_bytes)
    assert [chunk.number for chunk in chunks] == list(range(1, len(chunks) + 1))
    for chunk in chunks:
        stored, writer = write(chunk, contents, level)
        assert writer.record.sha256 == hashlib.sha256(stored).hexdigest()
        assert writer.record.stored_bytes == len(stored)
        stream = io.BytesIO(stored)
        for entry, part in zip(
            read_chunk(stream, compression=LEVELS[level].type, collection="Article"), writer.record.parts, strict=True
        ):
            block = b"".join(entry.blocks)
            assert (entry.path, entry.offset, len(block)) == (part.path, part.offset, part.length_bytes)
            assert hashlib.sha256(block).hexdigest() == part.sha256
            restored[entry.path][entry.offset : entry.offset + len(block)] = block
            seen_bytes[entry.path] += len(block)
        assert stream.read() == b""
    assert restored == contents
    assert seen_bytes == {path: len(content) for path, content in contents.items()}


def test_a_second_run_starts_from_zero() -> None:
    contents = {"article/s/a": b"x" * 5000}
    (chunk,) = plan(contents, target_bytes=10_000, split_bytes=None)
    writer = ChunkWriter(chunk, open_source=opener(contents), level="ZstdBestSpeed")
    next(writer.blocks())
    first = b"".join(writer.blocks())
    assert b"".join(writer.blocks()) == first
    assert len(writer.record.parts) == 1


@pytest.mark.parametrize("level", sorted(LEVELS))
def test_a_chunk_is_no_larger_than_was_foretold(level: str) -> None:
    """Neither many tiny files with long names, nor what cannot be compressed."""
    tiny = {f"article/s{number}/{'n' * 240}/{'m' * 240}-{number}": b"x" for number in range(50)}
    for contents in (tiny, {"article/s/a": random.Random(1).randbytes(3 << 20)}, {"article/s/a": b""}):
        (chunk,) = plan(contents, target_bytes=1 << 40, split_bytes=None)
        stored, _ = write(chunk, contents, level)
        assert len(stored) <= chunk.at_most_bytes <= chunk.source_bytes * 1.02 + (len(contents) + 1) * (17 << 10)


def test_shards_start_with_the_three_files_weaviate_expects() -> None:
    contents = {f"article/s/{name}": b"1" for name in ("lsm/a", "version", "aaa", "proplengths", "indexcount")}
    (chunk,) = plan(contents, target_bytes=10_000, split_bytes=None)
    assert [part.path.rsplit("/", 1)[1] for part in chunk.parts] == [
        "indexcount",
        "proplengths",
        "version",
        "aaa",
        "a",
    ]


def test_big_files_stand_alone_and_small_shards_share() -> None:
    contents = {f"article/t{number}/version": b"1" * 10 for number in range(10)} | {"article/t3/big": b"2" * 20_000}
    chunks = plan(contents, target_bytes=20_000, split_bytes=None)
    assert [len(chunk.parts) for chunk in chunks] == [10, 1]
    assert chunks[0].shards == tuple(f"t{number}" for number in range(10))


def test_tiny_files_fill_chunks_by_their_framing() -> None:
    contents = {f"article/t{number:03}/version": b"" for number in range(100)}
    chunks = plan(contents, target_bytes=10 * 512, split_bytes=None)
    assert [len(chunk.parts) for chunk in chunks] == [10] * 10


def test_a_chunk_has_no_more_files_than_memory_should_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "FILES_OF_CHUNK", 40)
    contents = {f"article/t{number:03}/version": b"" for number in range(100)}
    chunks = plan(contents, target_bytes=1 << 30, split_bytes=None)
    assert [(chunk.number, len(chunk.parts)) for chunk in chunks] == [(1, 40), (2, 40), (3, 20)]
    assert [part.path for chunk in chunks for part in chunk.parts] == sorted(contents)


def test_shards_are_read_as_chunks_are_needed() -> None:
    read: list[str] = []

    def shards() -> Iterator[tuple[str, list[SourceFile]]]:
        for number in range(5):
            read.append(f"t{number}")
            yield f"t{number}", [SourceFile(f"article/t{number}/{name}", 10) for name in ("version", "a", "b")]

    chunks = pack("Article", shards(), target_bytes=3 * 1024)
    assert next(chunks).shards == ("t0",)
    assert read == ["t0", "t1"]


def test_one_packing_is_told_from_another_by_what_lies_where() -> None:
    contents = {f"article/t{number}/version": b"1" * 600 for number in range(4)}
    found = {
        survey(plan(changed, target_bytes=target_bytes, split_bytes=None)).digest
        for target_bytes in (1024, 4096)
        for changed in (contents, {**contents, "article/t3/version": b"1"}, {**contents, "article/t4/version": b""})
    }
    assert len(found) == 6
    found_once = survey(plan(contents, target_bytes=4096, split_bytes=None))
    assert (found_once.chunks, found_once.parts, found_once.bytes_total) == (2, 4, 2400)
    assert found_once.shards_of_chunks == {"Article": {"1": ("t0", "t1"), "2": ("t2", "t3")}}
    assert found_once.bytes_of_collections == {"Article": 2400}


def test_split_parts_carry_weaviates_record_and_whole_files_do_not() -> None:
    contents = {"article/s/big": bytes(range(256)) * 10, "article/s/small": b"1"}
    offsets = []
    for chunk in plan(contents, target_bytes=100, split_bytes=1000):
        stored, _ = write(chunk, contents, "NoCompression")
        with tarfile.open(fileobj=io.BytesIO(stored)) as archive:
            offsets += [(info.name, info.pax_headers.get(OFFSET_RECORD)) for info in archive]
    assert offsets == [
        ("article/s/small", None),
        ("article/s/big", "0"),
        ("article/s/big", "854"),
        ("article/s/big", "1708"),
    ]


@pytest.mark.parametrize("actual", [b"short", b"longer than was planned"])
def test_a_file_that_changed_is_refused(actual: bytes) -> None:
    chunk = PlannedChunk("Article", 1, (ChunkPart("s", "article/s/a", 0, 10, 10, 0o644),))
    with pytest.raises(Permanent, match="SourceChanged: article/s/a"):
        write(chunk, {"article/s/a": actual}, "NoCompression")


@pytest.mark.parametrize(
    "name",
    [
        "/article/s/a",
        "article/../s/a",
        "article/s/../../x",
        "other/s/a",
        "article/s",
        "article//a/b",
        "",
        "article/s/a\\b",
        "article/s/a\0b",
        "article/s/a\nb",
        "article/s/\x1b[2J",
        "article/s/\udcff",
        f"article/s/{'a/' * 30}b",
        f"article/s/{'a' * 4096}",
    ],
)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(Permanent, match="HostileBackup"):
        checked_path(name, "Article")


def archive_of(info: tarfile.TarInfo, content: bytes = b"") -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(info, io.BytesIO(content))
    return io.BytesIO(buffer.getvalue())


def read_all(stream: BinaryIO, compression: CompressionType, limit_bytes: int | None = None) -> None:
    for entry in read_chunk(stream, compression=compression, collection="Article", limit_bytes=limit_bytes):
        for _ in entry.blocks:
            pass


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_entries_that_are_no_files_are_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("article/s/a")
    info.type = kind
    info.linkname = "/etc/passwd"
    with pytest.raises(Permanent, match="HostileBackup"):
        read_all(archive_of(info), CompressionType.NONE)


def test_a_file_of_less_than_nothing_is_refused() -> None:
    """A header says so in base 256, or a record before a header, which takes the place of the size in it."""
    info = tarfile.TarInfo("article/s/a")
    info.size = -512
    with pytest.raises(Permanent, match="HostileBackup: a chunk has an entry"):
        read_all(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT)), CompressionType.NONE)
    info.size, info.pax_headers = 0, {"size": "-512"}
    with pytest.raises(Permanent, match=r"BackupDamaged: .*a header's size is no number"):
        read_all(io.BytesIO(info.tobuf(tarfile.PAX_FORMAT)), CompressionType.NONE)


def test_a_stream_beyond_its_limit_is_refused_before_it_is_read() -> None:
    info = tarfile.TarInfo("article/s/a")
    info.size = 5000
    with pytest.raises(Permanent, match="HostileBackup"):
        read_all(archive_of(info, bytes(5000)), CompressionType.NONE, limit_bytes=4999)


TWO_FILES = {"article/s/a": b"x" * 600, "article/s/b": b"y" * 600}
SECOND_HEADER = 512 + 1024


def two_files() -> bytes:
    (chunk,) = plan(TWO_FILES, target_bytes=1 << 20, split_bytes=None)
    return write(chunk, TWO_FILES, "NoCompression")[0]


@pytest.mark.parametrize("at", [0, 100, SECOND_HEADER, SECOND_HEADER + 100, SECOND_HEADER + 512 + 1024])
@pytest.mark.parametrize("level", sorted(LEVELS))
def test_an_archive_without_its_end_mark_is_damaged(at: int, level: str) -> None:
    """A recompressed cut: no codec notices, and every file before the cut is whole."""
    stored = b"".join(compress([two_files()[:at]], LEVELS[level]))
    with pytest.raises(Permanent, match="BackupDamaged"):
        read_all(io.BytesIO(stored), LEVELS[level].type)


def test_a_damaged_header_is_no_end() -> None:
    broken = bytearray(two_files())
    broken[SECOND_HEADER + 10] ^= 1
    with pytest.raises(Permanent, match="BackupDamaged"):
        read_all(io.BytesIO(bytes(broken)), CompressionType.NONE)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_that_asks_for_memory_is_refused_before_it_is_read(kind: bytes) -> None:
    info = tarfile.TarInfo("article/s/a")
    info.type, info.size = kind, 1 << 40
    with pytest.raises(Permanent, match="HostileBackup"):
        read_all(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT)), CompressionType.NONE)


def test_blocks_are_gathered_to_a_mebibyte() -> None:
    """Each block is a call of a hash, a codec and a socket."""
    half = bytes(BLOCK_BYTES // 2)
    sizes = [len(block) for block in gathered([half, half, half, b"", half, b"1"])]
    assert sizes == [BLOCK_BYTES, BLOCK_BYTES, 1]
    assert list(gathered([b"", b""])) == []


def test_levels_mean_what_they_mean_to_the_server() -> None:
    assert {name: (level.type.value, level.effort) for name, level in LEVELS.items()} == {
        "DefaultCompression": ("gzip", 6),
        "BestSpeed": ("gzip", 1),
        "BestCompression": ("gzip", 9),
        "ZstdBestSpeed": ("zstd", 1),
        "ZstdDefaultCompression": ("zstd", 3),
        "ZstdBestCompression": ("zstd", 8),
        "NoCompression": ("none", 0),
    }


def test_gzip_compares_its_own_checksum() -> None:
    stored = bytearray(b"".join(compress([two_files()], LEVELS["BestSpeed"])))
    stored[-6] ^= 1
    with pytest.raises(Permanent, match="BackupDamaged"):
        read_all(io.BytesIO(bytes(stored)), CompressionType.GZIP)


def test_a_bomb_behind_the_end_is_refused() -> None:
    stored = b"".join(compress([two_files(), *[bytes(1 << 20)] * 20], LEVELS["ZstdBestSpeed"]))
    with pytest.raises(Permanent, match="HostileBackup"):
        read_all(io.BytesIO(stored), CompressionType.ZSTD)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_other_writers_are_read(form: int) -> None:
    name = "article/s/" + "/".join(["d" * 60, "f" * (90 if form == tarfile.USTAR_FORMAT else 200)])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        info = tarfile.TarInfo(name)
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    (entry,) = (
        (entry.path, b"".join(entry.blocks))
        for entry in read_chunk(io.BytesIO(buffer.getvalue()), compression=CompressionType.NONE, collection="Article")
    )
    assert entry == (name, b"hello")


@pytest.mark.parametrize("level", ["ZstdBestSpeed", "BestSpeed", "NoCompression"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damage_never_passes_for_a_whole_chunk(level: str, damage: str) -> None:
    """What framing cannot notice, the checksum of the stored stream does."""
    contents = {"article/s/a": bytes(range(256)) * 200}
    (chunk,) = plan(contents, target_bytes=1 << 20, split_bytes=None)
    stored, writer = write(chunk, contents, level)
    middle = len(stored) // 2
    broken = (
        stored[:middle] if damage == "cut" else stored[:middle] + bytes([stored[middle] ^ 1]) + stored[middle + 1 :]
    )
    assert hashlib.sha256(broken).hexdigest() != writer.record.sha256
    if damage == "cut":
        with pytest.raises(Permanent, match="BackupDamaged"):
            read_all(io.BytesIO(broken), LEVELS[level].type)


def test_concatenated_streams_are_read_as_one() -> None:
    contents = {"article/s/a": b"x" * 100_000}
    (chunk,) = plan(contents, target_bytes=1 << 20, split_bytes=None)
    plain, _ = write(chunk, contents, "NoCompression")
    half = PlannedChunk("Article", 1, ())
    for level in ("ZstdBestSpeed", "BestSpeed"):
        stored = b"".join(b"".join(compress([piece], LEVELS[level])) for piece in (plain[:3000], plain[3000:]))
        entries = [
            b"".join(entry.blocks)
            for entry in read_chunk(io.BytesIO(stored), compression=LEVELS[level].type, collection=half.collection)
        ]
        assert entries == [contents["article/s/a"]]
