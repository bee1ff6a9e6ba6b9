"""Refused before any byte moved, with words that name the field, the value and the cure; the store stays as it was."""

import pytest
from e2e.cluster import manifests
from e2e.cluster.kubectl import KubectlError
from tests.scenarios.world import World

pytestmark = pytest.mark.lab
EVENTUAL_REFUSALS = {
    "no-bucket": ("BucketNotFound", "spec.s3.bucket 'nobody-made-this' does not exist; create it or name another"),
    "no-secret": (
        "SecretNotFound",
        "there is no Secret 'no-secret' in namespace weaviate, which spec.s3.credentialsSecretRef names; create it",
    ),
    "nowhere": ("LocationNotFound", "there is no WeaviateBackupLocation 'nowhere' in namespace weaviate"),
}
"""Reason, and what the message must say, by location."""


def refused(world: World, manifest: manifests.Manifest) -> tuple[str, str, str]:
    """Phase, reason and message; checks that neither the store nor a volume was touched."""
    stored = world.stored()
    view = world.run(manifest)
    assert world.stored() == stored
    assert world.volume_left_overs() == []
    return view.phase, view.reason, view.message


def test_restore_of_an_existing_collection(world: World) -> None:
    world.loaded()
    name = world.name()
    world.complete(manifests.backup(name))
    source = {"backupRef": {"name": name}}
    assert refused(world, manifests.restore(world.name(), source=source, include=["Article"])) == (
        "Failed",
        "CollectionExists",
        "collection Article exists; delete it or exclude it",
    )
    world.forget()
    world.weaviate.delete_alias("Headline")
    world.weaviate.delete_collection("Article")
    world.weaviate.create_collection({"class": "ARTICLE", "vectorizer": "none"})
    try:
        assert refused(world, manifests.restore(world.name(), source=source, include=["Article"])) == (
            "Failed",
            "CollectionExists",
            "collection Article exists as ARTICLE, and case does not tell them apart; delete it or exclude it",
        )
    finally:
        world.weaviate.delete_collection("ARTICLE")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"include": ["Article"], "exclude": ["Note"]},
            "spec.exclude: Invalid value: set include or exclude, not both; remove one of them",
        ),
        (
            {"config": {"cpuPercentage": 81}},
            "spec.config.cpuPercentage: Invalid value: 81: config.cpuPercentage must be between 1 and 80; "
            "choose at most 80, so that Weaviate can go on serving",
        ),
    ],
)
def test_what_the_api_server_refuses(world: World, spec: manifests.Manifest, message: str) -> None:
    name = world.name()
    with pytest.raises(KubectlError) as refusal:
        world.kubectl.apply(manifests.backup(name, **spec))
    assert message in str(refusal.value)
    assert world.kubectl.get("weaviatebackup", name) is None


def test_what_may_still_be_created_is_waited_for_and_then_refused(world: World) -> None:
    """All three at once, since each is given a minute: one `kubectl apply` often brings what an operation needs."""
    world.loaded()
    world.locate("no-bucket", bucket="nobody-made-this")
    world.locate("no-secret")
    world.kubectl.delete("secret", "no-secret")
    stored = world.stored()
    made = {location: manifests.backup(world.name(), location=location) for location in EVENTUAL_REFUSALS}
    world.kubectl.apply(*made.values())
    said = {location: world.finish(manifest) for location, manifest in made.items()}
    for location, (reason, message) in EVENTUAL_REFUSALS.items():
        view = said[location]
        assert (view.phase, view.reason) == ("Failed", reason), view.message
        assert message in view.message
    assert world.stored() == stored
    assert world.volume_left_overs() == []


def test_a_second_backup_with_the_same_id(world: World) -> None:
    world.loaded()
    name = world.name()
    world.complete(manifests.backup(name))
    phase, reason, message = refused(world, manifests.backup(world.name(), backupID=name))
    assert (phase, reason) == ("Failed", "BackupExists")
    there = f"backup {name!r} exists already at s3://{world.lab.store.bucket}; choose another backupID. It was made by"
    assert f"{there} {world.kubectl.namespace}/{name} of cluster " in message
