"""The filesystem store keeps the contract, its keys below its root, and says what the disk said."""

from pathlib import Path

import pytest
from tests.storage.contract import StoreContract, blocks

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.errors import Permanent
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


@pytest.mark.parametrize("key", ["../x", "/x", "a/../../x", "", "a//b", "a/.unfinished-1"])
def test_keys_stay_below_the_root(tmp_path: Path, key: str) -> None:
    with pytest.raises(Permanent, match="KeyRefused"):
        FilesystemStore(tmp_path).put(key, lambda: blocks(b"x"))


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"DirectoryNotFound: spec\.filesystem\.volume"):
        FilesystemStore(tmp_path / "nowhere").check()
