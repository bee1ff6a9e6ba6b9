"""What a tenant lays in an operation's way ends it with the reason, and keeps neither it nor its object for ever."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from tests.api_server import Json
from tests.controller.conftest import Stage, phase_of
from tests.controller.test_backup_runs import LOCATION, add_secret, start

from weaviate_backup.api.backup import Backup, BackupStatus
from weaviate_backup.api.names import API_VERSION, BACKUP_KIND
from weaviate_backup.api.resources import Resource
from weaviate_backup.api.restore import Restore
from weaviate_backup.controller import backup_status, backups, pod_state
from weaviate_backup.controller.agent_pods import Owner, pod_name
from weaviate_backup.controller.backup_status import Sight
from weaviate_backup.controller.backups import BackupDriver
from weaviate_backup.controller.restores import RestoreDriver
from weaviate_backup.core import ending, world
from weaviate_backup.core.backup_machine import BackupState
from weaviate_backup.core.orders import STORE_WORKER
from weaviate_backup.core.session import Failure, Step
from weaviate_backup.errors import Permanent, Transient
from weaviate_backup.kube import BACKUPS, LEASES, LOCATIONS, PODS, SECRETS, STATEFUL_SETS, Kube
from weaviate_backup.weaviate.raft import RaftClient

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.weaviate,
    # A request of the hand-made kubelet under way when its test ends leaves its socket to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NIGHTLY = "weaviatebackups/nightly"
TOO_LARGE = Permanent("AnswerTooLarge", "more than 32 MiB")
BUG = KeyError("metadata")
BUSY = Transient("ApiServerUnavailable", "too many requests")
_numbers = itertools.count(1)


async def test_a_pod_of_an_agent_s_name_is_the_reason(stage: Stage) -> None:
    async with stage.operator():
        await start(stage, secret=False)
        uid = (await stage.phase("nightly", "Pending"))["metadata"]["uid"]
        name = pod_name(owner(stage, uid), "weaviate-0", ("weaviate-0",))
        await make_pod(stage, name, labels={})
        await add_secret(stage)
        failed = await stage.wait(NIGHTLY, cleaned_up)
    assert failed["status"]["failure"]["reason"] == "PodInTheWay"
    assert name in failed["status"]["failure"]["message"]
    assert (await stage.get(f"pods/{name}"))[0] == 200, "what somebody else made stays"


async def test_a_pod_of_a_worker_s_name_is_why_a_location_is_not_ready(stage: Stage) -> None:
    await add_secret(stage)
    made = await stage.apply("WeaviateBackupLocation", "store", {**LOCATION, "suspend": True})
    who = Owner(kind="WeaviateBackupLocation", name="store", namespace=stage.namespace, uid=made["metadata"]["uid"])
    name = pod_name(who, STORE_WORKER, ())
    await make_pod(stage, name, labels={})
    await stage.apply("WeaviateBackupLocation", "store", LOCATION)
    async with stage.operator():
        found = await stage.wait("weaviatebackuplocations/store", lambda body: "PodInTheWay" in str(body.get("status")))
    assert name in found["status"]["conditions"][0]["message"]
    assert (await stage.get(f"pods/{name}"))[0] == 200


@pytest.mark.parametrize("forged", [False, True], ids=["labels", "labels and owner"])
async def test_a_pod_with_our_marks_keeps_no_operation_from_its_end(
    stage: Stage, forged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that nobody can delete."""
    monkeypatch.setattr(pod_state, "ENDING_SECONDS", 1)
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        uid = (await stage.phase("nightly", "Uploading"))["metadata"]["uid"]
        made = owner(stage, uid)
        owners = [{"apiVersion": API_VERSION, "kind": made.kind, "name": made.name, "uid": uid, "controller": True}]
        await make_pod(stage, "like-ours", labels=made.labels, finalizers=["example.com/stay"], owners=owners * forged)
        stage.script.hold.clear()
        await stage.wait(NIGHTLY, cleaned_up)
        assert (await stage.get("pods/like-ours"))[1]["metadata"]["finalizers"]


async def test_a_pod_that_is_made_anew_whatever_is_removed_is_not_waited_for(stage: Stage) -> None:
    async with stage.operator():
        await start(stage)
        body = await stage.wait(NIGHTLY, lambda body: phase_of(body) in ("Preparing", "Uploading", "Finalizing"))
        made = owner(stage, body["metadata"]["uid"])
        reference = {"apiVersion": API_VERSION, "kind": made.kind, "name": made.name, "uid": made.uid}

        async def remake() -> None:
            while True:
                if (await stage.get("pods/like-ours"))[0] == 404:
                    await make_pod(stage, "like-ours", labels=made.labels, owners=[{**reference, "controller": True}])
                await asyncio.sleep(0.02)

        tenant = asyncio.create_task(remake())
        try:
            await stage.wait(NIGHTLY, cleaned_up)
        finally:
            tenant.cancel()


async def test_what_must_not_be_written_is_the_reason(stage: Stage) -> None:
    await forbid(stage, "coordination.k8s.io", "leases", "CREATE")
    async with stage.operator():
        await start(stage)
        failed = await stage.wait(NIGHTLY, cleaned_up)
    assert failed["status"]["phase"] == "Failed"
    assert failed["status"]["failure"]["reason"] == "Forbidden"
    assert "not in this namespace" in failed["status"]["conditions"][0]["message"]


async def test_what_must_not_be_deleted_is_left(stage: Stage) -> None:
    await forbid(stage, "coordination.k8s.io", "leases", "DELETE")
    async with stage.operator():
        await start(stage)
        completed = await stage.wait(NIGHTLY, cleaned_up)
        assert completed["status"]["phase"] == "Completed"
        leases = (await stage.get("leases"))[1]["items"]
        assert completed["metadata"]["uid"] in [each["spec"].get("holderIdentity") for each in leases]
        await stage.apply("WeaviateBackup", "second", {"locationRef": {"name": "store"}})
        await stage.phase("second", "Completed")


async def test_a_lease_that_lost_our_marks_gets_them_back(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Uploading")
        (lease,) = (await stage.get("leases"))[1]["items"]
        marks = lease["metadata"]["labels"], lease["metadata"]["annotations"]
        bare: Json = {"metadata": {"labels": None, "annotations": None}}
        await patch(stage, f"/apis/coordination.k8s.io/v1/{at(stage)}/leases/{lease['metadata']['name']}", bare)
        await stage.wait(
            "leases",
            lambda found: (
                [(each["metadata"].get("labels"), each["metadata"].get("annotations")) for each in found["items"]]
                == [marks]
            ),
        )


async def test_a_lease_that_is_deleted_and_does_not_go_is_waited_for(stage: Stage) -> None:
    """Taken as it is, it would be gone in the middle of the operation."""
    where = f"/apis/apps/v1/{at(stage)}/statefulsets/weaviate"
    _, target = await asyncio.to_thread(stage.server.request, "GET", where)
    metadata: Json = {"name": f"wvb-{target['metadata']['uid']}", "namespace": stage.namespace}
    metadata["finalizers"] = ["example.com/kept"]
    lease: Json = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
    path = stage.server.path_of(lease)
    assert (await asyncio.to_thread(stage.server.apply, lease))[0] == 201
    await asyncio.to_thread(stage.server.request, "DELETE", path)
    async with stage.operator():
        await start(stage)
        waiting = await stage.wait(NIGHTLY, lambda body: "LeaseEnding" in str(body.get("status")))
        assert phase_of(waiting) == "Pending"
        assert "remove its finalizers" in str(waiting["status"])
        await patch(stage, path, {"metadata": {"finalizers": None}})
        await stage.phase("nightly", "Completed")


async def test_an_object_past_its_finalizer_leaves_no_key_at_home(stage: Stage) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        body = await stage.phase("nightly", "Uploading")
        home = f"wvb-client-{body['metadata']['uid']}"
        assert "data" in await stage.at_home(home)
        path = stage.server.path_of(body)
        await patch(stage, path, {"metadata": {"finalizers": None}})
        await asyncio.to_thread(stage.server.request, "DELETE", path)
        await patch(stage, path, {"metadata": {"finalizers": None}})
        await stage.wait(NIGHTLY, lambda found: found.get("code") == 404)
        async with asyncio.timeout(20):
            while (await stage.at_home(home)).get("code") != 404:  # noqa: ASYNC110 (another process deletes it)
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture
async def kube(stage: Stage) -> AsyncIterator[Kube]:
    async with await Kube.connect() as kube:
        yield kube


READS = [
    ("pick_one", SECRETS),
    ("pick", PODS),
    ("pick_one", LOCATIONS),
    ("version", SECRETS),
    ("pick_one", STATEFUL_SETS),
]
LATER_READS = [("pick_one", SECRETS), ("pick", PODS), ("pick_one", LEASES), ("pick_one", STATEFUL_SETS)]


@pytest.mark.parametrize("error", [TOO_LARGE, BUSY, BUG], ids=["for good", "for now", "a bug"])
@pytest.mark.parametrize("wish", ["", "cancel", "delete"])
async def test_before_it_began_an_operation_hears_a_wish_whatever_cannot_be_read(
    stage: Stage, kube: Kube, error: Exception, wish: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "TIDY_SECONDS", 1)
    await start(stage)
    for number, (method, resource) in enumerate(READS):
        name = f"blind-{number}"
        await stage.apply("WeaviateBackup", name, {"locationRef": {"name": "store"}})
        with blinded(kube, method, resource, error):
            ended = await driven(stage, kube, name, wish)
        if wish:
            assert ended == "Canceled", (method, resource)
            continue
        assert ended == ("Failed" if error is TOO_LARGE else "Pending"), (method, resource)
        _, body = await stage.get(f"weaviatebackups/{name}")
        if (error, resource) == (BUSY, STATEFUL_SETS):
            continue  # it waits for its location, too, and says that first
        said = "unexpected failure (KeyError)" if error is BUG else str(error).partition(": ")[2]
        assert said in body["status"]["conditions"][0]["message"]


@pytest.mark.parametrize(
    ("error", "wish", "method", "resource"),
    [*((TOO_LARGE, "delete", *read) for read in LATER_READS), (BUSY, "cancel", "pick", PODS)],
)
async def test_an_operation_under_way_ends_on_a_wish_whatever_cannot_be_read(  # noqa: PLR0917 (of a table)
    stage: Stage,
    kube: Kube,
    error: Permanent | Transient,
    wish: str,
    method: str,
    resource: Resource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ending, "TIDY_SECONDS", 1)
    monkeypatch.setattr(world, "LEASE_MARGIN_SECONDS", 0)
    stage.settings = stage.settings.model_copy(update={"agent_lease_seconds": 1})
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Uploading")
    with blinded(kube, method, resource, error):
        assert await driven(stage, kube, "nightly", wish) == "Canceled"


@pytest.mark.parametrize("who", ["our own model", "the API server"])
@pytest.mark.parametrize("wish", ["cancel", "delete"])
async def test_what_no_status_takes_is_left_out(
    stage: Stage, kube: Kube, who: str, wish: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What agents say stands in the status, which stands before every command, and so before every end."""
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        await stage.phase("nightly", "Uploading")

    def odd(backup: Backup, state: BackupState, *, sight: Sight, **rest: Any) -> BackupStatus:
        made = backup_status.show_backup(backup, state, sight=sight, **rest)
        if not sight.reports:
            return made
        if who == "our own model":
            BackupStatus.model_validate({"progress": {"bytesTotal": -1}})
        return made.model_copy(update={"weaviate_status": "x" * 5000})

    monkeypatch.setattr(backups, "show_backup", odd)
    assert await driven(stage, kube, "nightly", wish) == "Canceled"


async def test_names_that_no_status_takes_are_not_planned(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def names(_: RaftClient) -> tuple[str, ...]:
        return ("Article", "A" * 256)

    monkeypatch.setattr(RaftClient, "class_names", names)
    async with stage.operator():
        await start(stage)
        failed = await stage.wait(NIGHTLY, cleaned_up)
    assert failed["status"]["failure"]["reason"] == "UnsafeName"
    assert not stage.script.sessions


async def test_whatever_is_wrong_with_it_a_deleted_object_goes(
    stage: Stage, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> BackupStatus:
        raise ValueError("no status at all")

    async with stage.operator():
        await start(stage, secret=False)
        await stage.phase("nightly", "Pending")
    monkeypatch.setattr(backups, "show_backup", broken)
    monkeypatch.setattr(world, "LEASE_MARGIN_SECONDS", -stage.settings.agent_lease_seconds)
    assert await driven(stage, kube, "nightly", "delete") == "Failed"


async def test_what_is_deleted_is_let_go_in_order_until_its_patience_ends(
    stage: Stage, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its status cannot be written, so no machine gets on."""
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        body = await stage.phase("nightly", "Uploading")
    path = stage.server.path_of(body)
    await patch(stage, path, {"metadata": {"finalizers": ["example.com/kept"]}})
    await asyncio.to_thread(stage.server.request, "DELETE", path)
    driver = BackupDriver(kube, stage.settings, owner(stage, body["metadata"]["uid"]), wake=asyncio.Event())
    driver.deleting = True
    agent = "pods/" + pod_name(owner(stage, body["metadata"]["uid"]), "weaviate-0", ("weaviate-0",))
    forbidden = Permanent("Forbidden", "not in this namespace")
    try:
        with blinded(kube, "apply", BACKUPS, forbidden):
            with pytest.raises(Permanent, match="Forbidden"):
                await driver.tick()
            assert "deletionTimestamp" not in (await stage.get(agent))[1]["metadata"]
            monkeypatch.setattr(world, "LEASE_MARGIN_SECONDS", -stage.settings.agent_lease_seconds)
            await asyncio.sleep(1.1)  # deletionTimestamp has whole seconds
            assert await driver.tick() is None
        code, pod = await stage.get(agent)
        assert code == 404 or "deletionTimestamp" in pod["metadata"]
    finally:
        await driver.close()


async def test_who_is_given_up_unseen_is_not_kept_alive_by_questions(stage: Stage, kube: Kube) -> None:
    stage.script.hold.add(Step.UPLOAD)
    async with stage.operator():
        await start(stage)
        body = await stage.phase("nightly", "Uploading")
    stage.script.hold.add(Step.RELEASE)
    await patch(stage, stage.server.path_of(body), {"spec": {"cancel": True}})
    driver = BackupDriver(kube, stage.settings, owner(stage, body["metadata"]["uid"]), wake=asyncio.Event())
    try:
        await driver.tick()
        assert driver._runtime.links.client("weaviate-0") is not None
        with blinded(kube, "pick", PODS, BUSY):
            await driver.tick()
        assert driver._runtime.links.client("weaviate-0") is None
        await driver.tick()
        assert driver._runtime.links.client("weaviate-0") is not None
    finally:
        await driver.close()


async def test_a_target_that_cannot_be_asked_is_a_value(stage: Stage, kube: Kube) -> None:
    """A port that is none, in the middle of a restore."""
    container = {"name": "weaviate", "args": ["--port", "99999999", "--scheme", "http"]}
    pods = {"spec": {"template": {"spec": {"containers": [container]}}}}
    await patch(stage, f"/apis/apps/v1/{at(stage)}/statefulsets/weaviate", pods, kind="strategic-merge-patch")
    await asyncio.to_thread(
        stage.server.request, "DELETE", f"/api/v1/{at(stage)}/pods/weaviate-0", {"gracePeriodSeconds": 0}
    )
    made = await stage.apply("WeaviateRestore", "back", {"source": {"backupRef": {"name": "nightly"}}})
    who = Owner(kind="WeaviateRestore", name="back", namespace=stage.namespace, uid=made["metadata"]["uid"])
    driver = RestoreDriver(kube, stage.settings, who, wake=asyncio.Event())
    found = await driver._ask_target(Restore.model_validate(made))  # agents would have to inspect first
    assert isinstance(found, Failure)
    assert (found.reason, found.transient) == ("PortInvalid", False)


async def driven(stage: Stage, kube: Kube, name: str, wish: str) -> str:
    """The phase that the operation comes to by turns that we give it, with all let go if it ends."""
    _, body = await stage.get(f"weaviatebackups/{name}")
    path = stage.server.path_of(body)
    if wish == "cancel":
        await patch(stage, path, {"spec": {"cancel": True}})
    if wish == "delete":
        await patch(stage, path, {"metadata": {"finalizers": ["example.com/kept"]}})
        await asyncio.to_thread(stage.server.request, "DELETE", path)
    who = Owner(kind=BACKUP_KIND, name=name, namespace=stage.namespace, uid=body["metadata"]["uid"])
    driver = BackupDriver(kube, stage.settings, who, wake=asyncio.Event())
    driver.deleting = wish == "delete"
    try:
        for _ in range(30 if wish else 3):
            if await driver.tick() is None:
                break
            await asyncio.sleep(0.3)
        else:
            assert not wish, "it does not end"
    finally:
        await driver.close()
    return phase_of((await stage.get(f"weaviatebackups/{name}"))[1])


@contextlib.contextmanager
def blinded(kube: Kube, method: str, resource: Resource, error: Exception) -> Iterator[None]:
    """One read fails."""
    real = getattr(kube, method)

    async def read(asked: Resource, *args: Any, **named: Any) -> Any:
        if asked == resource:
            raise error
        return await real(asked, *args, **named)

    setattr(kube, method, read)
    try:
        yield
    finally:
        setattr(kube, method, real)


async def forbid(stage: Stage, group: str, plural: str, verb: str) -> None:
    """By an admission policy, in the tenant's namespace."""
    name = f"forbid-{next(_numbers)}-{stage.namespace}"
    about = {"apiGroups": [group], "apiVersions": ["*"], "resources": [plural], "operations": [verb]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}}
    kind = "ValidatingAdmissionPolicy"
    policy: Json = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
    policy["spec"] = {
        "matchConstraints": {"resourceRules": [about], "namespaceSelector": here},
        "validations": [{"expression": "false", "message": "not in this namespace", "reason": "Forbidden"}],
    }
    binding = {**policy, "kind": f"{kind}Binding", "spec": {"policyName": name, "validationActions": ["Deny"]}}
    for body in (policy, binding):
        assert (await asyncio.to_thread(stage.server.apply, body))[0] == 201
    metadata = {"name": "tried", "namespace": stage.namespace}
    tried: Json = {"apiVersion": f"{group}/v1", "kind": "Lease", "metadata": metadata}
    path, dry = stage.server.path_of(tried), {"dryRun": "All"}
    if verb == "DELETE":
        await asyncio.to_thread(stage.server.apply, tried)
    async with asyncio.timeout(20):  # policies count a moment after they were made
        while True:
            request = ("POST", path.rsplit("/", 1)[0], tried) if verb == "CREATE" else ("DELETE", path, None)
            code, _ = await asyncio.to_thread(stage.server.request, *request, query=dry)
            if code in (403, 422):
                break
            await asyncio.sleep(0.2)


async def make_pod(
    stage: Stage, name: str, *, labels: Json, finalizers: list[str] | None = None, owners: list[Json] | None = None
) -> None:
    metadata: Json = {"name": name, "namespace": stage.namespace, "labels": labels}
    metadata |= {"finalizers": finalizers or [], "ownerReferences": owners or []}
    environment = [{"name": "WVB_NODE", "value": "held"}]
    stage.kubelet.held["held"] = {"phase": "Pending"}
    spec = {"containers": [{"name": "x", "image": "x", "env": environment}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    status, answer = await asyncio.to_thread(
        stage.server.request, "POST", stage.server.path_of(body, collection=True), body
    )
    assert status == 201, answer


async def patch(stage: Stage, path: str, body: Json, *, kind: str = "merge-patch") -> None:
    content_type = f"application/{kind}+json"
    code, answer = await asyncio.to_thread(stage.server.request, "PATCH", path, body, content_type=content_type)
    assert code in (200, 404), answer


def at(stage: Stage) -> str:
    return f"namespaces/{stage.namespace}"


def owner(stage: Stage, uid: str) -> Owner:
    return Owner(kind=BACKUP_KIND, name="nightly", namespace=stage.namespace, uid=uid)


def cleaned_up(body: Json) -> bool:
    return bool((body.get("status") or {}).get("cleanedUp"))
