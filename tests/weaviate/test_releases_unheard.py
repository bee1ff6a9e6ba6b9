"""A release that the server did not hear is no release, whichever of its calls was lost. No server."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.places import path_of, place_of

from weaviate_backup.errors import BackupError, Permanent, Transient
from weaviate_backup.weaviate import pause_driver, pause_staging, snapshot_staging
from weaviate_backup.weaviate.pause_driver import PauseDriver
from weaviate_backup.weaviate.shard_source import GONE, ShardCut
from weaviate_backup.weaviate.snapshot_driver import CALLS, SnapshotDriver
from weaviate_backup.weaviate.write_capture import log_place

UID = "6f1c2a9e-0d3b-4a52-9a3e-1f0d8c7b6a55"
CUT = ShardCut("Article", "s1", driver="", files=(), halt_seconds=0.0)
CODES = [*GONE, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.FAILED_PRECONDITION]


class Stub:
    """Answers each call with a code, None with success, and counts."""

    def __init__(self, **codes: grpc.StatusCode | None) -> None:
        self.codes = codes
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*_: object, **__: object) -> None:
            self.calls.append(name)
            code = self.codes.get(name)
            if code is not None:
                metadata = grpc.aio.Metadata()
                raise grpc.aio.AioRpcError(code, metadata, metadata, details="no")

        return call


def snapshots_of(data: Path, stub: Stub) -> SnapshotDriver:
    driver = SnapshotDriver("127.0.0.1", 1, data_root=place_of(data), operation_uid=UID)
    driver._stub = driver._capture._stub = stub  # type: ignore[assignment]
    return driver


def captured_in(data: Path, driver: SnapshotDriver) -> Path:
    place = path_of(log_place(place_of(data), "Article", "s1", driver._capture_id("Article", "s1")))
    place.parent.mkdir(parents=True)
    place.touch()
    return place


def stagings_in(data: Path) -> list[Path]:
    """Of every call that a cut makes."""
    names = [
        snapshot_staging.staging_directory(
            place_of(data), snapshot_staging.operation_id(UID, "Article", "s1", number), "Article"
        ).name
        for number in range(CALLS)
    ]
    for name in names:
        (data / name).mkdir()
    return [data / name for name in names]


@pytest.mark.parametrize("lost", ["ReleaseReplicaSnapshot", "StopChangeCapture"])
@pytest.mark.parametrize("code", CODES, ids=lambda it: it.name)
async def test_a_snapshot_is_let_go_of_when_every_call_was_heard(
    tmp_path: Path, lost: str, code: grpc.StatusCode
) -> None:
    stub = Stub(**{lost: code})
    driver, stagings = snapshots_of(tmp_path, stub), stagings_in(tmp_path)
    captured = captured_in(tmp_path, driver)
    if code in GONE:
        await driver.release(CUT)
    else:
        with pytest.raises(Transient, match="ServerHolds: Weaviate was not told to let go of Article/s1"):
            await driver.release(CUT)
    assert sorted(stub.calls) == ["ReleaseReplicaSnapshot"] * CALLS + ["StopChangeCapture"], "all of it is tried"
    assert not any(each.exists() for each in stagings), "what pins the volume goes in any case"
    assert captured.exists() is (lost == "StopChangeCapture" and code not in GONE), "it may still be written to"
    await driver.close()


@pytest.mark.parametrize("code", CODES, ids=lambda it: it.name)
async def test_a_halted_shard_is_let_go_of_when_the_server_heard_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: grpc.StatusCode
) -> None:
    monkeypatch.setattr(pause_driver, "RESUME_ATTEMPTS", 1)
    stub = Stub(ResumeFileActivity=code)
    driver = PauseDriver("127.0.0.1", 1, data_root=place_of(tmp_path), operation_uid=UID)
    driver._stub = stub  # type: ignore[assignment]
    staging = driver._staging("Article", "s1")
    live = tmp_path / "article" / "s1"
    live.mkdir(parents=True)
    pause_staging.prepare(staging, place_of(live))
    if code in GONE:
        await driver.release(CUT)
    else:
        with pytest.raises(Transient, match="ServerHolds: Weaviate was not told to let go of Article/s1"):
            await driver.release(CUT)
    assert staging.exists() is (code not in GONE), "its mark stays for the next release"
    await driver.close()


@pytest.mark.parametrize("driver", ["snapshot", "pause"])
async def test_why_a_cut_failed_is_told_and_not_that_its_release_did(tmp_path: Path, driver: str) -> None:
    class Broken:
        async def cut(self, *_: object) -> ShardCut:
            raise Permanent("ShardNotFound", "no")

        async def release(self, *_: object) -> None:
            raise Transient("ServerHolds", "neither")

    made: Any = {"snapshot": SnapshotDriver, "pause": PauseDriver}[driver](
        "127.0.0.1", 1, data_root=place_of(tmp_path), operation_uid=UID
    )
    made._cut, made._release = Broken().cut, Broken().release
    with pytest.raises(BackupError, match="ShardNotFound"):
        await made.cut("Article", "s1", schema_version=0)
    await made.close()
