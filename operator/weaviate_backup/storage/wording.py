"""What the judges of all stores say alike."""

from weaviate_backup.errors import excerpt

NO_TLS = "no TLS there, or junk"


def certificate_trouble(text: str) -> str:
    """Of a failed TLS handshake, from a client library's words; without its source lines."""
    _, found, rest = text.partition("certificate verify failed")
    return excerpt(f"certificate verify failed{rest.partition(' (_ssl')[0]}", 160) if found else NO_TLS


def retry_after_seconds(header: str) -> float | None:
    """Of a Retry-After header; None when it names no whole number of seconds."""
    return float(header) if header.isdigit() else None
