"""What every store must do, run over every kind. A store that passes is a store."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from weaviate_backup.errors import ObjectExists, ObjectNotFound, Permanent
from weaviate_backup.storage.object_store import ObjectStore

MIB = 1 << 20
ODD_KEYS = [
    "with space/a b",
    "ünï/日本語-ß",
    "per%cent/%2F%20%",
    "a+b&c=d;e,f",
    "what?/#1",
    'it\'s "quoted"/<a>&amp;',
    "~tilde/@:!*()$[]{}^|`",
    "dots/..a/.hidden",
]


def blocks(content: bytes, size: int = 100_000) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


class BucketContract:
    """Of a store in a bucket, whose `nowhere` fixture is one in a bucket that does not exist."""

    def test_a_bucket_that_is_not_there_is_named_by_every_verb(self, nowhere: ObjectStore) -> None:
        verbs: list[Callable[[], object]] = [
            nowhere.check,
            lambda: list(nowhere.list("")),
            lambda: nowhere.put("k", lambda: blocks(b"small")),
            lambda: nowhere.put("k", lambda: blocks(bytes(9 * MIB), MIB)),
        ]
        for verb in verbs:
            with pytest.raises(Permanent, match=r"BucketNotFound: spec\.\w+\.(bucket|container) 'nowhere-at-all'"):
                verb()


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
        assert store.abort_unfinished("") == 0

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

    def test_one_of_many_wins_a_write_once_put_of_many_parts(self, store: ObjectStore) -> None:
        contents = [bytes([number]) * (9 * MIB) for number in range(4)]

        def attempt(content: bytes) -> bool:
            try:
                store.put("once", lambda: blocks(content, MIB), if_absent=True)
            except ObjectExists:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            won = [content for content, result in zip(contents, pool.map(attempt, contents), strict=True) if result]
        assert len(won) == 1
        assert read(store, "once") == won[0]
        assert store.abort_unfinished("") == 0

    def test_objects_of_every_size_go_up_and_come_down_beside_each_other(self, store: ObjectStore) -> None:
        sizes = [0, 1, MIB, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 17 * MIB, 3 * MIB]
        contents = {f"n{number}/c": bytes([65 + number]) * size for number, size in enumerate(sizes)}

        def there_and_back(key: str) -> bytes:
            store.put(key, lambda: blocks(contents[key], 700_001), if_absent=True)
            return read(store, key)

        with ThreadPoolExecutor(4) as pool:
            found = dict(zip(contents, pool.map(there_and_back, contents), strict=True))
        assert found == contents
        assert {each.key: each.size_bytes for each in store.list("")} == dict(zip(contents, sizes, strict=True))

    def test_ranges_are_read_beside_each_other(self, store: ObjectStore) -> None:
        content = b"".join(number.to_bytes(8, "big") for number in range(20 * MIB // 8))
        store.put("r", lambda: blocks(content, MIB))
        length = 3 * MIB + 1
        starts = range(0, len(content), length)

        def piece(start: int) -> bytes:
            return read(store, "r", start=start, length=min(length, len(content) - start))

        with ThreadPoolExecutor(4) as pool:
            assert b"".join(pool.map(piece, starts)) == content

    @pytest.mark.parametrize("key", ODD_KEYS)
    def test_keys_of_any_characters(self, store: ObjectStore, key: str) -> None:
        store.put(key, lambda: blocks(b"small"), if_absent=True)
        with pytest.raises(ObjectExists):
            store.put(key, lambda: blocks(b"again"), if_absent=True)
        store.put(key + ".large", lambda: blocks(bytes(9 * MIB), MIB), if_absent=True)
        assert read(store, key, start=1, length=3) == b"mal"
        assert {each.key: each.size_bytes for each in store.list(key)} == {key: 5, key + ".large": 9 * MIB}
        store.delete([key, key + ".large"])
        assert list(store.list("")) == []

    def test_a_large_object_gives_way_to_a_small_one(self, store: ObjectStore) -> None:
        store.put("k", lambda: blocks(bytes(9 * MIB), MIB))
        store.put("k", lambda: blocks(b"small"))
        assert read(store, "k") == b"small"
        assert store.stat("k").size_bytes == 5

    def test_deleting_nothing(self, store: ObjectStore) -> None:
        store.delete([])
        store.delete(iter(()))

    def test_check_passes(self, store: ObjectStore) -> None:
        store.check()
