"""A probe does to a store what operations do, tells a shared store from one that is not, and leaves nothing behind."""

import asyncio
import dataclasses
import http.server
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from tests.agent.throttle import slow_line
from tests.agent_process import Agent, agent_process
from tests.locations.trying import UID, Trial, tried
from tests.ports import free_port
from tests.s3_server import running_s3_server

from weaviate_backup.agent import probe as probing
from weaviate_backup.agent import trials
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.beneath import Root
from weaviate_backup.core.session import ProbeAction, SessionOrder, Step, StoreOrder
from weaviate_backup.errors import Permanent
from weaviate_backup.storage import clock
from weaviate_backup.storage.filesystem import FilesystemStore
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo

VOLUME = {"filesystem": {"volume": {"nfs": {"server": "s", "path": "/"}}, "path": "prod"}}


def order(node: str, *, attempt: str = "wvb-probe-1", lease_seconds: int = 60) -> SessionOrder:
    return SessionOrder(
        operation_uid=UID,
        node=node,
        backup_id=attempt,
        location=LocationSpec.model_validate(VOLUME),
        server_version="",
        weaviate=None,
        lease_seconds=lease_seconds,
        work=StoreOrder(),
    )


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def test_workers_meet_in_a_shared_store_only_and_clean_up(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "store").mkdir(parents=True)
    other.mkdir()
    (other / "store").symlink_to(one / "store")
    async with (
        agent_process(one, order=order("store-0"), data_path=None) as first,
        agent_process(other, order=order("store-1"), data_path=None) as second,
    ):
        await first.step(Step.PROBE)
        lonely = await first.failure(Step.MEET, peers=("store-1",))
        assert lonely.failure is not None
        assert lonely.failure.reason == "LocationNotShared"
        report = await second.step(Step.PROBE)
        assert report.probed is not None
        assert [each.action for each in report.probed.tried if each.failure is None] == [
            action for action in ProbeAction if action not in (ProbeAction.LOCK, ProbeAction.SHARE)
        ]
        assert abs(report.probed.clock_skew_seconds or 99) < 5
        await asyncio.gather(first.step(Step.MEET, peers=("store-1",)), second.step(Step.MEET, peers=("store-0",)))
        assert {path.name for path in files(one / "store")} == {"mark"}
        await asyncio.gather(first.step(Step.RELEASE), second.step(Step.RELEASE))
    assert files(one / "store") == []


async def test_an_old_mark_proves_nothing_and_a_forgotten_worker_removes_its_own(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    one, other = tmp_path / "one", tmp_path / "other"
    for directory in (one, other):
        directory.mkdir()
        (directory / "store").symlink_to(tmp_path / "store")
    async with agent_process(other, order=order("store-1", attempt="wvb-probe-0"), data_path=None) as killed:
        await killed.step(Step.PROBE)
        killed.kill()
    assert [path.name for path in files(tmp_path / "store")] == ["mark"]
    async with agent_process(one, order=order("store-0", lease_seconds=7), data_path=None) as forgotten:
        await forgotten.step(Step.PROBE)
        lonely = await forgotten.failure(Step.MEET, peers=("store-1",))
        assert lonely.failure is not None
        assert lonely.failure.reason == "LocationNotShared"
        await ended(forgotten)
    assert [path.parent.name[-7:] for path in files(tmp_path / "store")] == ["store-1"]


async def ended(agent: Agent) -> None:
    assert agent.process is not None
    await asyncio.to_thread(agent.process.wait, 30)


class Heedless(FilesystemStore):
    """Takes conditions and ignores them, as some stores do."""

    def put(
        self, key: str, make_blocks: MakeBlocks, *, if_absent: bool = False, at_most_bytes: int | None = None
    ) -> ObjectInfo:
        return super().put(key, make_blocks)


@pytest.mark.parametrize(("kind", "lacking"), [(FilesystemStore, False), (Heedless, True)])
def test_a_store_that_ignores_conditions_is_found_out(
    tmp_path: Path, kind: type[FilesystemStore], lacking: bool
) -> None:
    location = LocationSpec.model_validate(VOLUME)
    store = kind(tmp_path)
    trial = trials.Trial(store, location, prefix="p/", word="w", mark=b"m", patient=store)
    attempt = trial.actions[ProbeAction.WRITE_ONCE]
    if lacking:
        with pytest.raises(Permanent, match="WriteOnceUnsupported"):
            attempt()
    else:
        attempt()


async def test_a_slow_line_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent of a part waits in buffers on the way, and the store cannot answer before it has all."""
    monkeypatch.setattr(probing, "PATIENCE", dataclasses.replace(probing.PATIENCE, read_seconds=0.5))
    with running_s3_server(tmp_path / "data") as server:
        server.make_bucket("backups")
        async with slow_line(server.endpoint, bytes_per_second=2e6) as line:
            spec = server.location("backups").model_copy(update={"endpoint": line.address})
            location = {"s3": spec.model_dump(mode="json", by_alias=True, exclude_none=True)}
            verdict, _ = await asyncio.to_thread(tried, Trial(location, server.credentials))
    assert verdict.reason == "Ready", verdict


@pytest.mark.parametrize("held", [(), ("b1/backup_config.json", "b1/node/chunk-1")])
def test_a_read_only_location_is_never_written_to(tmp_path: Path, held: tuple[str, ...]) -> None:
    for key in held:
        path = tmp_path / "prod" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}
    verdict, _ = tried(Trial({**VOLUME, "readOnly": True}, {}, filesystem_root=tmp_path))
    assert verdict.ready
    assert set(verdict.capabilities) == {ProbeAction.CHECK, ProbeAction.LIST, ProbeAction.READ}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))} == before


class Late(http.server.BaseHTTPRequestHandler):
    """A server whose clock is ten minutes ahead, and which refuses who does not sign."""

    def do_HEAD(self) -> None:
        self.send_response_only(403)
        self.send_header("Date", format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def late_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Late) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_a_clock_is_read_from_any_answer(late_server: str, tmp_path: Path) -> None:
    skew_seconds = clock.skew_of_server(late_server)
    assert skew_seconds is not None
    assert 595 < skew_seconds < 605
    assert clock.skew_of_server(f"http://127.0.0.1:{free_port()}/") is None
    now = datetime.now(UTC)
    (tmp_path / "mark").touch()
    (tmp_path / "link").symlink_to(tmp_path / "mark")
    place = Root(tmp_path).place
    assert abs(clock.skew_of_file(place / "mark", written_at=now) or 99) < 5
    for name in ("absent", "link", "link/below"):
        assert clock.skew_of_file(place / name, written_at=now) is None


@pytest.mark.parametrize(
    ("spec", "secret", "url"),
    [
        ({"s3": {"bucket": "bbb"}}, {}, "https://s3.us-east-1.amazonaws.com/"),
        ({"s3": {"bucket": "bbb", "endpoint": "host:9000", "useSSL": False}}, {}, "http://host:9000/"),
        ({"s3": {"bucket": "bbb", "endpoint": "https://host:9000"}}, {}, "https://host:9000/"),
        ({"gcs": {"bucket": "bbb"}}, {}, "https://storage.googleapis.com/"),
        ({"gcs": {"bucket": "bbb", "endpoint": "http://host"}}, {}, "http://host"),
        ({"azure": {"container": "ccc", "account": "acc"}}, {}, "https://acc.blob.core.windows.net/"),
        (
            {"azure": {"container": "ccc"}},
            {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=acc;AccountKey=x==;EndpointSuffix=core.chinacloudapi.cn"},
            "https://acc.blob.core.chinacloudapi.cn/",
        ),
        ({"azure": {"container": "ccc"}}, {"AZURE_STORAGE_CONNECTION_STRING": "BlobEndpoint=http://h/a"}, "http://h/a"),
        ({"azure": {"container": "ccc"}}, {}, None),
        (VOLUME, {}, None),
    ],
)
def test_the_server_behind_a_location(spec: dict[str, object], secret: dict[str, str], url: str | None) -> None:
    assert clock.endpoint_url(LocationSpec.model_validate(spec), secret) == url
