"""Whatever is exchanged between two calls of the system, a use of a place touches nothing outside, and it ends."""

import os
from collections.abc import Callable

import pytest
from tests.beneath.attacker import CHUNK, FOLDERS, INNER, KINDS, Volume, exchange_everything

from weaviate_backup.beneath import Held, Place, Root
from weaviate_backup.errors import BackupError

WAY = FOLDERS[:3]
FOLDER = WAY[-1]


def _linked_while_held(root: Place) -> None:
    with Held() as held:
        for number in range(2):
            held.link(root / CHUNK, root / f"{FOLDER}/class/linked-{number}")


Use = Callable[[Place], object]
USES: dict[str, tuple[Use, tuple[str, ...]]] = {
    "open": (lambda root: (root / CHUNK).open().close(), (*WAY, CHUNK)),
    "open to write": (lambda root: (root / CHUNK).open(writable=True).close(), (*WAY, CHUNK)),
    "read": (lambda root: (root / CHUNK).read_bytes(limit_bytes=100), (*WAY, CHUNK)),
    "create": (lambda root: (root / f"{FOLDER}/new").create().close(), WAY),
    "open or create": (
        lambda root: os.close((root / CHUNK).descriptor(os.O_WRONLY | os.O_TRUNC, create_mode=0o600)),
        (*WAY, CHUNK),
    ),
    "copy": (lambda root: (root / CHUNK).copy_to(root / f"{FOLDER}/class/copy"), (*FOLDERS, CHUNK)),
    "link": (lambda root: (root / CHUNK).link_to(root / f"{FOLDER}/class/linked"), (*FOLDERS, CHUNK)),
    "link while held": (_linked_while_held, (*FOLDERS, CHUNK)),
    "rename": (lambda root: (root / CHUNK).rename_to(root / INNER), (*FOLDERS, CHUNK, INNER)),
    "make directory": (lambda root: (root / f"{FOLDER}/a/b").make_directory(), WAY),
    "entries": (lambda root: (root / FOLDER).entries(), (*WAY, CHUNK)),
    "files": (lambda root: list((root / "prod/nightly").files()), (*FOLDERS[1:], CHUNK)),
    "unlink": (lambda root: (root / CHUNK).unlink(), (*WAY, CHUNK)),
    "remove tree": (lambda root: (root / FOLDER).remove_tree(), (*FOLDERS[1:], CHUNK)),
    "sync": (lambda root: (root / FOLDER).sync(), WAY),
}
"""Each with the entries on its way."""


@pytest.mark.parametrize("name", USES)
def test_an_exchange_between_any_two_calls_leads_nowhere(volume: Volume, kernel: str, name: str) -> None:
    use, entries = USES[name]
    kinds = tuple(KINDS) if kernel == "openat2" else ("link", "fifo")

    def call() -> None:
        use(Root(volume.root).place)

    exchanged = exchange_everything(volume, call, entries=entries, kinds=kinds, expected=(OSError, BackupError))
    print(kernel, name, "exchanged", exchanged)
    assert exchanged >= 10
