"""Every verb of every kind of store against every trick: it ends in time with one of our errors, takes little memory,
and asks nobody else."""

import gc
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.answers.hostile_server import TRICKS, HostileServer, Peak, Trick, endless, head, whole, wide

from weaviate_backup.api.location import LocationSpec
from weaviate_backup.errors import BackupError
from weaviate_backup.storage import documents, parts
from weaviate_backup.storage.factory import open_store
from weaviate_backup.storage.object_store import ObjectStore
from weaviate_backup.storage.patience import Patience
from weaviate_backup.stored.storing import read_small

# What a client library drops in the middle of such an answer closes its socket as it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SECONDS = 2.0
SLACK_SECONDS = 8.0
PEAK_MIB = 300
"""Seven verbs at once, in the process of the server: bodies of 15 MiB, each once as it comes and once as a whole."""
IMPATIENT = replace(Patience(attempts=1), connect_seconds=1, read_seconds=1, check_seconds=2, check_read_seconds=1)
XML = "Content-Type: application/xml"
OF_STORES: dict[str, Trick] = {
    "entities": whole(
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaa">'
        + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 100 if n else b"&a;" * 100) for n in range(8))
        + b"]><ListBucketResult><Name>&a7;</Name></ListBucketResult>",
        XML,
    ),
    "entities in UTF-16": whole(
        '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaa">'.encode("utf-16")
        + "".join(f'<!ENTITY a{n} "{(f"&a{n - 1};" if n else "&a;") * 100}">' for n in range(8)).encode("utf-16-le")
        + "]><ListBucketResult><Name>&a7;</Name></ListBucketResult>".encode("utf-16-le"),
        XML,
    ),
    "wide XML": whole(wide(15 << 20, b"<a/>").replace(b"[", b"<a>").replace(b"{}]", b"</a>"), XML),
    "an element of many words": whole(b"<a " + b"".join(b'a%d=""\n' % n for n in range(1_200_000)) + b"/>", XML),
    "deep XML": whole(b"<a>" * 150_000 + b"</a>" * 150_000, XML),
    "endless XML": endless(
        lambda: iter(lambda: b"<a>" + b" " * 60_000 + b"</a>", b""), first=head("200 OK", XML) + b"<a>"
    ),
    "refusal in deep XML": whole(b"<a>" * 150_000 + b"</a>" * 150_000, XML, status="400 Bad"),
}
SLOW = ("dripping head", "endless informational answers")
"""Before an answer has begun, only the operation's own time limit ends it."""
ENDED_BY_THE_OPERATION = {("open", "dripping body")}
"""Content may take its time."""
LOCATIONS: dict[str, Callable[[HostileServer], tuple[dict[str, Any], dict[str, str]]]] = {
    "s3": lambda server: (
        {"s3": {"bucket": "bucket", "endpoint": f"127.0.0.1:{server.port}", "useSSL": False, "region": "eu-central-1"}},
        {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "secret-of-the-store"},
    ),
    "gcs": lambda server: ({"gcs": {"bucket": "bucket", "endpoint": server.url, "useAuth": False}}, {}),
    "azure": lambda server: (
        {"azure": {"container": "bucket", "endpoint": f"{server.url}/account"}},
        {"AZURE_STORAGE_ACCOUNT": "account", "AZURE_STORAGE_KEY": "c2VjcmV0LW9mLXRoZS1zdG9yZQ=="},
    ),
}
IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)
LARGE = bytes(9 << 20)
"""More than one part of every kind of store."""
VERBS: dict[str, Callable[[ObjectStore], Any]] = {
    "put": lambda store: store.put("a", lambda: iter((b"x",)), if_absent=True),
    "put in parts": lambda store: store.put("a", lambda: iter((LARGE,))),
    "open": lambda store: read_small(store, "a", limit_bytes=1 << 20),
    "stat": lambda store: store.stat("a"),
    "list": lambda store: list(zip(store.list(""), range(10_000), strict=False)),
    "delete": lambda store: store.delete(["a", "b"]),
    "abort_unfinished": lambda store: store.abort_unfinished("a"),
    "check": lambda store: store.check(),
    "lock": lambda store: store.lock(["a"], IN_AN_HOUR),
}


def test_every_verb_is_tried() -> None:
    assert {name for name in vars(ObjectStore) if not name.startswith("_")} == VERBS.keys() - {"put in parts"}


@pytest.mark.parametrize("trick", [name for name in (TRICKS | OF_STORES) if name not in SLOW])
@pytest.mark.parametrize("kind", LOCATIONS)
def test_a_trick_on_every_verb_of(kind: str, trick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "TOTAL_SECONDS", SECONDS)
    monkeypatch.setattr(parts, "PART_ATTEMPTS", 1)
    found: list[BaseException] = []

    def one(verb: Callable[[ObjectStore], Any], store: ObjectStore) -> None:
        try:
            verb(store)
        except BaseException as error:  # noqa: BLE001 (looked at below)
            found.append(error)

    tried = {name: verb for name, verb in VERBS.items() if (name, trick) not in ENDED_BY_THE_OPERATION}
    with HostileServer(whole(b"{}")) as trap, HostileServer((TRICKS | OF_STORES)[trick], trap.url) as server:
        location, credentials = LOCATIONS[kind](server)
        store = open_store(LocationSpec.model_validate(location), credentials=credentials, patience=IMPATIENT)
        peak, started_at = Peak(), time.monotonic()
        threads = [
            threading.Thread(target=one, args=(verb, store), name=name, daemon=True) for name, verb in tried.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.1, started_at + SECONDS + SLACK_SECONDS - time.monotonic()))
        seconds, grown_mib = time.monotonic() - started_at, peak.mib
        assert server.requests, "nobody was asked"
        assert not trap.requests, "a redirect was followed"
        assert [thread.name for thread in threads if thread.is_alive()] == [], "verbs that did not end"
    del store
    gc.collect()  # while its warnings are ours
    assert seconds < SECONDS + SLACK_SECONDS
    assert grown_mib < PEAK_MIB
    for error in found:
        assert isinstance(error, BackupError), repr(error)
        assert error.message.isprintable(), repr(error.message)
        assert "secret-of-the-store" not in error.message
        assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", error.reason)
