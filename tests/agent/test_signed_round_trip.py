"""A real server's data, backed up signed, restored pinned and signed, by us and by a stock server; and spoilt."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from e2e.dataset.weaviate_http import Weaviate
from tests.agent.conftest import Source, emptied, observed
from tests.agent.surroundings import Surroundings, backup_order, nothing_left, restore_order, worker_order
from tests.agent.test_backup_and_restore import succeeded
from tests.agent_process import Agent, agent_process
from tests.weaviate_server import WeaviateCluster

from weaviate_backup.api.location import SecretKeyReference, Signing, Verification
from weaviate_backup.core.session import Committed, Step
from weaviate_backup.layout.signatures import key_id

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
KEY = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
NAMES = ("Draft", "Photo")
SIGNATURE = "manifest.json.sig"


def signing(store: Surroundings) -> Surroundings:
    """The same place, where backups are signed and unsigned ones refused."""
    public = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
    wishes = {
        "signing": Signing(key_secret_ref=SecretKeyReference(name="signer", key="key")),
        "verify": Verification(public_keys=(public,), require_signed=True),
    }
    return replace(store, location=store.location.model_copy(update=wishes))


async def signed_backup(directory: Path, cluster: WeaviateCluster, store: Surroundings, backup_id: str) -> Committed:
    order = backup_order(cluster, store, NAMES, backup_id=backup_id)
    node, credentials = cluster.nodes[0], store.credentials
    (directory / "signing").mkdir(parents=True)
    (directory / "signing" / "key").write_bytes(base64.b64encode(KEY.private_bytes_raw()))
    async with agent_process(directory, order=order, data_path=node.data_path, credentials=credentials) as agent:
        await agent.step(Step.FREEZE)
        uploaded = (await agent.step(Step.UPLOAD, collections=NAMES)).uploaded
        assert uploaded is not None
        (directory / "worker").mkdir()
        async with agent_process(
            directory / "worker", order=worker_order(order), data_path=None, credentials=credentials
        ) as worker:
            await worker.step(Step.VERIFY, verify_node=order.node)
            refused = await worker.failure(Step.COMMIT, verified={order.node: uploaded.manifest_sha256})
            assert refused.failure is not None
            assert (refused.failure.reason, refused.failure.transient) == ("SecretKeyNotFound", True)
        report = await agent.step(Step.COMMIT, verified={order.node: uploaded.manifest_sha256})
        await agent.step(Step.RELEASE)
    assert report.committed is not None
    return report.committed


@asynccontextmanager
async def restoring(
    directory: Path, cluster: WeaviateCluster, store: Surroundings, backup_id: str
) -> AsyncIterator[Agent]:
    order = restore_order(cluster, store, backup_id=backup_id)
    async with agent_process(
        directory, order=order, data_path=cluster.nodes[0].data_path, credentials=store.credentials
    ) as agent:
        yield agent
        await agent.step(Step.RELEASE)


async def problems_of(agent: Agent) -> list[str]:
    inspected = (await agent.step(Step.INSPECT)).inspected
    assert inspected is not None
    return [problem.reason for problem in inspected.contents.problems]


async def test_a_signed_backup_comes_back_by_us_and_by_a_stock_server(
    source: Source, target: WeaviateCluster, tmp_path: Path
) -> None:
    store = signing(source.store)
    done = await signed_backup(tmp_path / "backup", source.cluster, store, "signed")
    assert done.signed_by == key_id(KEY.public_key())
    assert (store.objects / "signed" / SIGNATURE).is_file()
    await emptied(target, source.dataset)
    async with restoring(tmp_path / "restore", target, store, "signed") as agent:
        assert await problems_of(agent) == []
        assert agent.backup_sha256 == done.backup_sha256
        for step in (Step.DOWNLOAD, Step.PLACE, Step.APPLY, Step.CONFIRM):
            await agent.step(step, collections=NAMES)
    ours = await observed(target, source.dataset)
    assert ours.fingerprints["Photo"] == source.before.fingerprints["Photo"]
    await emptied(target, source.dataset)
    await target.call("POST", "/v1/backups/s3/signed/restore", {})
    await succeeded(target, "/v1/backups/s3/signed/restore")
    stocks = await observed(target, source.dataset)
    assert stocks.fingerprints["Photo"] == source.before.fingerprints["Photo"]


async def test_a_signature_that_is_gone_or_anothers_ends_it_before_anything(
    source: Source, target: WeaviateCluster, tmp_path: Path
) -> None:
    store = signing(source.store)
    for name in ("first", "second"):
        await signed_backup(tmp_path / name, source.cluster, store, name)
    folder = store.objects / "first"
    before = (folder / SIGNATURE).read_bytes()
    async with restoring(tmp_path / "restore", target, store, "first") as agent:
        for number, (content, reason) in enumerate(
            (
                (None, "SignatureMissing"),
                ((store.objects / "second" / SIGNATURE).read_bytes(), "SignatureInvalid"),
                (before[:-20] + b"AAAA" + before[-16:], "SignatureInvalid"),
            )
        ):
            (folder / SIGNATURE).unlink(missing_ok=True)
            if content is not None:
                (folder / SIGNATURE).write_bytes(content)
            assert await problems_of_again(agent, number) == [reason]


async def problems_of_again(agent: Agent, number: int) -> list[str]:
    """A finished step is not taken again by the same process."""
    if number:
        agent.kill()
        await agent.start()
    return await problems_of(agent)


async def test_what_changes_between_the_steps_is_never_placed_nor_applied(
    source: Source, target: WeaviateCluster, tmp_path: Path
) -> None:
    """The attacker writes another good backup of the same cluster in the place of the one that was judged."""
    for name in ("judged", "his"):
        await signed_backup(tmp_path / name, source.cluster, signing(source.store), name)
    await emptied(target, source.dataset)
    folder = source.store.objects / "judged"
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    his = {
        folder / path.relative_to(source.store.objects / "his"): path.read_bytes().replace(b'"his"', b'"judged"')
        for path in (source.store.objects / "his").rglob("*.json")
    }
    async with restoring(tmp_path / "restore", target, source.store, "judged") as agent:
        assert await problems_of(agent) == []
        write(his)
        await refuses(agent, Step.DOWNLOAD)
        write(kept)
        await agent.step(Step.DOWNLOAD, collections=NAMES)
        await agent.step(Step.PLACE, collections=NAMES)
        write(his)
        await refuses(agent, Step.APPLY)
    assert await asyncio.to_thread(Weaviate(target.nodes[0].rest_url).collections) == {}
    assert nothing_left(target)


def write(contents: dict[Path, bytes]) -> None:
    for path, content in contents.items():
        path.write_bytes(content)


async def refuses(agent: Agent, step: Step) -> None:
    known = await agent.failure(step, collections=NAMES)
    assert known.failure is not None
    assert known.failure.reason in ("BackupChanged", "BackupDamaged")
    assert not known.failure.transient
