"""Manifests in the documentation are what people copy: a real API server must take each of them as it stands."""

import re
import textwrap
from pathlib import Path

import pytest
import yaml
from tests.api.objects import Json
from tests.api_server import ApiServer

from weaviate_backup.api.names import API_VERSION

pytestmark = pytest.mark.kubernetes

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "operator" / "ARCHITECTURE.md")
BLOCK = re.compile(r"^( *)```yaml\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def documented() -> list[Json]:
    """Every object of one of our kinds in a YAML block."""
    texts = [textwrap.dedent(text) for page in PAGES for _, text in BLOCK.findall(page.read_text())]
    bodies = [body for text in texts for body in yaml.safe_load_all(text)]
    return [body for body in bodies if isinstance(body, dict) and body.get("apiVersion") == API_VERSION]


MANIFESTS = documented()


def test_every_kind_is_shown() -> None:
    assert {body["kind"] for body in MANIFESTS} >= {"WeaviateBackupLocation", "WeaviateBackup", "WeaviateRestore"}


@pytest.mark.parametrize("body", MANIFESTS, ids=lambda body: f"{body['kind']} {body['metadata']['name']}")
def test_the_api_server_takes_it(api_server: ApiServer, body: Json) -> None:
    namespace = body["metadata"].setdefault("namespace", "default")
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    code, answer = api_server.apply(body, dry_run=True)
    assert code == 201, answer.get("message")
