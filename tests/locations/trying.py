"""A location tried by a store worker's own step, without a cluster: what its status would say, and after how long."""

import asyncio
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.api_server import Json

from weaviate_backup.agent.journal import Journal
from weaviate_backup.agent.probe import probe
from weaviate_backup.agent.workspace import Workspace
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.core.location_verdict import Sight, Verdict, judge
from weaviate_backup.core.orders import STORE_WORKER
from weaviate_backup.core.session import SessionOrder, Step, StepCommand, StoreOrder
from weaviate_backup.settings import AgentSettings
from weaviate_backup.stored.meter import Meter

UID = "01234567-89ab-cdef-0123-456789abcdef"


@dataclass(frozen=True)
class Trial:
    """A location's spec, and what is mounted into its worker."""

    spec: Json
    secret: Mapping[str, str]
    ca_pem: bytes | None = None
    filesystem_root: Path = Path("/nowhere")
    trusted: str = ""


def tried(trial: Trial) -> tuple[Verdict, float]:
    """The verdict of one worker, and the seconds it took."""
    location = LocationSpec.model_validate(trial.spec)
    with tempfile.TemporaryDirectory() as mounts:
        credentials, authority = Path(mounts, "credentials"), Path(mounts, "ca")
        credentials.mkdir()
        authority.mkdir()
        for key, value in trial.secret.items():
            (credentials / key).write_text(value)
        if trial.ca_pem is not None:
            (authority / "ca.crt").write_bytes(trial.ca_pem)
        settings = AgentSettings(
            operation_uid=UID,
            node=STORE_WORKER,
            credentials_directory=credentials,
            ca_directory=authority,
            filesystem_root=trial.filesystem_root,
            trusted_store_hosts=trial.trusted,
        )
        order = SessionOrder(
            operation_uid=UID,
            node=STORE_WORKER,
            backup_id="wvb-probe",
            location=location,
            server_version="",
            weaviate=None,
            work=StoreOrder(),
        )
        began = time.monotonic()
        command = StepCommand(operation_uid=UID, step=Step.PROBE)
        probed = asyncio.run(probe(Workspace(settings, order, Journal(None)), command, Meter()))
        seconds = time.monotonic() - began
    sight = Sight(worker=STORE_WORKER, node="node-0", probed=probed)
    return judge([sight], address=location.address, kind=location.kind, read_only=location.read_only), seconds
