"""What stands in the URL of a pod: scheme, address and port, each taken for nothing else than that. Pure.

They come from objects that a tenant writes. Put together unseen, `--scheme http://elsewhere/#` is the address of
somebody else, who is then asked from where the operator stands, and with a key of the tenant's choice.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any

from weaviate_backup.errors import Permanent, excerpt

SCHEMES = ("http", "https")
LAST_PORT = 65535


def scheme_of(argument: str | None, container: str) -> str:
    """By the server's argument `--scheme`."""
    if argument and argument not in SCHEMES:
        message = f"argument --scheme of container {container} is {excerpt(argument, 40)!r}"
        raise Permanent("SchemeUnknown", f"{message}; Weaviate is asked by {' or '.join(SCHEMES)}")
    return argument or SCHEMES[0]


def port_of(value: str | int, name: str) -> int:
    """`name` says where it was found."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= LAST_PORT):
        raise Permanent("PortInvalid", f"{name} is {excerpt(text, 40)!r}; a port is a number from 1 to {LAST_PORT}")
    return int(text)


def pod_address(pod: Mapping[str, Any]) -> str:
    """The pod's own, as the API server has it."""
    return address_of(str((pod.get("status") or {}).get("podIP")), f"pod {pod['metadata']['name']}")


def address_of(found: str, whose: str) -> str:
    """An IP address, and one that a pod can have. `whose`: who is said to have it."""
    try:
        address = ipaddress.ip_address(found)
    except ValueError as error:
        raise Permanent("PodAddressInvalid", f"{whose} has {excerpt(found, 40)!r} for its IP address") from error
    if address.is_link_local or address.is_multicast or address.is_unspecified or "%" in found:
        raise Permanent("PodAddressInvalid", f"{whose} has {address} for its IP address, which is no pod's")
    return address.compressed
