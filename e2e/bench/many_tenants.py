"""Backup and restore of very many real tenants, in the lab: `python -m e2e.bench.many_tenants [--tenants N]`.

Of ten tenants one is active, six are asleep and three were never active. Each that ever was has a few objects. Told are
the seconds of every phase and the most memory that an agent held; what comes back is compared: every tenant's status,
and of a sample of each kind the objects, and what is found by their vectors.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from e2e.bench.agent_memory import AgentMemory
from e2e.cluster import manifests
from e2e.cluster.following import follow
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.surroundings import surroundings
from e2e.dataset.observation import wait_until_answering
from e2e.dataset.shapes import identifier
from e2e.dataset.weaviate_http import Weaviate
from e2e.show.screen import Screen

COLLECTION, NAME = "Tenants", "many-tenants"
ACTIVE, ASLEEP, NEVER_ACTIVE = "ACTIVE", "INACTIVE", "never active"
OF_TEN = (ACTIVE, *[ASLEEP] * 6, *[NEVER_ACTIVE] * 3)
OBJECTS, DIMENSIONS = 3, 16
AT_ONCE = 100
"""Tenants in one request: the server changes no more."""
SAMPLED = 40
"""Tenants of each kind."""
OPERATION_SECONDS = 3600


def name_of(number: int) -> str:
    return f"tenant-{number:06}"


def kind_of(number: int) -> str:
    return OF_TEN[number % len(OF_TEN)]


def fill(weaviate: Weaviate, tenants: int, screen: Screen) -> None:
    weaviate.delete_collection(COLLECTION)
    weaviate.create_collection(
        {
            "class": COLLECTION,
            "vectorizer": "none",
            "vectorIndexType": "hnsw",
            "properties": [{"name": "tenant", "dataType": ["text"]}],
            "replicationConfig": {"factor": 1},
            "multiTenancyConfig": {"enabled": True},
        }
    )
    with screen.counting("tenants", tenants) as counter:
        for start in range(0, tenants, AT_ONCE):
            numbers = range(start, min(tenants, start + AT_ONCE))
            never = [name_of(number) for number in numbers if kind_of(number) is NEVER_ACTIVE]
            filled = [name_of(number) for number in numbers if kind_of(number) is not NEVER_ACTIVE]
            body = [{"name": name, "activityStatus": "INACTIVE"} for name in never]
            weaviate.call("POST", f"/v1/schema/{COLLECTION}/tenants", body)
            weaviate.add_tenants(COLLECTION, filled)
            weaviate.insert([_object(name, number) for name in filled for number in range(OBJECTS)])
            asleep = [name_of(number) for number in numbers if kind_of(number) is ASLEEP]
            weaviate.set_tenants(COLLECTION, asleep, "INACTIVE")
            counter.add(len(numbers))


def _object(tenant: str, number: int) -> dict[str, Any]:
    chance = random.Random(f"{tenant}/{number}")
    return {
        "class": COLLECTION,
        "tenant": tenant,
        "id": identifier(COLLECTION, tenant, number),
        "properties": {"tenant": tenant},
        "vector": [round(chance.gauss(0, 1), 6) for _ in range(DIMENSIONS)],
    }


def differences(weaviate: Weaviate, before: dict[str, str], tenants: int) -> Iterator[str]:
    """Of the restored to what was there, and to what was put in."""
    statuses = weaviate.tenants(COLLECTION)
    wrong = [name for name in {*before, *statuses} if before.get(name) != statuses.get(name)]
    if wrong:
        yield f"{len(wrong)} tenants have another status, {wrong[0]}: {before.get(wrong[0])}, {statuses.get(wrong[0])}"
    for kind in dict.fromkeys(OF_TEN):
        numbers = [number for number in range(tenants) if kind_of(number) is kind]
        sample = [name_of(number) for number in random.Random(kind).sample(numbers, min(SAMPLED, len(numbers)))]
        if kind is not ACTIVE:
            weaviate.set_tenants(COLLECTION, sample, "ACTIVE")
        for tenant in sample:
            yield from _differences_of(weaviate, tenant, () if kind is NEVER_ACTIVE else range(OBJECTS))


def _differences_of(weaviate: Weaviate, tenant: str, numbers: Sequence[int]) -> Iterator[str]:
    wanted = {each["id"]: each for each in (_object(tenant, number) for number in numbers)}
    found = {each["id"]: each for each in weaviate.objects(COLLECTION, tenant)}
    if wanted.keys() != found.keys():
        yield f"{tenant} has {len(found)} of {len(wanted)} objects"
    for key, entry in wanted.items():
        near = f'nearVector: {{vector: {entry["vector"]}}}, tenant: "{tenant}", limit: 1'
        hits = weaviate.graphql(f"{{ Get {{ {COLLECTION}({near}) {{ _additional {{ id }} }} }} }}")["Get"][COLLECTION]
        if [hit["_additional"]["id"] for hit in hits] != [key]:
            yield f"{tenant}: {key} is not found by its vector"


def operate(kubectl: Kubectl, manifest: manifests.Manifest) -> str:
    """Phases with their seconds, and memory, in words."""
    kind, name = manifest["kind"].lower(), manifest["metadata"]["name"]
    entered: dict[str, float] = {}
    started = time.monotonic()
    with AgentMemory() as memory:
        kubectl.apply(manifest)
        for view in follow(kubectl, kind, name, timeout_seconds=OPERATION_SECONDS):
            entered.setdefault(view.phase, time.monotonic() - started)
    if not view.is_completed:
        raise SystemExit(f"{kind} {name} ended {view.phase}: {view.reason}: {view.message}")
    ends = [*list(entered.values())[1:], entered["Completed"]]
    spans = [f"{phase} {end - begin:.0f} s" for (phase, begin), end in zip(entered.items(), ends, strict=True)][:-1]
    return f"{kind} {entered['Completed']:.0f} s ({', '.join(spans)}), {memory.largest_bytes >> 20} MiB at most"


def main() -> int:
    parser = argparse.ArgumentParser(prog="e2e.bench.many_tenants", description=__doc__)
    parser.add_argument("--tenants", type=int, default=20_000)
    options = parser.parse_args()
    lab, screen = surroundings(), Screen()
    weaviate, kubectl = Weaviate(lab.weaviate_urls[0], read_seconds=600), Kubectl(lab.namespace)
    weaviate.wait_until_synchronized(nodes=len(lab.weaviate_urls))
    began = time.monotonic()
    fill(weaviate, options.tenants, screen)
    screen.line(f"{options.tenants} tenants, filled in {time.monotonic() - began:.0f} s")
    before = weaviate.tenants(COLLECTION)
    screen.line(operate(kubectl, manifests.backup(NAME, include=[COLLECTION])))
    weaviate.delete_collection(COLLECTION)
    screen.line(operate(kubectl, manifests.restore(NAME, source={"backupRef": {"name": NAME}})))
    wait_until_answering(lab.weaviate_urls, [])
    wrong = list(differences(weaviate, before, options.tenants))
    for line in wrong[:20]:
        screen.line(f"differs: {line}")
    screen.line(f"{len(wrong)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
