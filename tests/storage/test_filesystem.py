"""The filesystem store keeps the contract, its keys below its root, and says what the disk said."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.storage.contract import StoreContract, blocks

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.errors import ObjectNotFound, Permanent
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.storage.object_store import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    location = LocationSpec.model_validate({"filesystem": {"path": "prod", "volume": {"hostPath": {"path": "/x"}}}})
    return open_store(location, credentials={}, filesystem_root=tmp_path)


class TestFilesystem(StoreContract):
    pass


def test_objects_are_plain_files_and_nothing_else_is_left(store: ObjectStore, tmp_path: Path) -> None:
    store.put("b1/n/chunk-1", lambda: blocks(b"x"))
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        "prod/b1/n/chunk-1"
    ]
    store.delete(["b1/n/chunk-1"])
    assert [path.name for path in tmp_path.rglob("*")] == ["prod"]


def test_what_dead_processes_left_is_removed_below_a_prefix_only(store: ObjectStore, tmp_path: Path) -> None:
    store.put("b1/n1/chunk-1", lambda: blocks(b"x"))
    left = [tmp_path / "prod/b1" / folder / ".unfinished-0123456789abcdef" for folder in ("n1", "n10")]
    left[1].parent.mkdir()
    for path in left:
        path.write_bytes(b"half")
    assert store.abort_unfinished("b1/n1/") == 1
    assert [path.exists() for path in left] == [False, True]
    assert [each.key for each in store.list("")] == ["b1/n1/chunk-1"]


@pytest.mark.parametrize("key", ["../x", "/x", "a/../../x", "", "a//b", "a/.unfinished-1"])
def test_keys_stay_below_the_root(tmp_path: Path, key: str) -> None:
    with pytest.raises(Permanent, match="KeyRefused"):
        FilesystemStore(tmp_path).put(key, lambda: blocks(b"x"))


def test_a_directory_is_no_object(store: ObjectStore) -> None:
    store.put("a/b", lambda: blocks(b"x"))
    with pytest.raises(ObjectNotFound), store.open("a") as stream:
        stream.read()


def test_a_full_disk_is_named_and_leaves_nothing() -> None:
    """A real full disk: a tmpfs of 1 MiB, in a mount namespace of its own."""
    script = f"""
import sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from weaviate_backup.errors import Permanent
from weaviate_backup.storage.filesystem import FilesystemStore
root = Path(sys.argv[1])
try:
    FilesystemStore(root).put("k", lambda: iter([bytes(1 << 20)] * 3))
except Permanent as error:
    print(error, [path.name for path in root.rglob("*")])
"""
    with tempfile.TemporaryDirectory() as directory:
        mounted = f'mount -t tmpfs -o size=1m none {directory} && exec {sys.executable} -c "$0" {directory}'
        found = subprocess.run(
            ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted, script],
            check=False,
            capture_output=True,
            text=True,
        )
    if "unshare failed" in found.stderr or "permission denied" in found.stderr.lower():
        pytest.skip("no mount namespaces here: " + found.stderr.strip())
    assert "DiskFull: spec.filesystem: k" in found.stdout, found.stderr
    assert found.stdout.strip().endswith("[]")


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"DirectoryNotFound: spec\.filesystem\.volume"):
        FilesystemStore(tmp_path / "nowhere").check()
