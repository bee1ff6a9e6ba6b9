"""A place in a store belongs to one operation: the claim is put there first, once, and asked for before each act that
replaces, completes or deletes.

So two operations that were started with one identifier, from two clusters perhaps, never write over each other: who
puts the claim goes on, the other one is refused before it has touched anything. What an operation of ours left behind
is found by its claim, without a journal. A committed backup is never changed, whosever it is.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from weaviate_backup.errors import ObjectExists, ObjectNotFound, Permanent, Transient
from weaviate_backup.layout import keys
from weaviate_backup.layout.claims import BOUNDS, Claim, decode_claim, encode_claim
from weaviate_backup.storage.object_store import MakeBlocks, ObjectInfo, ObjectStore
from weaviate_backup.stored.storing import (
    Document,
    is_committed,
    is_stored_as,
    prefix_of,
    read_small,
    refuse_committed,
)

ROUNDS = 5
"""A claim that comes and goes under our eyes is another operation's that ends."""


@dataclass(frozen=True)
class ClaimedPlace:
    """What lies under one identifier, and who asks. `address`: the location, for people."""

    store: ObjectStore
    claim: Claim
    address: str

    @property
    def backup_id(self) -> str:
        return self.claim.backup_id

    def take(self) -> None:
        """Claim it, or find that it is ours already; nothing may lie there but what our own claim covers.

        Raises `BackupExists`, which names the owner.
        """
        unclaimed: ObjectInfo | None = None
        for _ in range(ROUNDS):
            unclaimed, seen_before = self._first_but_claim(), unclaimed
            owner = self.owner()
            if owner is not None and owner.operation_uid == self.claim.operation_uid:
                return
            if owner is not None:
                raise self._taken(owner)
            if unclaimed is not None and seen_before is not None:
                raise self._unclaimed(unclaimed)
            if unclaimed is not None:
                continue  # its owner may have taken all of it away meanwhile
            try:
                self.store.put(keys.claim(self.backup_id), lambda: iter((encode_claim(self.claim),)), if_absent=True)
            except ObjectExists:
                continue  # an agent of ours, or another operation, was first: the next round tells
        raise Transient("ClaimUnsettled", f"{keys.claim(self.backup_id)} at {self.address} comes and goes")

    def owner(self) -> Claim | None:
        """Whose it is; None: nobody's. Raises `BackupExists` for a claim that this version cannot read."""
        key = keys.claim(self.backup_id)
        try:
            content = read_small(self.store, key, limit_bytes=BOUNDS.size_bytes)
        except ObjectNotFound:
            return None
        claim = decode_claim(content)
        if claim is None or claim.backup_id != self.backup_id:
            message = f"{key} at {self.address} is no claim of this identifier; look who wrote it"
            raise Permanent("BackupExists", f"{message}, and choose another backupID")
        return claim

    def refuse_strangers(self) -> None:
        """Before anything is written over, completed or deleted. Raises `BackupExists`, with the owner, `ClaimLost`."""
        owner = self.owner()
        if owner is None:
            message = f"{keys.claim(self.backup_id)} is gone from {self.address}: somebody deleted it meanwhile"
            raise Permanent("ClaimLost", f"{message}, and others may have taken the place; make a new backup")
        if owner.operation_uid != self.claim.operation_uid:
            raise self._taken(owner)

    def put_exactly(self, key: str, document: Document) -> None:
        """Store a document; one that is there with the same bytes is success, one of an earlier attempt is replaced."""
        try:
            self.store.put(key, document.make_blocks, if_absent=True, at_most_bytes=document.size_bytes)
        except ObjectExists:
            if not is_stored_as(self.store, key, document.size_bytes, document.sha256):
                self.replace(key, document.make_blocks, at_most_bytes=document.size_bytes)

    def replace(self, key: str, make_blocks: MakeBlocks, *, at_most_bytes: int | None = None) -> None:
        """Put an object in the place of one that an earlier attempt of this operation left."""
        self.delete([key])
        self.store.put(key, make_blocks, if_absent=True, at_most_bytes=at_most_bytes)

    def delete(self, names: Collection[str]) -> None:
        """Delete objects that an earlier attempt of this operation left, if any."""
        if names:
            refuse_committed(self.store, self.backup_id)
            self.refuse_strangers()
            self.store.delete(names)

    def leave(self) -> None:
        """Delete the claim, if it is ours and nothing else lies there: debris keeps the name of its owner.

        Only when no agent of this operation may write any more: what came after would be nobody's. The store is one
        that repeats nothing by itself.
        """
        failed: Transient | None = None
        for _ in range(ROUNDS):
            owner = self.owner()  # asked anew each time: what we deleted without an answer may be another's by now
            if owner is None or owner.operation_uid != self.claim.operation_uid or self._first_but_claim() is not None:
                return
            try:
                self.store.delete([keys.claim(self.backup_id)])
            except Transient as error:
                failed = error
            else:
                return
        assert failed is not None
        raise failed

    def _unclaimed(self, found: ObjectInfo) -> Permanent:
        if is_committed(self.store, self.backup_id):
            message = f"backup {self.backup_id!r} exists already at {self.address}; choose another backupID"
        else:
            message = (
                f"{self.address} has objects under {self.backup_id!r}, such as {found.key!r}, of a backup that was "
                "never completed; delete them or choose another backupID"
            )
        return Permanent("BackupExists", message)

    def _taken(self, owner: Claim) -> Permanent:
        """The cure comes before the owner, whose names may be long: a status shows the beginning of a message."""
        if is_committed(self.store, self.backup_id):
            message = f"backup {self.backup_id!r} exists already at {self.address}; choose another backupID"
            return Permanent("BackupExists", f"{message}. It was made by {owner.owner}")
        message = (
            f"{self.backup_id!r} at {self.address} is taken; choose another backupID, or delete what lies under it"
        )
        return Permanent("BackupExists", f"{message}, {keys.CLAIM} last, once its owner has ended: {owner.owner}")

    def _first_but_claim(self) -> ObjectInfo | None:
        return next(self._others(), None)

    def _others(self) -> Iterator[ObjectInfo]:
        claim_key = keys.claim(self.backup_id)
        return (each for each in self.store.list(prefix_of(self.backup_id)) if each.key != claim_key)
