"""Replaying late writes into a collection that people write to already: what they wrote since stays as it is, and a
replay that died between its deletions and its puts loses no object."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.places import place_of
from tests.weaviate_server import WeaviateCluster, WeaviateNode

from weaviate_backup.beneath import Place
from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.late_writes import Begun, Write, final_writes, replay
from weaviate_backup.weaviate.protocol import file_replication_pb2_grpc
from weaviate_backup.weaviate.rpc import open_channel
from weaviate_backup.weaviate.shard_objects import objects_url, open_data_port
from weaviate_backup.weaviate.write_capture import WriteCapture

pytestmark = [pytest.mark.weaviate, pytest.mark.asyncio(loop_scope="session")]
CLASS = "Note"
CUT, LATER = "written during the cut", "written by the application since"
KEPT, UPDATED, DELETED, ANEW, GONE = (str(uuid.UUID(int=number)) for number in range(1, 6))
"""Objects that are captured; the last is captured as deleted."""


def note(identity: str, text: str) -> dict[str, Any]:
    return {"class": CLASS, "id": identity, "vector": [float(len(text)), 1.0, 2.0], "properties": {"text": text}}


@dataclass(frozen=True)
class Captured:
    cluster: WeaviateCluster
    node: WeaviateNode
    shard: str
    file: Place

    async def replay(self, begun: Begun | None = None) -> int:
        host, port = self.node.host, self.node.data_port
        return await replay(host, port, collection=CLASS, shard=self.shard, captured=self.file, begun=begun)

    async def texts(self) -> dict[str, str]:
        """What people see, by id."""
        found = await self.cluster.call("GET", f"/v1/objects?class={CLASS}")
        return {each["id"]: each["properties"]["text"] for each in found["objects"]}

    async def found_by_vector(self, text: str) -> set[str]:
        await self.cluster.wait_until_indexed()
        query = f"{{ Get {{ {CLASS}(nearVector: {{ vector: {note('', text)['vector']}, distance: 0.0001 }})"
        data = await self.cluster.graphql(query + " { _additional { id } } } }")
        return {each["_additional"]["id"] for each in data["Get"][CLASS]}


@pytest_asyncio.fixture(loop_scope="session")
async def captured(weaviate: WeaviateCluster, node: WeaviateNode, tmp_path: Path) -> AsyncIterator[Captured]:
    """Four objects were written and one deleted while a shard was cut."""
    await weaviate.create({"class": CLASS, "properties": [{"name": "text", "dataType": ["text"]}]})
    await weaviate.insert([note(each, "before") for each in (KEPT, UPDATED, DELETED, ANEW, GONE)])
    shard = (await weaviate.call("GET", f"/v1/schema/{CLASS}/shards"))[0]["name"]
    channel = open_channel(node.host, node.data_port)
    capture = WriteCapture(file_replication_pb2_grpc.FileReplicationServiceStub(channel), (), address="test")
    await capture.start(CLASS, shard, "wvb-replay")
    await weaviate.insert([note(each, CUT) for each in (KEPT, UPDATED, DELETED, ANEW)])
    await weaviate.call("DELETE", f"/v1/objects/{CLASS}/{GONE}")
    assert await capture.fetch(CLASS, shard, "wvb-replay", place_of(tmp_path)) == (late_writes.LATE_WRITES,)
    await channel.close()
    yield Captured(weaviate, node, shard, place_of(tmp_path) / late_writes.LATE_WRITES)
    await weaviate.call("DELETE", f"/v1/schema/{CLASS}")


async def test_what_was_written_since_the_restore_stays(captured: Captured) -> None:
    await captured.cluster.insert([note(UPDATED, LATER)])
    await captured.cluster.call("DELETE", f"/v1/objects/{CLASS}/{DELETED}")
    await captured.cluster.call("DELETE", f"/v1/objects/{CLASS}/{ANEW}")
    await captured.cluster.insert([note(each, LATER) for each in (ANEW, GONE)])
    expected = {KEPT: CUT, UPDATED: LATER, ANEW: LATER, GONE: LATER}
    for _ in range(2):
        assert await captured.replay() == 1, "only the one that nobody touched"
        assert await captured.texts() == expected
        assert await captured.found_by_vector(CUT) == {KEPT}
        assert await captured.found_by_vector(LATER) == {UPDATED, ANEW, GONE}


async def test_objects_of_the_cut_become_what_was_captured(captured: Captured) -> None:
    assert await captured.replay() == 5
    assert await captured.texts() == dict.fromkeys((KEPT, UPDATED, DELETED, ANEW), CUT)
    assert await captured.found_by_vector(CUT) == {KEPT, UPDATED, DELETED, ANEW}


async def test_a_replay_that_died_behind_its_deletions_is_completed(captured: Captured) -> None:
    writes: list[Write] = list(final_writes(captured.file))
    url = objects_url(captured.node.host, captured.node.data_port, collection=CLASS, shard=captured.shard)
    async with open_data_port(None, timeout_seconds=30) as port:
        await late_writes._delete(port, url, writes)
    assert await captured.texts() == {}
    assert await captured.replay(Begun(0, 5)) == 5
    assert await captured.texts() == dict.fromkeys((KEPT, UPDATED, DELETED, ANEW), CUT)
    assert await captured.found_by_vector(CUT) == {KEPT, UPDATED, DELETED, ANEW}
