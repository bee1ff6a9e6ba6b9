"""The lab as a command inside it finds it: read once from the environment that `e2e/lab/run` gives."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NEEDED = ("KUBECONFIG", "LAB_NAMESPACE", "WEAVIATE_URLS", "LAB_DIR")


class NotInLab(Exception):
    """The message holds the command that enters the lab."""


@dataclass(frozen=True)
class Store:
    """The lab's S3 server, as a client of it needs it."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    directory: Path
    """Where the server keeps its objects as plain files."""

    @property
    def url(self) -> str:
        return self.endpoint if "://" in self.endpoint else f"http://{self.endpoint}"

    @property
    def host_and_port(self) -> str:
        return self.endpoint.split("://")[-1].rstrip("/")

    @property
    def bucket_directory(self) -> Path:
        return self.directory / self.bucket


@dataclass(frozen=True)
class StoreOfAnyKind:
    """A store as the lab describes it."""

    kind: str
    location: dict[str, Any]
    """Spec of its WeaviateBackupLocation; the Secret that it names is called as the kind is."""
    credentials: dict[str, str]
    """Content of that Secret; empty when the store asks for none."""
    directory: Path
    """Where the server keeps its data."""

    @property
    def root(self) -> str:
        """Name of the bucket or container; empty for a directory."""
        place = self.location[self.kind]
        return str(place.get("bucket") or place.get("container") or "")

    def as_s3(self) -> Store:
        """What a client of S3 needs. Only for that kind."""
        return Store(
            endpoint=self.location["s3"]["endpoint"],
            bucket=self.root,
            access_key=self.credentials["AWS_ACCESS_KEY_ID"],
            secret_key=self.credentials["AWS_SECRET_ACCESS_KEY"],
            directory=self.directory,
        )


@dataclass(frozen=True)
class Surroundings:
    """Where everything is."""

    namespace: str
    weaviate_urls: tuple[str, ...]
    directory: Path
    stores: Mapping[str, StoreOfAnyKind]
    """By kind."""

    def store_of_kind(self, kind: str) -> StoreOfAnyKind:
        """Refuses in a lab that has none of them."""
        if kind not in self.stores:
            raise NotInLab(
                f"this lab has no store of kind {kind!r}: run this as ./e2e/lab/run --stores {kind} -- COMMAND"
            )
        return self.stores[kind]

    @property
    def store(self) -> Store:
        """The S3 server. Refuses in a lab that has none."""
        return self.store_of_kind("s3").as_s3()

    @property
    def weaviate_nodes(self) -> tuple[str, ...]:
        return tuple(f"weaviate-{ordinal}" for ordinal in range(len(self.weaviate_urls)))

    def volume(self, ordinal: int) -> Path:
        """The data root of a Weaviate pod, as the host sees it."""
        return self.directory / "volumes" / f"weaviate-data-weaviate-{ordinal}"


def surroundings(environment: Mapping[str, str] = os.environ) -> Surroundings:
    """Refuses outside of the lab."""
    missing = [name for name in _NEEDED if not environment.get(name)]
    if missing:
        raise NotInLab(f"{', '.join(missing)} not set: run this as ./e2e/lab/run --stores s3 -- COMMAND")
    directory = Path(environment["LAB_DIR"])
    described: dict[str, Any] = json.loads((directory / "stores.json").read_text())
    return Surroundings(
        namespace=environment["LAB_NAMESPACE"],
        weaviate_urls=tuple(environment["WEAVIATE_URLS"].split()),
        directory=directory,
        stores={
            kind: StoreOfAnyKind(kind, **description, directory=directory / "stores" / kind)
            for kind, description in described.items()
        },
    )
