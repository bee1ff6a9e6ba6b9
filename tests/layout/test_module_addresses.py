"""Every place in a collection where an address can stand is found; ordinary settings are not taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaviate_backup.layout.module_addresses import addresses_of

URL = "https://collector.example/v1"


@pytest.mark.parametrize(
    ("collection", "found"),
    [
        ({"moduleConfig": {"text2vec-openai": {"baseURL": URL, "model": "ada"}}}, ("text2vec-openai.baseURL", URL)),
        ({"moduleConfig": {"text2vec-openai": {"resourceName": "evil"}}}, ("text2vec-openai.resourceName", "evil")),
        ({"moduleConfig": {"text2vec-google": {"apiEndpoint": "e.x"}}}, ("text2vec-google.apiEndpoint", "e.x")),
        ({"moduleConfig": {"t": {"inferenceUrl": "http://t"}}}, ("t.inferenceUrl", "http://t")),
        (
            {"moduleConfig": {"generative-x": {"deep": [{"any": " HTTPS://X"}]}}},
            ("generative-x.deep.any", " HTTPS://X"),
        ),
        ({"moduleConfig": {"text2vec-aws": {"region": "x.evil.example/"}}}, ("text2vec-aws.region", "x.evil.example/")),
        ({"moduleConfig": {"text2vec-aws": {"Service": "evil.example#"}}}, ("text2vec-aws.Service", "evil.example#")),
        ({"moduleConfig": {"t": {"LOCATION": "us-central1\n"}}}, ("t.LOCATION", "us-central1\n")),
        ({"moduleConfig": {"t": {"any": "//collector.example"}}}, ("t.any", "//collector.example")),
        ({"vectorConfig": {"v": {"vectorizer": {"t": {"baseURL": URL}}}}}, ("v.t.baseURL", URL)),
        ({"properties": [{"name": "p", "moduleConfig": {"t": {"baseURL": URL}}}]}, ("p.t.baseURL", URL)),
    ],
)
def test_an_address_is_found(collection: dict[str, object], found: tuple[str, str]) -> None:
    assert addresses_of(collection) == (found,)


def test_what_is_no_address_is_left_alone() -> None:
    settings = {"model": "ada", "vectorizeClassName": True, "dimensions": 5, "type": "text", "waitForModel": None}
    settings |= {"region": "us-east-1", "service": "bedrock", "location": "europe-west4", "serviceName": "a.b"}
    properties = [{"name": "url", "description": URL, "moduleConfig": {"t": {"skip": False}}}]
    collection = {"class": "A", "description": URL, "moduleConfig": {"t": settings}, "properties": properties}
    assert addresses_of(collection) == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON, st.text(min_size=1, max_size=5))
def test_whatever_stands_around_it_an_address_is_found(before: object, after: object, key: str) -> None:
    collection = {"moduleConfig": {"a": before, "m": {"x": [before, {key: URL}]}, "z": after}, "vectorConfig": after}
    assert any(address == URL for _, address in addresses_of(collection))
