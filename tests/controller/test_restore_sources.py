"""A restore names its source in two ways, and agents are told the same: a location and a backup's identifier in it."""

import pytest
from tests.controller.conftest import Stage, phase_of
from tests.controller.test_backup_runs import start

from weaviate_backup.core.session import Failure, RestoreOrder, SessionOrder, Step

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.weaviate,
    # A request of the hand-made kubelet under way when its test ends leaves its socket to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SAID = Failure(reason="BackupDamaged", message="look elsewhere", transient=False)


async def test_a_restore_finds_our_backups_and_a_servers(stage: Stage) -> None:
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Completed")
        await stage.apply("WeaviateBackupLocation", "store", {"s3": {"bucket": "backups"}, "suspend": False})
        ours = await ordered(stage, "ours", {"backupRef": {"name": "nightly"}})
        servers = await ordered(stage, "servers", {"locationRef": {"name": "store"}, "backupID": "by-a-server"})
    assert (ours.backup_id, servers.backup_id) == ("nightly", "by-a-server")
    secrets = []
    for order in (ours, servers):
        assert order.location.s3 is not None
        assert order.location.s3.bucket == "backups"
        secrets.append(order.location.s3.credentials_secret_ref is not None)
        assert isinstance(order.work, RestoreOrder)
        assert order.work.source_node == "weaviate-0"
    assert secrets == [True, False], "ours is read as it was written"


async def test_a_backup_that_is_not_there_is_waited_for(stage: Stage) -> None:
    async with stage.operator():
        await stage.apply("WeaviateRestore", "early", {"source": {"backupRef": {"name": "nightly"}}})
        waiting = await stage.wait("weaviaterestores/early", lambda body: "BackupNotFound" in str(body.get("status")))
        assert phase_of(waiting) == "Pending"
    assert not stage.script.sessions


async def ordered(stage: Stage, name: str, source: dict[str, object]) -> SessionOrder:
    """What the agent of a restore is told; inspection then ends it, because nothing is stored."""
    stage.script.failures[Step.INSPECT] = [SAID]
    await stage.apply("WeaviateRestore", name, {"source": source})
    failed = await stage.wait(f"weaviaterestores/{name}", lambda body: phase_of(body) == "Failed")
    assert failed["status"]["failure"]["reason"] == SAID.reason
    return next(order for order in stage.script.sessions if order.operation_uid == failed["metadata"]["uid"])
