"""A session's store: opened once, and anew as soon as the mounted Secret holds something else."""

from pathlib import Path

import pytest

from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.session import SessionOrder, StoreOrder
from weaviate_backup.errors import Permanent
from weaviate_backup.settings import AgentSettings

SECRET = "a-secret-of-the-first-rotation"


def workspace_in(directory: Path) -> Workspace:
    """A store worker's, with a mounted Secret in `directory`."""
    for name, value in (("AWS_ACCESS_KEY_ID", "first"), ("AWS_SECRET_ACCESS_KEY", SECRET)):
        (directory / name).write_text(value)
    location = {"bucket": "backups", "endpoint": "http://127.0.0.1:1"}
    order = SessionOrder(
        operation_uid="u",
        node="store",
        backup_id="b",
        location=LocationSpec.model_validate({"s3": location}),
        server_version="1.39.1",
        weaviate=None,
        work=StoreOrder(),
    )
    settings = AgentSettings(operation_uid="u", node="store", credentials_directory=directory, ca_directory=directory)
    return Workspace(settings, order, Journal(None))


def test_the_store_is_the_same_while_its_secret_is(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    assert workspace.open_store() is workspace.open_store()


@pytest.mark.parametrize("key", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_a_rotated_secret_opens_another_store(tmp_path: Path, key: str) -> None:
    workspace = workspace_in(tmp_path)
    before = workspace.open_store()
    (tmp_path / key).write_text("second")
    assert workspace.open_store() is not before


def test_a_secret_that_lost_a_key_is_refused_even_if_a_store_was_open(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    workspace.open_store()
    (tmp_path / "AWS_SECRET_ACCESS_KEY").unlink()
    with pytest.raises(Permanent, match="AWS_SECRET_ACCESS_KEY"):
        workspace.open_store()


def test_a_workspace_prints_no_credential(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    workspace.open_store()
    assert SECRET not in repr(workspace)
