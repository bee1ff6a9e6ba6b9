"""One bad object among good ones, at the operator's start and while it runs: the good ones go on, and it lives."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.objects import MINIMAL, Json, manifest
from tests.api_server import ApiServer
from tests.hostile.objects import (
    NAMESPACE,
    Bad,
    body,
    change,
    create,
    look,
    of_other_types,
    older_definitions,
    stored_before,
    stored_now,
)
from tests.hostile.operator_process import OperatorProcess, running_operator

from weaviate_backup.api.crd import definitions

pytestmark = pytest.mark.kubernetes

PATIENCE_SECONDS = 120.0
IDLE_SECONDS = 10.0
BUSY = 0.5
MEMORY_MIB = 300
GOOD = {
    "WeaviateBackupLocation": {"s3": {"bucket": "backups", "credentialsSecretRef": {"name": "absent"}}},
    **{kind: MINIMAL[kind] for kind in ("WeaviateBackup", "WeaviateRestore")},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("hostile") / "kubernetes") as server:
        for namespace in (NAMESPACE, "victim", "operator"):
            server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        yield server


def test_good_ones_go_on(server: ApiServer, tmp_path: Path) -> None:
    """Objects that an older schema let pass are told so; those with hostile metadata are used like any other."""
    server.install_crds(older_definitions())
    bad = list(stored_before())
    for each in bad:
        create(server, each)
    untold = [
        *of_other_types(),
        Bad("WeaviateBackup", "odd-state", body("WeaviateBackup", "odd-state", GOOD["WeaviateBackup"])),
    ]
    for each in untold:
        create(server, each)
    odd: Json = {"status": {"phase": ["Uploading"], "nodes": "all"}}
    assert change(server, "WeaviateBackup", "odd-state", odd, subresource="/status") == 200
    server.install_crds(list(definitions().values()))
    bad += spoil(server, "before")
    with running_operator(server, tmp_path, namespace="operator") as operator:
        judged(server, operator, {("victim", kind, "before"): "" for kind in GOOD})
        bad += spoil(server, "after")
        judged(server, operator, {("victim", kind, "after"): "" for kind in GOOD})
        judged(server, operator, {(NAMESPACE, each.kind, each.name): each.reason for each in bad})
        for each in untold:
            heard(server, operator, each)
        before = operator.cpu_seconds
        time.sleep(IDLE_SECONDS)
        idle = (operator.cpu_seconds - before) / IDLE_SECONDS
        print(f"{len(bad)} bad objects; at most {operator.peak_mib} MiB; {idle:.0%} of a core when idle")
        assert idle < BUSY
        assert operator.peak_mib < MEMORY_MIB
    assert "Traceback" not in operator.log.read_text()
    assert operator.process.returncode == 0


def spoil(server: ApiServer, name: str) -> list[Bad]:
    """Bad ones, and good ones of that name behind them."""
    made = list(stored_now(name))
    for bad in made:
        create(server, bad)
    for kind, spec in GOOD.items():
        code, answer = server.apply(manifest(kind, spec, name=name, namespace="victim"))
        assert code == 201, answer
    return made


def judged(server: ApiServer, operator: OperatorProcess, wanted: dict[tuple[str, str, str], str]) -> None:
    """Each has a status with a reason, and with this one where one is named."""
    left, found = dict(wanted), dict.fromkeys(wanted, "")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left:
        assert operator.alive, operator.log.read_text()[-4000:]
        late = {key: f"{found[key]}, not {reason}" for key, reason in left.items()}
        assert time.monotonic() < deadline, f"{late}; {operator.log.read_text()[-4000:]}"
        for (namespace, kind, name), reason in list(left.items()):
            found[namespace, kind, name] = said = reason_of(look(server, kind, name, namespace))
            if said and (said == reason or not reason):
                del left[namespace, kind, name]
        time.sleep(0.2)


def heard(server: ApiServer, operator: OperatorProcess, bad: Bad) -> None:
    """There is an event, since the API server takes no status."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    query = {"fieldSelector": f"involvedObject.kind={bad.kind},involvedObject.name={bad.name}"}
    while not (found := server.request("GET", f"/api/v1/namespaces/{NAMESPACE}/events", query=query)[1]["items"]):
        assert time.monotonic() < deadline, (bad.name, operator.log.read_text()[-4000:])
        time.sleep(0.2)
    assert {each["reason"] for each in found} == {"SpecInvalid"}
    assert len(found) < 3


def reason_of(found: Json) -> str:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return next((str(each["reason"]) for each in conditions if each["type"] == "Ready"), "")
