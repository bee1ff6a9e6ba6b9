"""What a person may get wrong is one line that names it, and nothing was written."""

from pathlib import Path

import pytest
from tests.agent.foreign_backup import ForeignBackup
from tests.plugin.conftest import Cluster
from tests.plugin.test_copy_command import location_yaml
from tests.stored.conftest import contents
from typer.testing import CliRunner

from weaviate_backup.errors import BackupError
from weaviate_backup.plugin.commands import app

pytestmark = pytest.mark.kubernetes
S3 = {"bucket": "backups", "credentialsSecretRef": {"name": "keys"}}
VOLUME = {"path": "", "volume": {"nfs": {"server": "a", "path": "/"}}}
FILES = {
    "readonly.yaml": location_yaml(s3=S3, readOnly=True),
    "keyless.yaml": location_yaml(s3=S3),
    "volume.yaml": location_yaml(filesystem=VOLUME),
    "typo.yaml": location_yaml(s3={"bucket": "backups", "regoin": "x"}),
    "kindless.yaml": location_yaml(),
    "double.yaml": location_yaml(s3=S3, filesystem=VOLUME),
    "private.yaml": location_yaml(s3=S3 | {"caSecretRef": {"name": "keys", "key": "ca.crt"}}),
    "empty.yaml": "",
    "broken.yaml": "a: [",
}
CASES: dict[str, tuple[str, str]] = {
    "no target": ("nightly --from here", "InvalidRequest: no target"),
    "two sources": ("nightly --from here --from-file volume.yaml --to there", "InvalidRequest: --from and --from-file"),
    "a CA without a file": ("nightly --from here --to there --to-ca-file empty.yaml", "InvalidRequest: --to-ca-file"),
    "no such source": ("nightly --from nowhere --to there", "LocationNotFound: .*'nowhere'"),
    "no such target": ("nightly --from here --to nowhere", "LocationNotFound: .*'nowhere'"),
    "no such backup": ("weekly --from here --to there", "BackupNotFound: no backup 'weekly'"),
    "no identifier": ("../nightly --from here --to there", "InvalidRequest: .*'../nightly'"),
    "no such WeaviateBackup": ("weekly --to there", "BackupNotFound: .*WeaviateBackup 'weekly'.*--from"),
    "a suspended source": ("nightly --from asleep --to there", "LocationSuspended: location asleep"),
    "a target for reading": ("nightly --from here --to sealed", "LocationReadOnly: location sealed"),
    "no Secret": ("nightly --from here --to there --to-namespace {other}", "SecretNotFound: .*'keys'"),
    "the same place": ("nightly --from here --to again", "SameLocation: "),
    "no such context": ("nightly --from here --to there --context mars", "KubeconfigUnusable: .*mars"),
    "a file for reading": ("nightly --from here --to-file readonly.yaml", "LocationReadOnly: .*readonly.yaml"),
    "no keys": ("nightly --from here --to-file keyless.yaml", "CredentialsMissing: .*AWS_ACCESS_KEY_ID.*TO_"),
    "no mount": ("nightly --from here --to-file volume.yaml", "LocationNotMounted: .*--to-directory"),
    "a typo": ("nightly --from here --to-file typo.yaml", "LocationInvalid: .*spec.s3.regoin"),
    "no kind": ("nightly --from here --to-file kindless.yaml", "LocationInvalid: .*exactly one"),
    "two kinds": ("nightly --from here --to-file double.yaml", "LocationInvalid: .*exactly one"),
    "no authority": ("nightly --from here --to-file private.yaml", "CertificateMissing: .*--to-ca-file"),
    "no location": ("nightly --from here --to-file empty.yaml", "LocationInvalid: .*0 objects"),
    "no YAML": ("nightly --from here --to-file broken.yaml", "FileUnreadable: .*broken.yaml"),
}


@pytest.fixture
def place(cluster: Cluster, backup: ForeignBackup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(cluster.server.kubeconfig))
    cluster.bucket("there")
    cluster.bucket("asleep", suspend=True)
    cluster.bucket("sealed", readOnly=True)
    s3 = {"bucket": backup.root.parent.name, "path": "/prod", "endpoint": f"http://{cluster.s3.endpoint}"}
    cluster.apply("WeaviateBackupLocation", "again", spec={"s3": {**s3, "credentialsSecretRef": {"name": "keys"}}})
    other = f"{cluster.namespace}-keyless"
    cluster.server.request("POST", "/api/v1/namespaces", {"metadata": {"name": other}})
    cluster.bucket("there", namespace=other)
    return cluster


@pytest.mark.parametrize("case", CASES)
def test_one_line_that_names_what_is_wrong(place: Cluster, case: str) -> None:
    words, said = CASES[case]
    before = contents(place.s3.directory)
    words = words.format(other=f"{place.namespace}-keyless")
    result = CliRunner().invoke(app, ["copy", *words.split(), "-n", place.namespace])
    assert isinstance(result.exception, BackupError), result.output
    with pytest.raises(BackupError, match=said):
        raise result.exception
    assert "\n" not in str(result.exception)
    assert contents(place.s3.directory) == before


def test_the_namespace_is_the_contexts(place: Cluster, tmp_path: Path) -> None:
    place.server.kubectl("config", "set-context", "--current", f"--namespace={place.namespace}")
    try:
        result = CliRunner().invoke(app, ["copy", "nightly", "--from", "here", "--to", "there"])
    finally:
        place.server.kubectl("config", "set-context", "--current", "--namespace=")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("limit", ["0", "fast", "5Xi", "-1"])
def test_a_limit_that_is_none_is_refused(place: Cluster, limit: str) -> None:
    words = ["copy", "nightly", "--from", "here", "--to", "there", f"--max-bytes-per-second={limit}"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
