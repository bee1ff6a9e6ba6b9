"""Mounted volumes as a person names them: over a link, or from where the command runs."""

import tempfile
from pathlib import Path

import pytest
from tests.agent.foreign_backup import ForeignBackup
from tests.plugin.test_copy_command import location_yaml
from tests.stored.conftest import contents
from typer.testing import CliRunner

from weaviate_backup.plugin.commands import app

VOLUME = {"path": "prod", "volume": {"nfs": {"server": "a", "path": "/"}}}


@pytest.fixture
def backup(tmp_path: Path) -> ForeignBackup:
    return ForeignBackup(tmp_path / "here" / "prod", "nightly").write()


def copied(tmp_path: Path, to_directory: str) -> str:
    (tmp_path / "volume.yaml").write_text(location_yaml(filesystem=VOLUME))
    file = str(tmp_path / "volume.yaml")
    words = ["copy", "nightly", "--from-file", file, "--from-directory", str(tmp_path / "here"), "--to-file", file]
    result = CliRunner().invoke(app, [*words, "--to-directory", to_directory])
    return f"{result.output}{result.exception or ''}"


def test_a_link_that_a_person_names_is_followed(backup: ForeignBackup, tmp_path: Path) -> None:
    """On a file system of its own, as homes are: links of such are followed nowhere else."""
    (tmp_path / "there").mkdir()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as home:
        if Path(home).stat().st_dev == Path("/").stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own here")
        (Path(home) / "backups").symlink_to(tmp_path / "there")
        said = copied(tmp_path, f"{home}/backups")
    assert contents(tmp_path / "there" / "prod") == contents(backup.root), said


def test_a_directory_may_be_named_from_here(
    backup: ForeignBackup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    said = copied(tmp_path, "../there")
    assert contents(tmp_path / "there" / "prod") == contents(backup.root), said


def test_a_link_in_the_volume_is_not(backup: ForeignBackup, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "there" / "prod").symlink_to(tmp_path / "elsewhere")
    assert "UnexpectedEntry: spec.filesystem: " in copied(tmp_path, str(tmp_path / "there"))
    assert list((tmp_path / "elsewhere").iterdir()) == []
