"""`kubectl weaviate-backup copy` as a person uses it: real kubectl, real API server, real stores."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from e2e.lab.programs import program
from tests.agent.foreign_backup import ForeignBackup
from tests.plugin.conftest import Cluster
from tests.stored.conftest import contents

from weaviate_backup.api.names import API_VERSION

pytestmark = pytest.mark.kubernetes
SECRET = "testsecret"


def command(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """The command as from a terminal: one that inherits an ignored SIGINT, as in the background, ignores it, too."""
    kept = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "COLUMNS": "200"}
    return subprocess.Popen(
        ["env", "--default-signal=INT", program("kubectl"), "weaviate-backup", "copy", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=kept | environment,
    )


def run(*arguments: object, **environment: str) -> tuple[int, str]:
    process = command(*arguments, **environment)
    said, _ = process.communicate(timeout=60)
    assert SECRET not in said
    return process.returncode, said


def in_cluster(cluster: Cluster) -> dict[str, str]:
    return {"KUBECONFIG": str(cluster.server.kubeconfig)}


def test_from_location_to_location_of_another_namespace(cluster: Cluster, backup: ForeignBackup) -> None:
    other = f"{cluster.namespace}-other"
    cluster.make_namespace(other)
    there = cluster.bucket("there", namespace=other)
    wanted = ("nightly", "--from", "here", "--to", "there", "-n", cluster.namespace, "--to-namespace", other)
    code, said = run(*wanted, **in_cluster(cluster))
    assert code == 0, said
    assert contents(there) == contents(backup.root)
    assert "every byte matched the backup's manifests and was read back" in said
    code, said = run(*wanted, "--verify", "size", **in_cluster(cluster))
    assert "nightly is complete: 0 of 23 objects sent (0); what was sent matched" in said, said


def test_a_completed_backup_says_itself_where_it_lies(cluster: Cluster, backup: ForeignBackup) -> None:
    there = cluster.bucket("there")
    cluster.apply("WeaviateBackup", "of-monday", spec={"locationRef": {"name": "here"}, "backupID": "nightly"})
    path = f"/apis/{API_VERSION}/namespaces/{cluster.namespace}/"
    _, location = cluster.server.request("GET", path + "weaviatebackuplocations/here")
    wanted = ("of-monday", "--to", "there", "-n", cluster.namespace)
    code, said = run(*wanted, **in_cluster(cluster))
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith("BackupNotCompleted: WeaviateBackup 'of-monday' is Pending")
    _, body = cluster.server.request("GET", path + "weaviatebackups/of-monday")
    body["status"] = {"phase": "Completed", "backupID": "nightly", "location": location["spec"]}
    status, answer = cluster.server.request("PUT", path + "weaviatebackups/of-monday/status", body)
    assert status == 200, answer
    code, said = run(*wanted, **in_cluster(cluster))
    assert code == 0, said
    assert contents(there) == contents(backup.root)


def test_files_bridge_what_no_kubeconfig_reaches(cluster: Cluster, backup: ForeignBackup, tmp_path: Path) -> None:
    """A bucket and a volume that is mounted here; both stores may need keys of the same name."""
    name = backup.root.parent.name
    s3 = {"bucket": name, "path": "prod", "endpoint": f"http://{cluster.s3.endpoint}", "region": "us-east-1"}
    (tmp_path / "bucket.yaml").write_text(location_yaml(s3={**s3, "credentialsSecretRef": {"name": "keys"}}))
    volume = {"nfs": {"server": "a", "path": "/"}}
    (tmp_path / "volume.yaml").write_text(location_yaml(filesystem={"path": "old", "volume": volume}))
    (tmp_path / "mounted").mkdir()
    keys = {f"FROM_{key}": value for key, value in cluster.s3.credentials.items()}
    decoys = dict.fromkeys((*cluster.s3.credentials, "AWS_SESSION_TOKEN"), "of-another-store")
    files = ("--from-file", tmp_path / "bucket.yaml", "--to-file", tmp_path / "volume.yaml")
    code, said = run("nightly", *files, "--to-directory", tmp_path / "mounted", **keys, **decoys)
    assert code == 0, said
    assert contents(tmp_path / "mounted" / "old") == contents(backup.root)
    code, said = run("nightly", *files, "--to-directory", tmp_path / "mounted", **decoys)
    assert code == 1
    assert said.startswith("InvalidCredentials: "), said
    assert said.endswith("(at the source)\n")


def location_yaml(**spec: object) -> str:
    secret = {"kind": "Secret", "metadata": {"name": "keys"}}
    location = {"apiVersion": API_VERSION, "kind": "WeaviateBackupLocation", "metadata": {"name": "x"}, "spec": spec}
    return yaml.safe_dump_all([secret, json.loads(json.dumps(location))])


def test_ctrl_c_leaves_what_another_run_goes_on_from(cluster: Cluster, backup: ForeignBackup) -> None:
    there = cluster.bucket("there")
    wanted = ("nightly", "--from", "here", "--to", "there", "-n", cluster.namespace)
    process = command(*wanted, "--workers", "1", "--max-bytes-per-second", "2Ki", **in_cluster(cluster))
    deadline = time.monotonic() + 30
    while not contents(there):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for child in children(process.pid):  # as a terminal does: to all in the foreground
        os.kill(child, signal.SIGINT)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    assert "Stopped. The same command goes on from here." in said
    assert "Traceback" not in said
    assert "nightly/backup_config.json" not in contents(there)
    code, said = run(*wanted, **in_cluster(cluster))
    assert code == 0, said
    assert "are there already" in said
    assert contents(there) == contents(backup.root)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
