"""What is known about a running store."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Store:
    """One kind of store, as Kubernetes, Weaviate and the command in the lab see it."""

    kind: str
    location: dict[str, Any]
    """Spec of its WeaviateBackupLocation."""
    credentials: dict[str, str] = field(default_factory=dict)
    """Content of its Secret."""
    command_environment: dict[str, str] = field(default_factory=dict)
    weaviate_environment: dict[str, str] = field(default_factory=dict)
    """Of Weaviate's native backup module, but for the credentials."""
