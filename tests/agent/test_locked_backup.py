"""With the documented rights of a writer, who may not delete, and Object Lock: a backup that nobody can erase."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
import pytest_asyncio
from e2e.lab.programs import program
from tests.agent.conftest import Source, differences, emptied, observed
from tests.agent.surroundings import Surroundings, backup_order, restore_order, whole_backup, whole_restore
from tests.agent_process import agent_process
from tests.locations.trying import Trial, tried
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, running_s3_server
from tests.storage.test_s3 import client_of
from tests.weaviate_server import WeaviateCluster

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.model import dump
from weaviate_backup.core.session import ProbeAction, Step

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
POLICIES = Path(__file__).resolve().parents[2] / "operator" / "policies"
BUCKET, PATH, DAYS = "my-backups", "production", 2
ROLES = {"writer": "writers-own-secret", "restorer": "restorers-own-secret", "pruner": "pruners-own-secret"}


@dataclass(frozen=True)
class LockedBucket:
    """A bucket with Object Lock, and users with the documented policies."""

    server: S3Server

    def as_role(self, role: str) -> Surroundings:
        spec = {
            "bucket": BUCKET,
            "path": PATH,
            "endpoint": self.server.endpoint,
            "useSSL": False,
            "objectLock": {"mode": "COMPLIANCE", "days": DAYS},
        }
        location = LocationSpec.model_validate({"s3": spec, "readOnly": role == "restorer"})
        credentials = {"AWS_ACCESS_KEY_ID": role, "AWS_SECRET_ACCESS_KEY": ROLES[role]}
        return Surroundings(location, credentials, self.server.directory / BUCKET, {})

    def client(self, role: str | None = None) -> Any:
        """Of a role, or of who may do everything."""
        return client_of(self.server, self.as_role(role).credentials if role else None)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LockedBucket]:
    directory = tmp_path_factory.mktemp("locked")
    with running_s3_server(directory / "data", users=directory / "users", versions=directory / "versions") as server:
        client = client_of(server)
        client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        statements = [statement for role in ROLES for statement in _statements(server, role)]
        client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
        yield LockedBucket(server)


def _statements(server: S3Server, role: str) -> list[dict[str, Any]]:
    """The role's user is made; its policy becomes one of the bucket, where this server looks for it."""
    admin = [str(program("versitygw")), "admin", "--access", ACCESS_KEY, "--secret", SECRET_KEY]
    admin += ["--endpoint-url", f"http://{server.endpoint}", "create-user", "--access", role, "--secret", ROLES[role]]
    subprocess.run([*admin, "--role", "user"], check=True, capture_output=True)
    policy = json.loads((POLICIES / f"s3-{role}.json").read_text())
    return [
        {key: value for key, value in each.items() if key != "Sid"} | {"Principal": [role]}
        for each in policy["Statement"]
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def made(
    source: Source, bucket: LockedBucket, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[datetime]:
    """A backup named `kept`; until when it is locked."""
    store = bucket.as_role("writer")
    order = backup_order(source.cluster, store, source.collections, backup_id="kept")
    before = datetime.now(UTC)
    directory = tmp_path_factory.mktemp("agents")
    backup = await whole_backup(directory, source.cluster, store, order, source.collections)
    committed = backup.node.committed
    assert committed is not None
    assert committed.locked_until is not None
    assert timedelta(0) <= committed.locked_until - before - timedelta(days=DAYS) < timedelta(minutes=5)
    yield committed.locked_until


async def test_a_location_of_a_writer_is_ready_however_often_it_is_tried(bucket: LockedBucket) -> None:
    store = bucket.as_role("writer")
    trial = Trial(dump(store.location), store.credentials)
    for _ in range(2):
        verdict, _ = await asyncio.to_thread(tried, trial)
        assert verdict.ready, verdict
        assert [warning.reason for warning in verdict.warnings] == ["DeleteDenied"]
        assert verdict.capabilities[ProbeAction.DELETE] is False
        assert verdict.capabilities[ProbeAction.LOCK] is True


async def test_every_object_of_a_completed_backup_outlives_everybody(bucket: LockedBucket, made: datetime) -> None:
    client = bucket.client()
    versions = client.list_object_versions(Bucket=BUCKET, Prefix=f"{PATH}/kept/")["Versions"]
    assert {each["Key"].removeprefix(f"{PATH}/kept/") for each in versions} >= {"backup_config.json", "manifest.json"}
    for each in versions:
        named = {"Bucket": BUCKET, "Key": each["Key"], "VersionId": each["VersionId"]}
        kept = client.get_object_retention(**named)["Retention"]
        assert kept["Mode"] == "COMPLIANCE"
        assert abs(kept["RetainUntilDate"] - made) < timedelta(seconds=2)
        for who in (client, bucket.client("writer"), bucket.client("pruner")):
            with pytest.raises(botocore.exceptions.ClientError):
                who.delete_object(**named)
    assert client.list_object_versions(Bucket=BUCKET, Prefix=f"{PATH}/kept/")["Versions"] == versions


async def test_it_is_restored_by_who_may_only_read(
    source: Source, bucket: LockedBucket, made: datetime, target: WeaviateCluster, tmp_path: Path
) -> None:
    assert made
    await emptied(target, source.dataset)
    store = bucket.as_role("restorer")
    order = restore_order(target, store, backup_id="kept")
    await whole_restore(tmp_path, target, store, order, source.collections)
    assert differences(source.before, await observed(target, source.dataset)) == []


async def test_a_canceled_backup_of_a_writer_ends_although_its_objects_stay(
    source: Source, bucket: LockedBucket, tmp_path: Path
) -> None:
    store = bucket.as_role("writer")
    order = backup_order(source.cluster, store, source.collections, backup_id="canceled")
    data_path = source.cluster.nodes[0].data_path
    async with agent_process(tmp_path, order=order, data_path=data_path, credentials=store.credentials) as agent:
        await agent.step(Step.FREEZE)
        await agent.step(Step.UPLOAD, collections=source.collections)
        refused = await agent.failure(Step.DISCARD)
        assert refused.failure is not None
        assert (refused.failure.reason, refused.failure.transient) == ("AccessDenied", False)
        await agent.step(Step.RELEASE)
    listed = bucket.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{PATH}/canceled/")
    assert listed["KeyCount"] > 0
    assert not [each for each in listed["Contents"] if each["Key"].endswith("backup_config.json")]
