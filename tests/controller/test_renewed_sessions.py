"""An agent that has its session cannot be told where Weaviate is by now: it goes on with what it knows."""

import asyncio
from typing import NoReturn

import pytest
from tests.controller.test_refused_volumes import MADE, NOBODY, OWNER, SETTINGS
from tests.core.backup_model import PLAN

from weaviate_backup.api.operation_spec import AgentOptions
from weaviate_backup.controller.operation_secrets import Memory
from weaviate_backup.controller.operations import OperationRequest, OperationRuntime
from weaviate_backup.core.orders import STORE_WORKER, PlannedBackup, PutSession
from weaviate_backup.errors import Permanent


def refuse(*_: object) -> NoReturn:
    raise Permanent("PodAddressInvalid", "the pod has no address")


@pytest.mark.parametrize("renewed", [True, False])
def test_a_renewal_that_is_refused_is_no_trouble(renewed: bool) -> None:
    async def performed() -> OperationRuntime:
        runtime = OperationRuntime(NOBODY, SETTINGS, OWNER, lambda: None, PlannedBackup)
        runtime.memory = Memory(PLAN, MADE.client, {})
        request = OperationRequest("weaviate", AgentOptions(), 3600, order=refuse)
        await runtime.perform((PutSession(STORE_WORKER, renewed=renewed),), request)
        return runtime

    runtime = asyncio.run(performed())
    assert (STORE_WORKER in runtime.troubles) is not renewed
    assert runtime.notes[STORE_WORKER] == "the pod has no address"
