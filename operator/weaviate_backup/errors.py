"""The one family of errors that crosses a layer.

An adapter answers a single question about a failure, whether asking again can help, and names it with one CamelCase
reason. That word is the condition reason, the event reason and the metric label. Messages name the field, the value
and the cure; they never hold a credential, and foreign text in them is cut at 256 characters and holds
nothing that steers a terminal (see `excerpt`).
"""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class BackupError(Exception):
    """Root of our errors. `reason` is one CamelCase word, `message` a sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class Transient(BackupError):
    """Asking again later can help. `retry_after_seconds` is the other side's own wish, if it stated one."""

    def __init__(self, reason: str, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after_seconds = retry_after_seconds


class Permanent(BackupError):
    """Asking again cannot help: the input, the permissions or the data must change first."""


class InvalidInput(Permanent):
    """What somebody wrote can never be used: it is no name, or nothing that we can read. It ends an operation."""


class ObjectNotFound(Permanent):
    """The store has no object of that key."""

    def __init__(self, key: str) -> None:
        super().__init__("ObjectNotFound", f"the store has no object {key!r}")
        self.key = key


class ObjectExists(Permanent):
    """A write-once put found an object of that key."""

    def __init__(self, key: str) -> None:
        super().__init__("ObjectExists", f"the store already has an object {key!r}, and it is never overwritten")
        self.key = key


def excerpt(text: str, limit: int = 256) -> str:
    """Foreign text on one line and cut to `limit`, for use inside a message; what cannot be shown is replaced."""
    is_cut = len(text) > 16 * limit
    line = printable(text[: 16 * limit])
    return line if len(line) <= limit and not is_cut else line[: limit - 1] + "…"


def printable(text: str) -> str:
    """On one line, with a mark for each character that steers a terminal or that cannot be shown or encoded."""
    return "".join(each if each.isprintable() else REPLACEMENT for each in " ".join(text.split()))
