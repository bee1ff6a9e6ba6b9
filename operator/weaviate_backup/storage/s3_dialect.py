"""What a store that speaks S3 does not take, found out by its refusals, and what is done instead.

A request uses some features. When it is refused in a way that one of them may explain, it is made again without; only
what then succeeds, or is answered as a request that was understood, is remembered. So nobody asks a store twice for
what it does not have, a refusal for another reason stays what it is, and nothing is guessed from a store's name. What
is known belongs to one opened store and is forgotten with it: a store that learns something is asked again.
"""

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from weaviate_backup.errors import BackupError, ObjectExists, ObjectNotFound, Permanent
from weaviate_backup.storage.s3_failures import refusal_of

T = TypeVar("T")
log = logging.getLogger(__name__)


class Feature(Enum):
    """What not every store takes; its value says what is done instead. In the order in which they are suspected."""

    CHECKSUM = "x-amz-checksum headers: Content-MD5 is sent instead"
    PART_CHECKSUMS = "the checksums at the end of an upload that it answered to its parts: all or none are told"
    CONDITION = "If-None-Match: write-once is kept by looking before writing"
    BATCH_DELETION = "deletion of many objects by one request: each is deleted by its own"
    UNEQUAL_PARTS = "parts of several sizes: an upload begins again with parts of one size"
    UPLOADS_BY_PREFIX = "listings of unfinished uploads by prefix: they are looked for by key when it is written"


Features = frozenset[Feature]
SAYING = {
    Feature.CONDITION: re.compile(r"if-none-match|conditional|precondition", re.IGNORECASE),
    Feature.CHECKSUM: re.compile(r"checksum|x-amz-sdk-|crc32", re.IGNORECASE),
    Feature.PART_CHECKSUMS: re.compile(r"checksum|crc32", re.IGNORECASE),
    Feature.BATCH_DELETION: re.compile(r"content-md5|\?delete|multi.?object|delete ?objects", re.IGNORECASE),
}
"""Words of a refusal that leave no doubt; it then counts whatever its status is."""
REFUSALS = {
    Feature.CONDITION: frozenset({"OperationUnsupported"}),
    Feature.CHECKSUM: frozenset({"OperationUnsupported", "StoreRefused", "InvalidCredentials", "RegionWrong"}),
    Feature.PART_CHECKSUMS: frozenset({"OperationUnsupported", "StoreRefused"}),
    Feature.BATCH_DELETION: frozenset({"OperationUnsupported", "StoreRefused", "InvalidCredentials"}),
}
"""Reasons that a feature may explain without such words. Headers that a proxy strips or a store leaves out of the
signature come back as a wrong signature. A condition is given up by the least: without it, two writers may both win."""


class FoundByLooking(ObjectExists):
    """Our own look before a write, not a store's answer to one."""


@dataclass
class Dialect:
    """Of one opened store."""

    lacking: set[Feature] = field(default_factory=set)

    def lacks(self, feature: Feature) -> bool:
        return feature in self.lacking

    def note(self, *features: Feature) -> None:
        """Once each: it explains what is otherwise found in nobody's settings."""
        for feature in features:
            if feature not in self.lacking:
                self.lacking.add(feature)
                log.warning("the store does not take %s", feature.value)

    def speak(self, uses: Features, request: Callable[[Features], T]) -> T:
        """What `request` gives with as many features as the store takes. Raises what the first refusal said, unless
        without a feature it is another one."""
        uses -= self.lacking
        try:
            return request(uses)
        except Permanent as refusal:
            for without in _suspects(refusal, uses):
                try:
                    answer = request(uses - without)
                except FoundByLooking:
                    raise
                except (ObjectExists, ObjectNotFound):
                    self.note(*without)
                    raise
                except BackupError as another:
                    if another.reason != refusal.reason:
                        raise  # the true obstacle
                    continue
                self.note(*without)
                return answer
            raise


def explains(feature: Feature, refusal: Permanent) -> bool:
    """Whether the refusal may be that of the feature."""
    return any(_suspects(refusal, frozenset({feature})))


def _suspects(refusal: Permanent, uses: Features) -> Iterator[Features]:
    """What to leave out, the likeliest first: what is named, then each by itself, then all together."""
    if isinstance(refusal, ObjectExists | ObjectNotFound):
        return
    said = refusal_of(refusal).words
    named = [each for each in Feature if each in uses and each in SAYING and SAYING[each].search(said)]
    silent = [
        each
        for each in Feature
        if each in uses and each not in named and refusal.reason in REFUSALS.get(each, frozenset())
    ]
    suspects = named + silent
    yield from (frozenset({each}) for each in suspects)
    if len(suspects) > 1:
        yield frozenset(suspects)
