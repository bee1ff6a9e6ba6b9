"""A store with a certificate authority of its own: from the Secret that a location names, or from a file."""

from pathlib import Path

import pytest
from tests.agent.foreign_backup import ForeignBackup
from tests.plugin.conftest import Cluster
from tests.plugin.test_copy_command import location_yaml
from tests.s3_server import running_s3_server
from tests.storage.authority import Authority
from tests.stored.conftest import contents
from typer.testing import CliRunner

from weaviate_backup.plugin.commands import app

pytestmark = pytest.mark.kubernetes


def test_its_authority_comes_from_the_cluster_or_from_a_file(
    cluster: Cluster, backup: ForeignBackup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.server.kubeconfig))
    authority = Authority("private")
    certificate, key = authority.certificate()
    for name, content in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", authority.pem)):
        (tmp_path / name).write_bytes(content)
    cluster.apply("Secret", "private", stringData={"ca.crt": authority.pem.decode()})
    with running_s3_server(
        tmp_path / "s3" / "data", certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key"
    ) as server:
        places = {}
        for name in ("first", "second"):
            server.make_bucket(name)
            place = {"bucket": name, "endpoint": f"https://{server.endpoint}", "credentialsSecretRef": {"name": "keys"}}
            places[name] = place | {"caSecretRef": {"name": "private", "key": "ca.crt"}}
        cluster.apply("WeaviateBackupLocation", "secure", spec={"s3": places["first"]})
        (tmp_path / "second.yaml").write_text(location_yaml(s3=places["second"]))
        for name, value in server.credentials.items():
            monkeypatch.setenv(f"TO_{name}", value)
        words = ["copy", "nightly", "-n", cluster.namespace]
        result = CliRunner().invoke(app, [*words, "--from", "here", "--to", "secure"])
        assert result.exit_code == 0, result.exception
        files = ["--to-file", str(tmp_path / "second.yaml"), "--to-ca-file", str(tmp_path / "ca.crt")]
        result = CliRunner().invoke(app, [*words, "--from", "secure", *files])
        assert result.exit_code == 0, result.exception
        assert contents(server.directory / "second") == contents(backup.root)
