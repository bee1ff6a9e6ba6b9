"""What a store's document must not be, whatever library reads it afterwards."""

import pytest

from weaviate_backup.errors import Permanent
from weaviate_backup.storage.documents import LIMIT_DEPTH, LIMIT_VALUES, _refuse_xml

REFUSED = {
    "attributes": (b"<a " + b"".join(b'a%d=""\n' % number for number in range(LIMIT_VALUES + 1)) + b"/>"),
    "elements": b"<a>" + b"<b/>" * LIMIT_VALUES + b"</a>",
    "deep": b"<a>" * (LIMIT_DEPTH + 1) + b"</a>" * (LIMIT_DEPTH + 1),
}


@pytest.mark.parametrize("what", REFUSED)
def test_xml_beyond_bounds_is_too_large(what: str) -> None:
    with pytest.raises(Permanent, match=f"AnswerTooLarge: .*{what}"):
        _refuse_xml(REFUSED[what])


def test_entities_are_no_store_s() -> None:
    with pytest.raises(Permanent, match=r"EndpointWrong: .* entities"):
        _refuse_xml(b'<!DOCTYPE a [<!ENTITY a "b">]><a>&a;</a>')


def test_a_listing_passes() -> None:
    _refuse_xml(
        b'<ListBucketResult xmlns="x">' + b"<Contents><ETag>a==</ETag></Contents>" * 1000 + b"</ListBucketResult>"
    )
