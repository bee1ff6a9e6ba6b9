"""What a store of any kind holds, as an ordinary client of that kind lists it. It writes nothing."""

from collections.abc import Iterator

from e2e.cluster import bucket
from e2e.cluster.surroundings import StoreOfAnyKind


def listing(store: StoreOfAnyKind, prefix: str = "") -> dict[str, int]:
    """Size in bytes by key."""
    return dict(_LIST[store.kind](store, prefix))


def _s3(store: StoreOfAnyKind, prefix: str) -> Iterator[tuple[str, int]]:
    yield from bucket.listing(store.as_s3(), prefix).items()


def _gcs(store: StoreOfAnyKind, prefix: str) -> Iterator[tuple[str, int]]:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    place = store.location["gcs"]
    options = {"api_endpoint": place["endpoint"]}
    nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]
    client = Client(project=place["project"], credentials=nobody, client_options=options)
    for blob in client.list_blobs(store.root, prefix=prefix):
        yield blob.name, blob.size


def _azure(store: StoreOfAnyKind, prefix: str) -> Iterator[tuple[str, int]]:
    from azure.storage.blob import ContainerClient

    connection = store.credentials["AZURE_STORAGE_CONNECTION_STRING"]
    with ContainerClient.from_connection_string(connection, store.root) as container:
        for blob in container.list_blobs(name_starts_with=prefix):
            yield blob.name, blob.size


def _filesystem(store: StoreOfAnyKind, prefix: str) -> Iterator[tuple[str, int]]:
    for path in store.directory.rglob("*"):
        key = path.relative_to(store.directory).as_posix()
        if path.is_file() and key.startswith(prefix):
            yield key, path.stat().st_size


_LIST = {"s3": _s3, "gcs": _gcs, "azure": _azure, "filesystem": _filesystem}
