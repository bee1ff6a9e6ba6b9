"""A place leads to real files and directories below its root, or nowhere."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.beneath.attacker import CHUNK, FILES, FOLDERS, Volume

from weaviate_backup.beneath import Place, Root, UnexpectedEntry
from weaviate_backup.errors import Permanent

UNSAFE = ["", ".", "..", "/", "/etc", "a/", "a//b", "./a", "a/.", "a/..", "../a", "a/../b", "a\0b", "\0", "\ud800"]
USES: dict[str, Callable[[Place], object]] = {
    "look": Place.look,
    "exists": Place.exists,
    "is_file": Place.is_file,
    "is_directory": Place.is_directory,
    "entries": Place.entries,
    "names": Place.names,
    "files": lambda place: list(place.files()),
    "free_bytes": Place.free_bytes,
    "read_bytes": lambda place: place.read_bytes(limit_bytes=1000),
    "open to write": lambda place: place.open(writable=True).close(),
    "create": lambda place: (place / "new").create().close(),
    "descriptor": lambda place: os.close((place / "new").descriptor(os.O_WRONLY, create_mode=0o600)),
    "copy to": lambda place: (place.root.place / CHUNK).copy_to(place / "copy"),
    "copy from": lambda place: place.copy_to(place.root.place / "copy"),
    "link to": lambda place: (place.root.place / CHUNK).link_to(place / "linked"),
    "link from": lambda place: place.link_to(place.root.place / "linked"),
    "rename to": lambda place: (place.root.place / CHUNK).rename_to(place / "moved"),
    "make_directory": lambda place: (place / "new/folder").make_directory(),
    "remove_tree": Place.remove_tree,
    "sync": Place.sync,
}
LINKS: dict[str, Callable[[Volume, str], str]] = {
    "absolute": lambda volume, entry: str(volume.outside / entry),
    "relative": lambda volume, entry: os.path.relpath(volume.outside / entry, (volume.root / entry).parent),
    "dangling": lambda volume, entry: str(volume.outside / "missing" / entry),
    "to itself": lambda volume, entry: str(volume.root / entry),
    "below the root": lambda volume, entry: str(volume.parked / "entry"),
    "magic": lambda volume, entry: f"/proc/self/root{volume.outside}/{entry}",
    "of a descriptor": lambda volume, entry: "/proc/self/fd/0",
}


@pytest.mark.parametrize(
    ("full_percentage", "free_bytes"), [(100, 70 * 512), (90, 60 * 512), (91, 61 * 512), (30, 0), (0, 0)]
)
def test_what_is_free_until_so_much_is_in_use(
    place: Place, monkeypatch: pytest.MonkeyPatch, full_percentage: int, free_bytes: int
) -> None:
    """Of a hundred blocks seventy are free for an ordinary user."""
    status = os.statvfs_result((4096, 512, 100, 75, 70, 10, 9, 8, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _: status)
    assert place.free_bytes(full_percentage=full_percentage) == free_bytes


@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
def test_names_that_lead_elsewhere_are_refused(place: Place, name: str) -> None:
    makers: list[Callable[[], Place]] = [
        lambda: place / name,
        lambda: (place / "a").beside(name),
        lambda: place / "a" / name,
    ]
    for make in makers:
        with pytest.raises(Permanent, match="UnsafeName") as raised:
            make()
        assert raised.value.message.isprintable()


@pytest.mark.parametrize("path", ["relative", "/a/../b", "."])
def test_a_root_is_named_from_the_top(path: str) -> None:
    with pytest.raises(Permanent, match="UnsafeName"):
        Root(Path(path))


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "/", "a/b", "\0", "ü", "\udcff", "\ud800"]), max_size=4))
def test_a_place_is_below_its_root_whatever_it_is_made_of(names: list[str]) -> None:
    root = Root(Path("/nowhere"))
    try:
        made = root.place
        for name in names:
            made = made / name
    except Permanent as error:
        assert error.reason == "UnsafeName"
        return
    assert os.path.normpath(str(made)) == str(made)
    assert Path(str(made)).is_relative_to("/nowhere")
    assert made.parts == tuple("/".join(names).split("/") if names else ())


def test_nothing_is_above_a_root(place: Place) -> None:
    for use in (lambda: place.parent, lambda: place.beside("a"), place.unlink, place.remove_directory, place.create):
        with pytest.raises(Permanent, match="UnsafeName"):
            use()


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("entry", [*FOLDERS[:3], CHUNK], ids=["first", "middle", "last folder", "file"])
def test_a_link_at_any_part_of_the_way_is_refused_by_every_use(
    volume: Volume, place: Place, entry: str, kind: str
) -> None:
    target = LINKS[kind](volume, entry)
    volume.exchange(entry, lambda path, _: path.symlink_to(target))
    at_link = place / entry
    below = place / (CHUNK if entry != CHUNK else entry)
    for name, use in USES.items():
        for where in {at_link, below}:
            if where is at_link and name in ("look", "exists", "names", "create", "descriptor", "make_directory"):
                continue  # said of itself below, or of what is below it
            with pytest.raises(UnexpectedEntry):
                use(where)
    status = at_link.look()
    assert status is not None
    assert Path(str(at_link)).is_symlink()
    assert volume.watch.events() == []
    at_link.unlink()
    assert not at_link.exists()
    assert volume.watch.events() == []


def test_a_link_below_which_somebody_looks_is_not_an_absence(volume: Volume, place: Place) -> None:
    volume.exchange("prod/nightly", lambda path, outside: path.symlink_to(outside))
    for use in (Place.look, Place.exists, Place.is_file, Place.entries):
        with pytest.raises(UnexpectedEntry, match="lies below a symbolic link"):
            use(place / "prod/nightly/weaviate-0")
    with pytest.raises(UnexpectedEntry):
        (place / "prod/nightly").entries()


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, _socket], ids=["fifo", "socket"])
def test_what_is_neither_file_nor_directory_is_never_opened(
    volume: Volume, place: Place, make: Callable[[Path], None]
) -> None:
    make(volume.root / "odd")
    odd = place / "odd"
    uses: list[Callable[[], object]] = [
        odd.is_file,
        odd.is_directory,
        odd.open,
        lambda: odd.open(writable=True),
        lambda: odd.descriptor(os.O_RDONLY, create_mode=0o600),
        lambda: odd.read_bytes(limit_bytes=10),
        lambda: odd.copy_to(place / "copy"),
        lambda: odd.link_to(place / "linked"),
        odd.remove_tree,
        place.entries,
        lambda: list(place.files()),
    ]
    for use in uses:
        with pytest.raises(UnexpectedEntry, match=r"odd is a (FIFO|socket)"):
            use()
    assert sorted(place.names()) == ["odd", "prod"]
    odd.unlink()
    assert place.names() == ["prod"]


def test_entries_and_files_are_in_order(place: Place) -> None:
    assert [name for name, _ in (place / "prod").entries()] == ["nightly", "weekly"]
    assert [name for name, _ in place.files()] == sorted(FILES)
    assert [name for name, _ in (place / "prod/weekly").files()] == ["weaviate-0/chunk-1"]


def test_a_file_that_vanishes_is_left_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda where: [*listed(where), "gone"])
    assert [name for name, _ in (place / "prod").entries()] == ["nightly", "weekly"]


def test_a_tree_is_removed_with_the_links_in_it_and_nothing_behind_them(volume: Volume, place: Place) -> None:
    for number, target in enumerate((volume.outside, volume.outside / CHUNK, Path("missing"))):
        (volume.root / f"prod/nightly/link-{number}").symlink_to(target)
    os.mkfifo(volume.root / "prod/nightly/fifo")
    (place / "prod").remove_tree()
    assert place.names() == []
    (place / "prod").remove_tree()
    assert volume.watch.events() == []


def test_directories_are_made_up_to_the_root_which_must_be_there(volume: Volume, place: Place) -> None:
    deep = place / "/".join("d" * 500)
    deep.make_directory()
    assert deep.is_directory()
    deep.make_directory()
    with pytest.raises(FileExistsError):
        deep.make_directory(exist_ok=False)
    with pytest.raises(FileExistsError):
        (place / CHUNK).make_directory()
    with pytest.raises(FileNotFoundError):
        (Root(volume.root / "missing").place / "a/b").make_directory()
    assert not (volume.root / "missing").exists()
    subprocess.run(["rm", "-r", volume.root / "d"], check=True)


def test_the_machines_own_root_is_one() -> None:
    assert "proc" in Root(Path("/")).place.names()


def test_a_path_that_is_too_long_is_so_for_both(place: Place) -> None:
    with pytest.raises(OSError, match="File name too long"):
        (place / "/".join("d" * 2100)).exists()


MOUNTED = """
import sys; sys.path[:0] = {path!r}
from pathlib import Path
from weaviate_backup import no_links
from weaviate_backup.beneath import Root
if {without}:
    import ctypes
    from types import SimpleNamespace
    no_links.libc = SimpleNamespace(syscall=lambda *_: (ctypes.set_errno(38), -1)[1])
volume = Path(sys.argv[1])
(volume / "real" / "data").mkdir(parents=True)
(volume / "to-the-machine").symlink_to("/")
(volume / "to-etc").symlink_to("/etc")
(volume / "itself").symlink_to("real")
def found(path):
    try:
        return Root(Path(path)).place.names()
    except Exception as error:
        return type(error).__name__
print(found(volume / "real"), found(Path(sys.argv[2]) / "real"), found(volume / "itself"), found(volume / "to-etc"),
      found(volume / "to-the-machine" / sys.argv[2].lstrip("/") / "real"))
"""


def test_links_above_a_root_are_the_machines_or_none(tmp_path: Path, kernel: str) -> None:
    """A volume mounted on its own, reached straight, over a link of the machine, and over links that lie on it."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "link").symlink_to("volume")
    if tmp_path.stat().st_dev != Path("/").stat().st_dev:
        pytest.skip("directories of tests lie on no file system of the machine here")
    script = MOUNTED.format(path=sys.path, without=kernel != "openat2")
    mounted = (
        f'mount -t tmpfs none {tmp_path}/volume && exec {sys.executable} -c "$0" {tmp_path}/volume {tmp_path}/link'
    )
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted, script],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if "unshare failed" in done.stderr or "permission denied" in done.stderr.lower():
        pytest.skip("no mount namespaces here: " + done.stderr.strip())
    refused = "UnexpectedEntry"
    assert done.stdout.split("\n")[0] == f"['data'] ['data'] {refused} {refused} {refused}", done.stderr
