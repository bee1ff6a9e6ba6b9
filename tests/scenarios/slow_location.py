"""A location whose store is slow to give and take, so that something can be killed in the middle of a transfer."""

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster.throttle import Throttle, throttled
from tests.scenarios.world import World


@contextmanager
def slow_location(world: World, *, bytes_per_second: int) -> Iterator[Throttle]:
    """A location `slow` whose store is behind a proxy, which lets the location's probe through at full speed."""
    host, port = world.lab.store.host_and_port.split(":")
    with throttled(host, (host, int(port)), bytes_per_second=0) as throttle:
        world.locate("slow", endpoint=f"{host}:{throttle.port}")
        world.kubectl.wait("weaviatebackuplocation", "slow", "condition=Ready", timeout_seconds=90)
        throttle.bytes_per_second = bytes_per_second
        yield throttle
