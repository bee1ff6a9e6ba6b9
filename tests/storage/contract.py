"""What every store must do, run over every kind. A store that passes is a store."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from weaviate_backup.errors import ObjectExists, ObjectNotFound, Permanent
from weaviate_backup.storage.object_store import ObjectStore

MIB = 1 << 20


def blocks(content: bytes, size: int = 100_000) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def read(store: ObjectStore, key: str, *, start: int = 0, length: int | None = None) -> bytes:
    with store.open(key, start=start, length=length) as stream:
        return stream.read()


class StoreContract:
    """Collected by the tests of each kind, which give the `store` fixture: empty, below a path."""

    def test_what_is_put_is_read(self, store: ObjectStore) -> None:
        info = store.put("a/b/c", lambda: blocks(b"hello"))
        assert (info.key, info.size_bytes) == ("a/b/c", 5)
        assert read(store, "a/b/c") == b"hello"
        assert store.stat("a/b/c").size_bytes == 5

    def test_an_empty_object(self, store: ObjectStore) -> None:
        store.put("empty", lambda: iter(()))
        assert read(store, "empty") == b""
        assert store.stat("empty").size_bytes == 0

    def test_ranges(self, store: ObjectStore) -> None:
        store.put("r", lambda: blocks(bytes(range(100))))
        assert read(store, "r", start=90) == bytes(range(90, 100))
        assert read(store, "r", start=10, length=5) == bytes(range(10, 15))
        assert read(store, "r", start=10, length=0) == b""

    def test_a_range_beyond_the_end_is_refused_and_never_cut_short(self, store: ObjectStore) -> None:
        store.put("r", lambda: blocks(bytes(100)))
        for start, length in ((90, 50), (100, 1), (500, 10)):
            with pytest.raises(Permanent, match="RangeOutside"):
                read(store, "r", start=start, length=length)

    def test_a_source_that_fails_is_not_called_the_stores_failure(self, store: ObjectStore) -> None:
        def gone() -> Iterator[bytes]:
            yield b"1"
            raise FileNotFoundError("the frozen file is gone")

        with pytest.raises(FileNotFoundError):
            store.put("k", gone)
        assert list(store.list("")) == []

    def test_put_replaces_unless_told_not_to(self, store: ObjectStore) -> None:
        store.put("k", lambda: blocks(b"one"))
        store.put("k", lambda: blocks(b"two"))
        with pytest.raises(ObjectExists):
            store.put("k", lambda: blocks(b"three"), if_absent=True)
        assert read(store, "k") == b"two"

    def test_missing_objects(self, store: ObjectStore) -> None:
        with pytest.raises(ObjectNotFound):
            store.stat("nothing")
        with pytest.raises(ObjectNotFound), store.open("nothing"):
            pass
        store.delete(["nothing"])

    def test_listing_and_deleting(self, store: ObjectStore) -> None:
        for key in ("x/1", "x/2", "x/y/3", "xx/4", "z"):
            store.put(key, lambda: blocks(b"12"))
        assert {each.key for each in store.list("x/")} == {"x/1", "x/2", "x/y/3"}
        assert {each.key for each in store.list("x")} == {"x/1", "x/2", "x/y/3", "xx/4"}
        assert {each.size_bytes for each in store.list("")} == {2}
        assert list(store.list("no/such/")) == []
        store.delete(["x/1", "x/y/3", "not there"])
        assert {each.key for each in store.list("x/")} == {"x/2"}

    def test_listing_over_several_pages(self, store: ObjectStore) -> None:
        keys = {f"many/{number:04}" for number in range(1101)}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.put(key, lambda: iter((b"1",))), keys))
        assert {each.key for each in store.list("many/")} == keys
        store.delete(keys)
        assert list(store.list("many/")) == []

    def test_a_large_object_comes_back_whole(self, store: ObjectStore) -> None:
        block = hashlib.sha256(b"seed").digest() * (MIB // 32)
        expected = hashlib.sha256()
        for _ in range(37):
            expected.update(block)
        info = store.put("large", lambda: iter([block] * 37), if_absent=True)
        assert info.size_bytes == 37 * MIB
        found = hashlib.sha256()
        with store.open("large") as stream:
            while piece := stream.read(MIB):
                found.update(piece)
        assert found.hexdigest() == expected.hexdigest()
        assert read(store, "large", start=20 * MIB + 5, length=10) == block[5:15]
        with pytest.raises(ObjectExists):
            store.put("large", lambda: iter([block] * 37), if_absent=True)

    @pytest.mark.parametrize("after_blocks", [0, 1, 30])
    def test_a_put_that_breaks_leaves_nothing(self, store: ObjectStore, after_blocks: int) -> None:
        def broken() -> Iterator[bytes]:
            yield from [bytes(MIB)] * after_blocks
            raise Permanent("SourceChanged", "the file shrank")

        with pytest.raises(Permanent, match="SourceChanged"):
            store.put("broken", broken)
        with pytest.raises(ObjectNotFound):
            store.stat("broken")
        assert list(store.list("")) == []

    def test_one_of_many_wins_a_write_once_put(self, store: ObjectStore) -> None:
        def attempt(number: int) -> bool:
            try:
                store.put("once", lambda: iter((b"%d" % number,)), if_absent=True)
            except ObjectExists:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = [number for number, result in enumerate(pool.map(attempt, range(8))) if result]
        assert len(won) == 1
        assert read(store, "once") == b"%d" % won[0]

    def test_check_passes(self, store: ObjectStore) -> None:
        store.check()
