"""Shapes of strings, as RE2 patterns for schemas that Python's `re` takes, too. `fits` is how they are asked.

A name that people or pods wrote becomes part of a path of the API server, a key of a Secret or a folder of a bucket, so
none may hold what these read as something else: separators, `..`, percent signs, control characters.
"""

import re
from typing import Final

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_ODD = r"\x00-\x1f\x7f-\x9f%\\"
"""Control characters, and what escapes others."""

OBJECT_NAME: Final = rf"^{_LABEL}(\.{_LABEL})*$"
"""A DNS-1123 subdomain: the name of every object that we ever ask for."""
NO_OR_OBJECT_NAME: Final = rf"^({_LABEL}(\.{_LABEL})*)?$"
MAX_NAME_LENGTH: Final = 253
UID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
"""As the API server gives one to each object."""
DATA_KEY: Final = r"^([-_a-zA-Z0-9]|\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$"
"""Of a Secret or a ConfigMap; also a file's name, so neither `.` nor `..`."""
WORD: Final = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
"""A node's name: safe as a folder and in a Secret's key."""
NO_OR_WORD: Final = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
"""A label's value, a region."""
QUALIFIED_NAME: Final = rf"^({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
"""Key of a label, name of a resource."""
IDENTIFIER: Final = "^([A-Za-z0-9][-A-Za-z0-9_.:/@+=,]*)?$"
"""Of something at a cloud provider, such as an ARN, or none."""
COLLECTION_PATTERN: Final = "^[A-Za-z0-9_*?:-]+$"
PLAIN: Final = f"^[^{_ODD}]*$"
"""Whatever else a rule says of it."""
LINES: Final = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f%\\.]*$"
"""Of a text that a rule judges, such as a key in PEM: lines without dots, which paths are made of."""
FREE_TEXT: Final = rf"^([^{_ODD}.][^{_ODD}]*)?$"
"""Of people's own, such as a tag's value; it does not begin like a path."""


def fits(pattern: str, text: str) -> bool:
    """The whole text, its end of line included, has that shape."""
    return re.fullmatch(pattern, text) is not None
