"""What is read may have been stored under another schema: it is understood, or refused with its field."""

from typing import Any

import pytest
from tests.api.objects import FULL, MINIMAL, Json, merged
from tests.api.strings import KEY, Place, places, with_string

from weaviate_backup.api.backup import Backup, BackupSpec, BackupStatus
from weaviate_backup.api.bounds import status_json
from weaviate_backup.api.location import LocationSpec
from weaviate_backup.api.model import ApiModel
from weaviate_backup.api.reading import check_shapes, read_object
from weaviate_backup.api.restore import RestoreSpec
from weaviate_backup.api.status import Finding
from weaviate_backup.errors import InvalidInput

SPECS: dict[str, type[ApiModel]] = {
    "WeaviateBackup": BackupSpec,
    "WeaviateRestore": RestoreSpec,
    "WeaviateBackupLocation": LocationSpec,
}
BY_RULE = frozenset({"path", "endpoint", "bucket", "container", "account"})
"""Where `..` is a rule's to refuse; none of them names an object."""


def read(kind: str, spec: Json) -> ApiModel:
    made = read_object(SPECS[kind], spec, where="spec", cure="mend it")
    check_shapes(made, cure="mend it")
    return made


@pytest.mark.parametrize("place", [place for place in places() if place.path[-1] != KEY], ids=str)
def test_every_string_that_is_none_is_refused_with_its_field_and_the_cure(place: Place) -> None:
    hostile = "nul\x00" if place.path[-1] in BY_RULE else "../../x"
    with pytest.raises(InvalidInput) as refused:
        read(place.kind, with_string(place, hostile))
    assert refused.value.reason == "SpecInvalid"
    assert refused.value.message.startswith(place.field)
    assert refused.value.message.endswith("; mend it")
    assert "\x00" not in refused.value.message


@pytest.mark.parametrize("specs", [MINIMAL, FULL])
def test_what_the_api_server_takes_is_read(specs: dict[str, Json]) -> None:
    for kind, spec in specs.items():
        assert read(kind, merged(spec, {"ofANewerSchema": {"deep": ["value"]}}))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "spec: Field required"),
        ({"spec": []}, "spec: "),
        ({"spec": {"locationRef": "bucket"}}, "spec.locationRef is 'bucket': "),
        ({"spec": {"locationRef": {"name": "bucket"}, "timeout": "soon"}}, "spec.timeout is 'soon': "),
        ({"spec": {"locationRef": {"name": "bucket"}}, "status": {"phase": "Asleep"}}, "status.phase is 'Asleep': "),
    ],
)
def test_what_no_schema_of_ours_allows_is_refused_with_its_field(body: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_object(Backup, body, cure="mend it")
    assert refused.value.message.startswith(field)


def test_an_address_is_not_repeated() -> None:
    """It may hold a password."""
    spec = {"s3": {"bucket": "backups", "endpoint": "https://key:se%63ret@minio"}}
    with pytest.raises(InvalidInput, match=r"^SpecInvalid: spec\.s3\.endpoint, which does not match"):
        read("WeaviateBackupLocation", spec)


def test_what_others_said_never_keeps_a_status_from_being_written() -> None:
    said = "a\x1b[2J\x00\ud800\u202e" + "b" * 1000
    status = BackupStatus(server_version=said, failure=Finding(reason=said, message=said), committer="a\x1b")
    shown = status_json(status)
    assert str(shown).isprintable()
    assert (len(shown["serverVersion"]), len(shown["failure"]["reason"]), len(shown["failure"]["message"])) == (
        64,
        64,
        256,
    )
