"""The database takes reads and writes during a backup, and what was acknowledged before a shard's cut comes back."""

import json
import time
from collections.abc import Iterator
from datetime import datetime

import pytest
import zstandard
from e2e.bench import server_backup
from e2e.cluster import manifests
from e2e.dataset.observation import wait_until_answering
from e2e.dataset.steady_load import SteadyLoad, impossible, missed, percentiles
from e2e.dataset.weaviate_http import Weaviate
from tests.scenarios.world import World

pytestmark = pytest.mark.lab
COLLECTIONS = {"LoadAlone": 1, "LoadReplicated": 2}
BEFORE_SECONDS = 8.0
KINDS = ("insert", "update", "delete", "nearVector", "filter")


@pytest.fixture
def load(world: World) -> Iterator[SteadyLoad]:
    world.remove_data()
    load = SteadyLoad(world.lab.weaviate_urls, COLLECTIONS)
    load.prepare()
    yield load
    load.stop()
    for name in COLLECTIONS:
        world.weaviate.delete_collection(name)


def _cuts(world: World, backup_id: str) -> dict[tuple[str, str], tuple[datetime, datetime]]:
    """(collection, node) -> begin and end of that replica's cut, out of the nodes' manifests."""
    spans = {}
    for node in world.lab.weaviate_nodes:
        path = world.lab.store.bucket_directory / backup_id / node / "manifest.json.zst"
        text = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        for line in map(json.loads, text.splitlines()):
            if line["kind"] == "shard":
                began, ended = (datetime.fromisoformat(line[key]) for key in ("started_at", "ended_at"))
                spans[line["collection"], node] = began, ended
    return spans


def _report(load: SteadyLoad, spans: dict[str, tuple[float, float]]) -> str:
    lines = []
    for kind in KINDS:
        for name, (since, until) in spans.items():
            count, p50, p99 = percentiles(load.requests, kind, since, until)
            lines.append(f"{kind:<11} {name:<28} {count:>5} requests  p50 {p50:6.1f} ms  p99 {p99:7.1f} ms")
    return "\n".join(lines)


def test_reads_and_writes_go_on_during_a_backup_and_none_is_lost(world: World, load: SteadyLoad) -> None:
    name, servers = world.name(), world.name()
    load.start()
    started = time.monotonic()
    time.sleep(BEFORE_SECONDS)
    ours_began = time.monotonic()
    world.complete(manifests.backup(name, include=[*COLLECTIONS]))
    ours_ended = time.monotonic()
    time.sleep(1)
    servers_began = time.monotonic()
    server_backup.back_up(world.weaviate, servers, level="ZstdBestSpeed", include=tuple(COLLECTIONS))
    servers_ended = time.monotonic()
    load.stop()
    print()
    print(
        _report(
            load,
            {
                "before": (started, ours_began),
                "during our backup": (ours_began, ours_ended),
                "during the server's backup": (servers_began, servers_ended),
            },
        )
    )
    assert [request for request in load.requests if request.failure] == []

    cuts = _cuts(world, name)
    assert len(cuts) == sum(COLLECTIONS.values())
    for collection in COLLECTIONS:
        world.weaviate.delete_collection(collection)
    world.complete(manifests.restore(world.name(), source={"backupRef": {"name": name}}))
    wait_until_answering(world.lab.weaviate_urls, [*COLLECTIONS])
    for (collection, node), (began, _) in cuts.items():
        # A node answers from its own replica: each was cut at its own time and has to be whole by itself. Restored,
        # replicas give each other what they lack, so what the last one of them saw may be there, too.
        ended = max(span[1] for (of, _), span in cuts.items() if of == collection)
        replica = Weaviate(world.lab.weaviate_urls[world.lab.weaviate_nodes.index(node)])
        tags, by_vector, by_tag = missed(replica, collection)
        took_seconds = (cuts[collection, node][1] - began).total_seconds()
        wrong = impossible(load.history[collection], tags, cut_began=began, cut_ended=ended)
        print(
            f"{collection} on {node}: cut in {took_seconds:.3f} s, {len(tags)} objects came back, "
            f"{len(wrong)} wrong, {len(by_vector)} missed by their vector, {len(by_tag)} by a filter"
        )
        assert wrong == []
        assert (by_vector, by_tag) == ([], [])
