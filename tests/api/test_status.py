"""A status: what the API server keeps of it, that the fullest one is small, and what gives way first."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from tests.api.objects import FULL, MINIMAL, Json, manifest
from tests.api_server import ApiServer

from weaviate_backup.api.backup import BackupPhase, BackupPlan, BackupStatus
from weaviate_backup.api.bounds import STATUS_LIMIT_BYTES, all_or_none, bounded, size_bytes, status_json
from weaviate_backup.api.conditions import Condition, progressing, ready, stalled
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.location_status import Capabilities, LocationProbe, LocationStatus, ProbeFinding
from weaviate_backup.api.model import ApiModel, dump
from weaviate_backup.api.operation_spec import Method
from weaviate_backup.api.restore import (
    MAX_ACCESS_NAMES,
    MAX_ADDRESSES,
    MAX_ASSIGNMENT,
    MAX_ASSIGNMENTS,
    PlannedAddress,
    RestorePhase,
    RestorePlan,
    RestoreStatus,
)
from weaviate_backup.api.status import (
    MAX_COLLECTIONS,
    MAX_NAMES,
    MAX_NODES,
    AccessStatus,
    CollectionsStatus,
    Finding,
    NodePhase,
    NodeStatus,
    PlannedNode,
    Progress,
    TenantsStatus,
    WeaviateStatus,
)

NOW = datetime(2026, 11, 25, 7, 0, 0, 999, tzinfo=UTC)
TERA = 10**15
WORD = "W" * 64
SENTENCE = "s" * 256
FINDINGS = tuple(Finding(reason=f"{WORD[:60]}{n:04}", message=SENTENCE) for n in range(MAX_NAMES))


def names(count: int, length: int) -> tuple[str, ...]:
    return tuple(f"C{number:05}".ljust(length, "c") for number in range(count))


def node_name(ordinal: int) -> str:
    return f"{ordinal:02}".rjust(63, "n")


def operation_fields() -> dict[str, Any]:
    """Every field at what the largest clusters and the longest names can make of it."""
    long = "m" * 1024
    nodes = tuple(
        NodeStatus(
            name=node_name(ordinal),
            pod=f"wvb-01234567-{ordinal}",
            session_id="0" * 36,
            phase=NodePhase.DOWNLOADING,
            **dict.fromkeys(("bytes_total", "bytes_done", "bytes_reused", "bytes_stored"), TERA),
            files_total=TERA,
            files_done=TERA,
            shards=10**6,
            longest_halt_seconds=1234.567891,
            restarts=100,
            attempts=100,
            retry_time=NOW,
            silent_since=NOW,
            manifest_sha256="a" * 64,
            verified_sha256="a" * 64,
            reason=WORD,
            message=SENTENCE,
        )
        for ordinal in range(MAX_NODES)
    )
    moment = NOW + timedelta(hours=1)
    return {
        "observed_generation": 2,
        "conditions": stalled((), reason=WORD, message=long, generation=2, now=NOW),
        "start_time": NOW,
        "completion_time": moment,
        "phase_start_time": NOW,
        "duration": "1h0m",
        "size": "909Ti",
        "backup_id": "b" * 128,
        "weaviate_status": WeaviateStatus.TRANSFERRING,
        "server_version": "1.39.1",
        "location": LocationSpec.model_validate(FULL["WeaviateBackupLocation"]),
        "location_uid": "0" * 36,
        "stateful_set_uid": "0" * 36,
        "agent_image": "i" * 512,
        "attempt_id": "0" * 36,
        "access": AccessStatus(roles=TERA, users=TERA),
        "progress": Progress(percent=100, bytes_total=TERA, bytes_done=TERA, bytes_per_second=TERA, eta_seconds=TERA),
        "nodes": nodes,
        "collections": CollectionsStatus(count=MAX_COLLECTIONS, names=names(MAX_NAMES, 255)),
        "tenants": TenantsStatus(active=TERA, inactive=TERA, offloaded=TERA, offloaded_names=names(MAX_NAMES, 320)),
        "longest_halt_seconds": 1.5,
        "failure": FINDINGS[0],
        "outcome": "Canceled",
        "cleaned_up": True,
        "warnings": FINDINGS[:16],
    }


def plan_fields() -> dict[str, Any]:
    planned = tuple(
        PlannedNode(
            name=node_name(ordinal),
            pod=node_name(ordinal),
            pod_uid="0" * 36,
            ordinal=ordinal,
            kubernetes_node="k" * 63,
            claim="c" * 80,
            source_node=node_name(ordinal),
            bytes_required=TERA,
            bytes_free=TERA,
        )
        for ordinal in range(MAX_NODES)
    )
    return {
        "nodes": planned,
        "leader": node_name(0),
        "collections": all_or_none(names(MAX_COLLECTIONS, 17), limit=MAX_COLLECTIONS),
        "collections_count": MAX_COLLECTIONS,
        "collections_sha256": "a" * 64,
    }


def fullest_backup() -> BackupStatus:
    return BackupStatus(
        **operation_fields(),
        phase=BackupPhase.UPLOADING,
        plan=BackupPlan(**plan_fields()),
        method=Method.AGENT,
        dropped_collections=names(100, 17),
        wrote=True,
        committer=node_name(0),
        objects=TERA,
    )


ADDRESS = PlannedAddress(address="a" * 512, setting="s" * 128, collections_count=TERA)


def fullest_restore() -> RestoreStatus:
    plan = RestorePlan(
        **plan_fields(),
        backup_version="1.39.1",
        layout_version="2.1",
        verifiable=True,
        bytes_required=TERA,
        bytes_total=TERA,
        aliases=names(MAX_NAMES, 40),
        aliases_replaced=names(MAX_NAMES, 40),
        module_addresses=(ADDRESS,) * MAX_ADDRESSES,
        module_addresses_count=TERA,
        roles=names(MAX_ACCESS_NAMES, 128),
        roles_count=TERA,
        users=names(MAX_ACCESS_NAMES, 128),
        users_count=TERA,
        assignments=names(MAX_ASSIGNMENTS, MAX_ASSIGNMENT),
        assignments_count=TERA,
        refusals=FINDINGS[:16],
        refusals_omitted=TERA,
    )
    return RestoreStatus(
        **operation_fields(),
        phase=RestorePhase.VERIFYING,
        plan=plan,
        applier=node_name(0),
        aliases_kept=names(MAX_NAMES, 40),
        raft_index=TERA,
        objects=TERA,
        cancel_refused=SENTENCE,
    )


def full_location() -> LocationStatus:
    findings = tuple(ProbeFinding(action=f"action-{n}", ok=False, message=SENTENCE) for n in range(16))
    probes = tuple(
        LocationProbe(worker=f"w-{n}", node="n" * 63, identity="i" * 256, findings=findings, clock_skew_seconds=-0.25)
        for n in range(8)
    )
    return LocationStatus(
        observed_generation=1,
        conditions=ready((), reason="Probed", message="", generation=1, now=NOW),
        kind="s3",
        address="s3://backups/weaviate",
        last_probe_time=NOW,
        read_only=False,
        last_probe_seconds=4.5,
        probes=probes,
        capabilities=Capabilities(**dict.fromkeys(Capabilities.model_fields, True)),
        warnings=FINDINGS[:8],
        secrets_version="0" * 64,
    )


FULLEST: dict[str, ApiModel] = {
    "WeaviateBackup": fullest_backup(),
    "WeaviateRestore": fullest_restore(),
    "WeaviateBackupLocation": full_location(),
}


@pytest.mark.kubernetes
@pytest.mark.parametrize("kind", FULLEST)
def test_the_api_server_keeps_every_field(api_server: ApiServer, kind: str) -> None:
    """Nothing is unknown to the schema, nothing is beyond a bound, nothing is added by a default."""
    written = dump(FULLEST[kind])
    code, answer = apply_status(api_server, create(api_server, kind, f"full-{kind.lower()}"), written)
    assert (code, answer.get("status")) == (200, written), answer.get("message")
    model = type(FULLEST[kind])
    assert model.model_validate(answer["status"]) == model.model_validate(written)


@pytest.mark.kubernetes
@pytest.mark.parametrize("kind", FULLEST)
def test_an_older_definition_prunes_newer_fields(api_server: ApiServer, kind: str) -> None:
    """A merge patch or an update loses them in silence; an apply is refused, which its writer must expect."""
    body = create(api_server, kind, f"pruned-{kind.lower()}")
    path = api_server.path_of(body) + "/status"
    newer = {"status": {"observedGeneration": 1, "later": {"than": "this"}}}
    code, answer = api_server.request("PATCH", path, newer, content_type="application/merge-patch+json")
    assert (code, answer["status"]) == (200, {"observedGeneration": 1})
    code, message = apply_status(api_server, body, newer["status"])
    assert code == 500
    assert ".status.later: field not declared in schema" in str(message)


def create(server: ApiServer, kind: str, name: str) -> Json:
    body = manifest(kind, MINIMAL[kind], name=name)
    code, answer = server.apply(body)
    assert code == 201, answer
    return body


def apply_status(server: ApiServer, body: Json, status: Json) -> tuple[int, Json]:
    """As the operator does it."""
    query = {"fieldManager": "weaviate-backup-operator", "force": "true", "fieldValidation": "Strict"}
    head = {key: value for key, value in body.items() if key != "spec"}
    return server.request(
        "PATCH",
        server.path_of(body) + "/status",
        {**head, "status": status},
        query=query,
        content_type="application/apply-patch+yaml",
    )


@pytest.mark.kubernetes
def test_writing_a_status_cannot_change_the_spec(api_server: ApiServer) -> None:
    body = create(api_server, "WeaviateBackup", "guarded")
    path = api_server.path_of(body) + "/status"
    change = {"spec": {"cancel": True}, "status": {"phase": "Uploading"}}
    code, answer = api_server.request("PATCH", path, change, content_type="application/merge-patch+json")
    assert (code, answer["status"]["phase"], answer["spec"]["cancel"]) == (200, "Uploading", False)


@pytest.mark.parametrize("status", [fullest_backup(), fullest_restore()], ids=["backup", "restore"])
def test_the_fullest_status_is_small(status: ApiModel) -> None:
    written = status_json(status)
    assert size_bytes(dump(status)) > STATUS_LIMIT_BYTES, "nothing had to give way: the test is too tame"
    assert size_bytes(written) <= STATUS_LIMIT_BYTES
    assert written["collections"]["count"] == MAX_COLLECTIONS
    assert len(written["plan"]["collections"]) == MAX_COLLECTIONS


@pytest.mark.parametrize("status", [fullest_backup(), fullest_restore()], ids=["backup", "restore"])
def test_what_a_machine_remembers_never_gives_way(status: BackupStatus | RestoreStatus) -> None:
    read = type(status).model_validate(status_json(status))
    for remembered in ("phase", "attempt_id", "location", "stateful_set_uid", "failure", "longest_halt_seconds"):
        assert getattr(read, remembered) == getattr(status, remembered)
    assert status.plan is not None
    assert read.plan is not None
    assert (read.plan.leader, read.plan.collections) == (status.plan.leader, status.plan.collections)
    identity = ("name", "pod", "pod_uid", "ordinal", "source_node")
    assert [[getattr(node, part) for part in identity] for node in read.plan.nodes] == [
        [getattr(node, part) for part in identity] for node in status.plan.nodes
    ]
    assert [(node.name, node.session_id, node.manifest_sha256, node.verified_sha256) for node in read.nodes] == [
        (node.name, node.session_id, node.manifest_sha256, node.verified_sha256) for node in status.nodes
    ]


def test_an_ordinary_status_is_written_whole() -> None:
    fullest = fullest_backup()
    status = fullest.model_copy(update={"nodes": fullest.nodes[:3], "plan": None})
    assert status_json(status) == dump(status)


def test_part_of_an_acted_upon_list_is_never_kept() -> None:
    assert all_or_none(["A", "B"], limit=2) == ("A", "B")
    assert all_or_none(["A", "B", "C"], limit=2) == ()
    assert all_or_none(["A" * 100] * 3, limit=9, budget_bytes=300) == ()
    assert bounded(["A", "B", "C"], limit=2) == ("A", "B")
    assert bounded(["A" * 100] * 3, limit=9, budget_bytes=300) == ("A" * 100,) * 2


def statuses(conditions: tuple[Condition, ...]) -> dict[str, str]:
    return {condition.type: condition.status for condition in conditions}


def test_conditions_are_what_kstatus_reads() -> None:
    waiting = progressing((), reason="Queued", message="", generation=1, now=NOW)
    done = ready(waiting, reason="Completed", message="", generation=1, now=NOW)
    failed = stalled(waiting, reason="NoSuchBucket", message="", generation=1, now=NOW)
    assert statuses(waiting) == {"Ready": "False", "Reconciling": "True"}
    assert statuses(done) == {"Ready": "True"}
    assert statuses(failed) == {"Ready": "False", "Stalled": "True"}


def test_transition_time_changes_only_with_the_status() -> None:
    later = NOW + timedelta(minutes=1)
    other = Condition(type="Probed", status="True", last_transition_time=NOW, reason="Ok", message="")
    first = (*progressing((), reason="Queued", message="", generation=1, now=NOW), other)
    second = progressing(first, reason="Uploading", message="half", generation=2, now=later)
    third = ready(second, reason="Completed", message="", generation=2, now=later)
    assert {c.type: (c.reason, c.last_transition_time) for c in second} == {
        "Ready": ("Uploading", NOW),
        "Reconciling": ("Uploading", NOW),
        "Probed": ("Ok", NOW),
    }
    assert {c.type: c.last_transition_time for c in third} == {"Ready": later, "Probed": NOW}


def test_a_long_message_is_cut() -> None:
    (condition, _) = progressing((), reason="Queued", message="m" * 5000, generation=1, now=NOW)
    assert len(condition.message) == 1024


def test_times_are_whole_seconds_of_utc() -> None:
    plus_two = (NOW + timedelta(hours=2)).isoformat().replace("+00:00", "+02:00")
    status = BackupStatus.model_validate({"startTime": plus_two, "phase": "Pending", "later": 1})
    assert dump(status)["startTime"] == "2026-11-25T07:00:00Z"
    with pytest.raises(ValidationError):
        BackupStatus.model_validate({"startTime": "2026-11-25T07:00:00"})
