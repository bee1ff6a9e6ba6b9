"""Addresses in the module settings of a collection: where a server that has it sends texts and its own keys.

Modules take the address of a provider from the collection (`moduleConfig`, and `vectorizer` of each named vector), and
the key from the server's environment. So a collection that somebody else wrote can send the key of a server to him. A
setting is taken for an address by its value (a URL) or by its name (hosts and resource names stand alone there). Region
and service become labels of a host name: one that is more than a label is an address, too.
Source: the settings of Weaviate's modules, such as baseURL, inferenceUrl, apiEndpoint, endpoint, resourceName. Pure.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_URL = re.compile(r"^\s*([A-Za-z][A-Za-z0-9+.-]*:)?//")
_NAMED = re.compile(r"url|endpoint|host|origin|resourcename|address|proxy", re.IGNORECASE)
_LABEL_OF_HOST = re.compile(r"region|service|location", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9-]+")
_DEEPEST = 16


def addresses_of(class_json: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """(setting, address) of each, such as `("text2vec-openai.baseURL", "https://…")`, in order, without repeats."""
    found = list(_below(class_json.get("moduleConfig"), ()))
    vectors = class_json.get("vectorConfig")
    for name, config in vectors.items() if isinstance(vectors, Mapping) else ():
        if isinstance(config, Mapping):
            found += _below(config.get("vectorizer"), (str(name),))
    properties = class_json.get("properties")
    for each in properties if isinstance(properties, list) else ():
        if isinstance(each, Mapping):
            found += _below(each.get("moduleConfig"), (str(each.get("name")),))
    return tuple(dict.fromkeys(found))


def _below(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and len(path) < _DEEPEST:
        for key, inner in value.items():
            yield from _below(inner, (*path, str(key)))
    elif isinstance(value, list) and len(path) < _DEEPEST:
        for inner in value:
            yield from _below(inner, path)
    elif isinstance(value, str) and value and path and _is_address(path[-1], value):
        yield ".".join(path), value


def _is_address(name: str, value: str) -> bool:
    if _LABEL_OF_HOST.fullmatch(name):
        return not _LABEL.fullmatch(value)
    return bool(_URL.match(value) or _NAMED.search(name))
