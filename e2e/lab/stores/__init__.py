"""Stores of the lab: servers beside the nodes, and what tells Kubernetes and Weaviate about them."""

import json
from pathlib import Path
from typing import Protocol

from e2e.lab.processes import Processes
from e2e.lab.stores.azure import prepare_azure, start_azure
from e2e.lab.stores.filesystem import start_filesystem
from e2e.lab.stores.gcs import start_gcs
from e2e.lab.stores.s3 import start_s3
from e2e.lab.stores.store import Store

PROGRAMS = {"s3": ("versitygw",), "gcs": ("fake-gcs-server",), "azure": ("azurite",)}
"""What has to be built for a kind."""
DESCRIPTION = "stores.json"
"""File in LAB_DIR: each kind's location and credentials, for the command. Only its owner may read it."""


class _StartStore(Protocol):
    def __call__(self, directory: Path, processes: Processes) -> Store: ...


_START: dict[str, _StartStore] = {
    "s3": start_s3,
    "gcs": start_gcs,
    "azure": start_azure,
    "filesystem": start_filesystem,
}
KINDS = tuple(_START)


def require_known(kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of store; there are {', '.join(KINDS)}")


def start_store(kind: str, *, lab_directory: Path, processes: Processes) -> Store:
    """Starts one store; its data lies in `LAB_DIR/stores/<kind>`."""
    directory = lab_directory / "stores" / kind
    directory.mkdir(parents=True)
    return _START[kind](directory, processes)


def finish_stores(stores: list[Store], *, lab_directory: Path, processes: Processes) -> None:
    """Waits until all of them can be used, and describes them for the command."""
    for store in stores:
        if store.kind == "azure":
            prepare_azure(store, processes)
    description = lab_directory / DESCRIPTION
    description.touch(mode=0o600)
    description.write_text(
        json.dumps({store.kind: {"location": store.location, "credentials": store.credentials} for store in stores})
    )
