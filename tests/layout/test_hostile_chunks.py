"""What an archive's headers may ask of memory, and what a chunk may hold: each bound, from below and from above."""

import io
import tarfile
import tracemalloc
from collections.abc import Iterable

import pytest
import zstandard

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.chunk_reader import read_chunk
from weaviate_backup.layout.chunk_writer import OFFSET_RECORD
from weaviate_backup.layout.compression import ZSTD_WINDOW_LIMIT_BYTES, CompressionType

END = bytes(1024)
MIB = 1 << 20
SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "article/s/a"}


def entry(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, pax: dict[str, str] | None = None
) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.pax_headers = len(content), kind, pax or {}
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def record(key: str, value: str) -> bytes:
    """One of PAX: its own length first."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + len(str(len(rest)))
    return f"{length + (len(str(length)) > len(str(len(rest))))}".encode() + rest


def names_in(
    archive: bytes, compression: CompressionType = CompressionType.NONE, limit: int | None = None
) -> list[str]:
    found = []
    for each in read_chunk(
        io.BytesIO(archive), compression=compression, collection="Article", limit_bytes=MIB, limit_entries=limit
    ):
        assert sum(len(block) for block in each.blocks) == each.length_bytes
        found.append(each.path)
    return found


def refused(archive: bytes, compression: CompressionType = CompressionType.NONE) -> Permanent:
    with pytest.raises(Permanent) as caught:
        names_in(archive, compression)
    return caught.value


def test_a_header_for_all_entries_is_refused() -> None:
    """The library would keep it; small ones add up."""
    archive = entry("g", record("k", "v"), kind=tarfile.XGLTYPE) + entry("article/s/a") + END
    assert "a header for all entries" in refused(archive).message


def chained(kinds: Iterable[bytes], content: bytes = b"article/s/a\0") -> bytes:
    return b"".join(entry("x", content, kind=kind) for kind in kinds) + entry("article/s/a") + END


def test_two_headers_of_each_kind_before_an_entry_are_read() -> None:
    assert names_in(chained([tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK] * 2)) == ["article/s/a"]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE])
@pytest.mark.parametrize("count", [5, 2000])
def test_a_chain_of_headers_is_refused(kind: bytes, count: int) -> None:
    """The library follows it by recursion."""
    error = refused(chained([kind] * count, record("k", "v")))
    assert (error.reason, "an entry with headers of" in error.message) == ("HostileBackup", True)


def test_headers_of_many_entries_do_not_add_up() -> None:
    long = "article/s/" + "/".join(["d" * 200] * 3)
    count = 400
    assert names_in(b"".join(entry(f"{long}{number}") for number in range(count)) + END)[-1] == f"{long}{count - 1}"


@pytest.mark.parametrize(
    "pax",
    [
        SPARSE | {"GNU.sparse.realsize": "10"},
        {"GNU.sparse.map": "0,1,2,3", "GNU.sparse.size": "10"},
        {"GNU.sparse.size": "10"},
    ],
    ids=["1.0", "0.1", "0.0"],
)
def test_files_with_holes_are_refused(pax: dict[str, str]) -> None:
    archive = entry("article/s/a", b"99999999\n".ljust(512, b"0"), pax=pax)
    assert "a file with holes" in refused(archive + END).message
    assert refused(archive).reason == "HostileBackup"


def test_an_old_file_with_holes_is_refused() -> None:
    info = tarfile.TarInfo("article/s/a")
    info.type = tarfile.GNUTYPE_SPARSE
    assert "a file with holes" in refused(info.tobuf(tarfile.GNU_FORMAT) + END).message


@pytest.mark.parametrize(
    "broken",
    [
        b"x a=b\n",
        b"6 ab\n",
        b"0 a=b\n",
        b"4 a=b\n",
        b"6 a=b\n\n",
        b"7 a=b\n",
        b"-5 a=b\n",
        b"9" * 5000 + b" a=b\n",
        record("a", "b") + b"\0",
        record("size", "1x"),
        record("size", "-5"),
    ],
)
def test_records_that_are_none_are_named_as_damage(broken: bytes) -> None:
    """One of them may have been the offset of a part."""
    archive = entry("x", broken, kind=tarfile.XHDTYPE) + entry("article/s/a") + END
    assert refused(archive).reason == "BackupDamaged"
    assert refused(entry("article/s/b") + archive).reason == "BackupDamaged"


def offset_of(text: str) -> list[int]:
    archive = entry("x", record(OFFSET_RECORD, text), kind=tarfile.XHDTYPE) + entry("article/s/a") + END
    return [
        each.offset for each in read_chunk(io.BytesIO(archive), compression=CompressionType.NONE, collection="Article")
    ]


def test_an_offset_is_a_number_of_as_many_digits_as_a_file_can_have() -> None:
    assert offset_of("9" * 18) == [10**18 - 1]
    for text in ("9" * 19, "+1", "1 ", "\u00b2", "0x1", ""):
        with pytest.raises(Permanent, match=r"HostileBackup: .*starts at offset"):
            offset_of(text)


@pytest.mark.parametrize(("key", "value"), [("size", "9" * 25), (OFFSET_RECORD, "-1"), ("path", "x")])
def test_records_that_say_what_cannot_be_are_refused(key: str, value: str) -> None:
    archive = entry("x", record(key, value), kind=tarfile.XHDTYPE) + entry("article/s/a") + END
    assert refused(archive).reason == "HostileBackup"


def test_records_in_records_take_no_memory() -> None:
    """Each would be a keyword as long as all that follow it: 250 MiB of 32 kB."""
    archive = entry("x", b"2 " * (16 << 10) + b"=\n", kind=tarfile.XHDTYPE) + entry("article/s/a") + END
    tracemalloc.start()
    error = refused(archive)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.reason == "BackupDamaged"
    assert peak_bytes < 8 * MIB


def test_entries_are_counted_folders_too() -> None:
    folder = entry("article/s", kind=tarfile.DIRTYPE)
    archive = folder * 3 + entry("article/s/a") + END
    assert names_in(archive, limit=4) == ["article/s/a"]
    with pytest.raises(Permanent, match="HostileBackup: a chunk of Article holds more than 3 entries"):
        names_in(archive, limit=3)


def test_what_is_not_named_is_refused_before_its_content_is_read() -> None:
    archive = entry("article/s/a", b"1") + entry("article/s/b", b"2") + END
    with pytest.raises(Permanent, match="HostileBackup: a chunk holds article/s/b, which the descriptor"):
        for each in read_chunk(
            io.BytesIO(archive),
            compression=CompressionType.NONE,
            collection="Article",
            is_named=lambda path: path == "article/s/a",
        ):
            assert (each.path, b"".join(each.blocks)) == ("article/s/a", b"1")


@pytest.mark.parametrize(("log", "reason"), [(25, None), (26, "BackupDamaged"), (30, "BackupDamaged")])
def test_a_frame_asks_for_no_more_window_than_the_limit(log: int, reason: str | None) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=log, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    archive = compressor.compress(entry("article/s/a") + END) + compressor.flush()
    assert (1 << log <= ZSTD_WINDOW_LIMIT_BYTES) is (reason is None)
    if reason is None:
        assert names_in(archive, CompressionType.ZSTD) == ["article/s/a"]
    else:
        assert refused(archive, CompressionType.ZSTD).reason == reason


def test_memory_does_not_grow_with_the_number_of_entries() -> None:
    """The library keeps every header that it read."""
    count = 4000
    archive = io.BytesIO(entry("article/s/a") * count + END)
    tracemalloc.start()
    entries = read_chunk(archive, compression=CompressionType.NONE, collection="Article")
    for _ in range(count):
        next(entries)
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(entries) == []
    assert kept_bytes < 256 << 10
