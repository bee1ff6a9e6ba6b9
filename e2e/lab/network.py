"""The lab's addresses and network namespaces.

The sandbox's own network namespace holds a bridge with the control plane, the stores and the command; every node has a
namespace of its own behind a veth pair, and a subnet for its pods. There is no way out to the host.
"""

import subprocess
from pathlib import Path

BRIDGE = "10.244.0.1"
"""Address of everything that runs beside the nodes: API server, DNS, stores."""
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
POD_RANGE = "10.245.0.0/16"


def node_address(number: int) -> str:
    return f"10.244.0.{20 + number}"


def pod_subnet(number: int) -> str:
    return f"10.245.{number}.0/24"


def network_namespace(node: str) -> Path:
    return Path("/run/netns") / node


def make_networks(nodes: tuple[str, ...]) -> None:
    """Makes bridge, namespaces and routes. Runs inside the sandbox, once."""
    lines = [
        "link set lo up",
        "link add br0 type bridge",
        f"addr add {BRIDGE}/24 dev br0",
        "link set br0 up",
        "route add default dev br0",
        f"route add {SERVICE_RANGE} via {node_address(0)}",
    ]
    for number, node in enumerate(nodes):
        _ip(f"netns add {node}")
        lines += [
            f"link add veth-{node} type veth peer name eth0 netns {node}",
            f"link set veth-{node} master br0 up",
            f"route add {pod_subnet(number)} via {node_address(number)}",
        ]
    _ip_batch(lines)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for number, node in enumerate(nodes):
        _ip_batch(
            [
                "link set lo up",
                f"addr add {node_address(number)}/24 dev eth0",
                "link set eth0 up",
                f"route add default via {BRIDGE}",
            ],
            namespace=node,
        )
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        subprocess.run(["nsenter", f"--net={network_namespace(node)}", "sh", "-c", forward], check=True)


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)


def _ip_batch(lines: list[str], *, namespace: str | None = None) -> None:
    scope = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *scope, "-batch", "-"], input="\n".join(lines), text=True, check=True)
