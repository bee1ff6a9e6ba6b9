"""The claim: the first object of a backup, written once, which says whose the place under the identifier is.

A backup is written by several agents over hours, while other clusters may share the bucket. Whoever does not find its
own operation here writes and deletes nothing. It stays in a completed backup, and goes last of one that was given up.
Weaviate never reads it.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weaviate_backup.errors import excerpt
from weaviate_backup.layout.json_bounds import BeyondBounds, JsonBounds

FORMAT_VERSION = 1
BOUNDS = JsonBounds(64 << 10, 1000)
Text = Annotated[str, Field(max_length=512)]


class Claim(BaseModel):
    """`cluster`, `namespace` and `name` lead a person to the operation; only `operation_uid` decides."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["claim"] = "claim"
    format_version: int = FORMAT_VERSION
    operation_uid: Annotated[Text, Field(min_length=1)]
    backup_id: Text
    cluster: Text = ""
    namespace: Text = ""
    name: Text = ""

    @property
    def owner(self) -> str:
        """The operation, for people."""
        named = f"{self.namespace}/{self.name}" if self.name else ""
        where = f"of cluster {self.cluster}" if self.cluster else ""
        words = filter(None, (named, where, f"(operation {self.operation_uid})"))
        return excerpt(" ".join(words))


def encode_claim(claim: Claim) -> bytes:
    """The same bytes for the same claim."""
    return claim.model_dump_json(indent=2).encode() + b"\n"


def decode_claim(content: bytes) -> Claim | None:
    """None of what is no claim."""
    try:
        BOUNDS.refuse_beyond(content)
        return Claim.model_validate_json(content)
    except (BeyondBounds, ValidationError):
        return None
