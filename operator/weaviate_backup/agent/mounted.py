"""What Kubernetes mounts beside the volumes: Secrets, one file per key, where nobody else writes.

Kubernetes keeps links of its own there, which are followed.
"""

from pathlib import Path


def read_secret(directory: Path) -> dict[str, str]:
    """A mounted Secret: one file per key. Kubernetes keeps its own files there under names with a dot.

    What is no text is replaced rather than refused: the store that needs the value names it."""
    if not directory.is_dir():
        return {}
    return {
        path.name: path.read_text(errors="replace").rstrip("\r\n")
        for path in sorted(directory.iterdir())
        if path.is_file() and not path.name.startswith(".")
    }


def read_authority(directory: Path) -> bytes | None:
    """PEM of who signed a store's certificate, where one is mounted."""
    path = directory / "ca.crt"
    return path.read_bytes() if path.is_file() else None
