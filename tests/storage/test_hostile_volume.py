"""A mounted store whose volume somebody else writes to: whatever he exchanges, and at whatever instant, nothing beside
the root is opened, written, made or removed, and every verb ends with an answer or with an error of ours."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.beneath.attacker import (
    CHUNK,
    FOLDERS,
    HALF,
    INNER,
    KINDS,
    TEMPORARY,
    Volume,
    exchange_everything,
    volume_in_memory,
    within,
    without_the_call,
)

from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.patience import USUAL
from weaviate_backup.storage.retry import Retrying

KEY, INNER_KEY, HALF_KEY = (name.removeprefix("prod/") for name in (CHUNK, INNER, HALF))
FOLDER = "nightly/weaviate-0/"


def _read(store: ObjectStore, key: str) -> bytes:
    with store.open(key) as stream:
        return stream.read()


def _put(store: ObjectStore, key: str, *, if_absent: bool = False) -> None:
    store.put(key, lambda: iter([b"new ", b"bytes"]), if_absent=if_absent)


Verb = Callable[[ObjectStore], object]
VERBS: dict[str, tuple[Verb, tuple[str, ...]]] = {
    "put": (lambda store: _put(store, KEY), (*FOLDERS[:3], CHUNK, TEMPORARY)),
    "put once": (lambda store: _put(store, f"{FOLDER}class/chunk-3", if_absent=True), (*FOLDERS, TEMPORARY)),
    "put below": (lambda store: _put(store, f"{FOLDER}new/chunk", if_absent=True), (*FOLDERS[:3], TEMPORARY)),
    "open": (lambda store: _read(store, KEY), (*FOLDERS[:3], CHUNK)),
    "stat": (lambda store: store.stat(INNER_KEY), (*FOLDERS, INNER)),
    "list": (lambda store: list(store.list("nightly/")), (*FOLDERS, CHUNK, INNER)),
    "delete": (lambda store: store.delete([KEY, INNER_KEY]), (*FOLDERS, CHUNK, INNER)),
    "abort": (lambda store: store.abort_unfinished(FOLDER), (*FOLDERS, CHUNK, HALF)),
    "check": (lambda store: store.check(), FOLDERS[:2]),
}
"""Each with the entries on its way."""


@pytest.fixture
def volume() -> Iterator[Volume]:
    with volume_in_memory() as made:
        made.reset()
        yield made


@pytest.fixture(params=["openat2", "part by part"])
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param != "openat2":
            stack.enter_context(without_the_call())
        yield request.param


@pytest.mark.parametrize("name", VERBS)
def test_an_exchange_between_any_two_calls_leads_nowhere(volume: Volume, kernel: str, name: str) -> None:
    kinds = tuple(KINDS) if kernel == "openat2" else ("link", "fifo")
    verb, entries = VERBS[name]

    def call() -> object:
        return verb(FilesystemStore(volume.root, path="prod"))

    exchanged = exchange_everything(volume, call, entries=entries, kinds=kinds, expected=(BackupError,))
    print(kernel, name, "exchanged", exchanged)
    assert exchanged >= 20


def test_live_data_mounted_beside_a_store_is_out_of_reach(volume: Volume, kernel: str) -> None:
    """A node's folder is a link to the data directory: nothing of it is listed, written or deleted."""
    folder = volume.root / "prod/nightly/weaviate-0"
    volume.exchange("prod/nightly/weaviate-0", KINDS["link"])
    assert (folder / "chunk-1").read_bytes() == (volume.outside / CHUNK).read_bytes()
    volume.watch.events()
    store = Retrying(FilesystemStore(volume.root, path="prod"), patience=USUAL)
    verbs: list[Callable[[], object]] = [
        lambda: list(store.list(FOLDER)),
        lambda: list(store.list("")),
        lambda: store.put(KEY, lambda: iter([b"through the link"])),
        lambda: store.put(f"{FOLDER}new/chunk", lambda: iter([b"through the link"]), if_absent=True),
        lambda: _read(store, KEY),
        lambda: store.stat(KEY),
        lambda: store.delete([KEY, INNER_KEY]),
        lambda: store.abort_unfinished(FOLDER),
    ]
    for verb in verbs:
        with pytest.raises(Permanent, match=r"UnexpectedEntry: spec\.filesystem: .*/weaviate-0"):
            verb()
    assert volume.watch.events() == []
    assert folder.is_symlink()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)


@pytest.mark.parametrize(
    "make", [_fifo, _socket, lambda path: path.symlink_to("chunk-1")], ids=["fifo", "socket", "link"]
)
class TestWhatIsNoObject:
    @pytest.fixture
    def key(self, volume: Volume, make: Callable[[Path], None]) -> Iterator[str]:
        make(volume.root / "prod/nightly/weaviate-0/odd")
        with within(20):
            yield f"{FOLDER}odd"

    @pytest.fixture
    def store(self, volume: Volume) -> ObjectStore:
        return FilesystemStore(volume.root, path="prod")

    def test_it_is_neither_read_nor_left_out(self, store: ObjectStore, key: str) -> None:
        verbs: list[Callable[[], object]] = [
            lambda: _read(store, key),
            lambda: store.stat(key),
            lambda: list(store.list("night")),
            lambda: store.abort_unfinished(FOLDER),
            lambda: _put(store, key, if_absent=True),
        ]
        for verb in verbs:
            with pytest.raises(
                Permanent,
                match=r"UnexpectedEntry: .*/odd is a (FIFO|socket|symbolic link); neither Weaviate nor an agent",
            ):
                verb()

    def test_folders_that_a_prefix_does_not_name_are_not_looked_at(self, store: ObjectStore, key: str) -> None:
        assert [each.key for each in store.list("weekly/")] == ["weekly/weaviate-0/chunk-1"]
        assert [each.key for each in store.list("w")] == ["weekly/weaviate-0/chunk-1"]

    def test_it_is_deleted_itself(self, store: ObjectStore, key: str, volume: Volume) -> None:
        store.delete([key])
        assert not os.path.lexists(volume.root / "prod" / key)
        assert _read(store, KEY) == b"ours"

    def test_it_gives_way_to_an_object(self, store: ObjectStore, key: str) -> None:
        _put(store, key)
        assert (_read(store, key), _read(store, KEY)) == (b"new bytes", b"ours")


def test_a_folder_that_became_a_fifo_is_not_an_empty_one(volume: Volume, kernel: str) -> None:
    volume.exchange("prod/nightly", KINDS["fifo"])
    store = FilesystemStore(volume.root, path="prod")
    with within(20), pytest.raises(Permanent, match=r"UnexpectedEntry: .*/nightly is a FIFO"):
        list(store.list("nightly/"))


def test_a_file_is_no_folder(volume: Volume) -> None:
    store = FilesystemStore(volume.root, path="prod")
    assert list(store.list(f"{KEY}/")) == []
    store.delete([f"{KEY}/below", FOLDER.rstrip("/")])
    assert _read(store, KEY) == b"ours"
    with pytest.raises(ObjectExists):
        _put(store, KEY, if_absent=True)
    with pytest.raises(ObjectNotFound):
        store.stat(f"{KEY}/below")


def test_the_path_of_a_location_may_not_lead_over_a_link(volume: Volume, kernel: str) -> None:
    (volume.root / "other").symlink_to(volume.outside)
    store = FilesystemStore(volume.root, path="other/prod")
    with pytest.raises(Permanent, match=r"UnexpectedEntry: .*/other is a symbolic link"):
        store.check()
    with pytest.raises(Permanent, match="UnexpectedEntry"):
        _put(store, KEY)
    assert volume.watch.events() == []


def test_a_name_that_is_no_text_is_named_in_text(volume: Volume) -> None:
    Path(os.fsdecode(os.fsencode(volume.root) + b"/prod/nightly/weaviate-0/\xff\x1b[2J")).touch()
    with pytest.raises(Permanent, match="UnexpectedEntry") as raised:
        list(FilesystemStore(volume.root, path="prod").list(FOLDER))
    assert raised.value.message.isprintable()


def test_a_deep_tree_is_not_walked_to_its_end(volume: Volume, kernel: str) -> None:
    """Each directory of it would take longer than the one before."""
    (volume.root / "prod" / "/".join("d" * 300)).mkdir(parents=True)
    store = FilesystemStore(volume.root, path="prod")
    for verb in (store.list, lambda prefix: [store.abort_unfinished(prefix)]):
        with pytest.raises(Permanent, match=r"UnexpectedEntry: .* is below 64 directories"):
            list(verb(""))


def test_what_an_nfs_client_keeps_of_a_deleted_file_is_no_object(volume: Volume) -> None:
    folder = volume.root / "prod/nightly/weaviate-0"
    (folder / ".nfs00000000000a1b2c00000007").touch()
    (folder / ".nfs-by-its-name-only").touch()
    names = {each.key for each in FilesystemStore(volume.root, path="prod").list(FOLDER)}
    assert names == {KEY, INNER_KEY, f"{FOLDER}.nfs-by-its-name-only"}


def test_a_root_that_is_gone_is_said_by_a_put(volume: Volume) -> None:
    with pytest.raises(Permanent, match="DirectoryNotFound"):
        _put(FilesystemStore(volume.root / "unmounted"), KEY)
