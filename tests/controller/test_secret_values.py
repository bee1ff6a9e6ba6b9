"""A value of a Secret that is no text: named, and never shown."""

import base64
from typing import Any, cast

import pytest

from weaviate_backup.controller.cluster_view import read_secret_value
from weaviate_backup.errors import Permanent
from weaviate_backup.kube import Kube

VALUE = b"hunter2-\xff\xfe"


class OneSecret:
    """Stands for the API server's answer, of which the value alone matters here."""

    def __init__(self, value: str) -> None:
        self._value = value

    async def pick_one(self, *asked: Any) -> Any:
        return asked[-1]({"metadata": {}, "data": {"key": self._value}})


@pytest.mark.parametrize("value", [base64.b64encode(VALUE).decode(), "aHVudGVyM", "é"])
async def test_a_value_that_is_no_text_is_refused_by_name(value: str) -> None:
    kube = cast(Kube, OneSecret(value))
    with pytest.raises(
        Permanent, match="SecretValueUnusable: key 'key' of Secret 'prod' in namespace a holds"
    ) as refused:
        await read_secret_value(kube, "a", "prod", "key")
    shown = f"{refused.value}{refused.value.__cause__}{refused.value.__suppress_context__}"
    assert "hunter" not in shown and refused.value.__cause__ is None


async def test_text_is_read_without_its_end_of_line() -> None:
    kube = cast(Kube, OneSecret(base64.b64encode("schlüssel\n".encode()).decode()))
    assert await read_secret_value(kube, "a", "prod", "key") == "schlüssel"
