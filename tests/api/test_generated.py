"""Generated files say what the models say."""

from pathlib import Path

import pytest
from tests.api.generated import ROOT, expected_files, surplus_files

FILES = expected_files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_current(path: Path) -> None:
    assert path.is_file(), "run crds/generate"
    assert path.read_text() == FILES[path], "run crds/generate"


def test_no_definition_is_left_over() -> None:
    assert surplus_files() == [], "run crds/generate"


def test_definitions_can_be_applied_from_the_client_side() -> None:
    """`kubectl apply` keeps the whole object in an annotation, which Kubernetes limits."""
    assert max(len(text) for text in FILES.values()) < 200_000
