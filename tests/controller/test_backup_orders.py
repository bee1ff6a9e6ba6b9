"""What the agents of a backup are told of it: each of them could be the one that completes it."""

import pytest
from tests.core.backup_model import NODES, PLAN

from weaviate_backup.api.backup import Backup
from weaviate_backup.controller.backups import _effects
from weaviate_backup.core.orders import STORE_WORKER
from weaviate_backup.settings import OperatorSettings

BACKUP = Backup.model_validate(
    {
        "metadata": {"name": "nightly", "namespace": "shop", "uid": "0b5f2c1e"},
        "spec": {"target": {"statefulSet": "weaviate"}, "locationRef": {"name": "s3"}},
    }
)


@pytest.mark.parametrize("leader", NODES)
def test_a_store_worker_knows_the_leader_whose_place_it_takes(leader: str) -> None:
    order = _effects(BACKUP, OperatorSettings(namespace="system", agent_image="agent")).order
    told = order(STORE_WORKER, None, PLAN.model_copy(update={"leader": leader}))
    assert (told.work.kind, getattr(told.work, "leader", "")) == ("store", leader)
