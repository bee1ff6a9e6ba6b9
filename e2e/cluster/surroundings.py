"""The lab as a command inside it finds it: read once from the environment that `e2e/lab/run` gives."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
class Surroundings:
    """Where everything is."""

    namespace: str
    weaviate_urls: tuple[str, ...]
    directory: Path
    store: Store

    @property
    def weaviate_nodes(self) -> tuple[str, ...]:
        return tuple(f"weaviate-{ordinal}" for ordinal in range(len(self.weaviate_urls)))

    def volume(self, ordinal: int) -> Path:
        """The data root of a Weaviate pod, as the host sees it."""
        return self.directory / "volumes" / f"weaviate-data-weaviate-{ordinal}"


def surroundings(environment: Mapping[str, str] = os.environ) -> Surroundings:
    """Refuses outside of the lab, and in one without an S3 store."""
    missing = [name for name in (*_NEEDED, "LAB_S3_ENDPOINT", "LAB_S3_BUCKET") if not environment.get(name)]
    if missing:
        raise NotInLab(f"{', '.join(missing)} not set: run this as ./e2e/lab/run --stores s3 -- COMMAND")
    directory = Path(environment["LAB_DIR"])
    return Surroundings(
        namespace=environment["LAB_NAMESPACE"],
        weaviate_urls=tuple(environment["WEAVIATE_URLS"].split()),
        directory=directory,
        store=Store(
            endpoint=environment["LAB_S3_ENDPOINT"],
            bucket=environment["LAB_S3_BUCKET"],
            access_key=environment["AWS_ACCESS_KEY_ID"],
            secret_key=environment["AWS_SECRET_ACCESS_KEY"],
            directory=directory / "stores" / "s3",
        ),
    )
