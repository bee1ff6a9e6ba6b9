"""What is written in two places agrees: versions of programs with their go.mod, the lab's image with the Dockerfile."""

import re

import pytest
from e2e.lab.images import OPERATOR_ENVIRONMENT
from e2e.lab.layers import DEBIAN_PACKAGES, PACKAGES_DIRECTORY, SUITE, UID, USER
from e2e.lab.programs import RECIPES, ProgramMissing, program, recipe_of
from tests.lab.relay import TOP


@pytest.mark.parametrize(
    ("name", "module", "requirement"),
    [
        ("kubelet", "kubernetes", "k8s.io/kubernetes"),
        ("etcd", "kubernetes", "go.etcd.io/etcd/server/v3"),
        ("containerd", "containerd", "github.com/containerd/containerd/v2"),
    ],
)
def test_the_version_of_a_program_is_the_one_its_module_pins(name: str, module: str, requirement: str) -> None:
    pins = (TOP / "e2e/lab/modules" / module / "go.mod").read_text()
    pinned = re.search(rf"^(?:require )?\s*{re.escape(requirement)} v(\S+)", pins, re.MULTILINE)
    assert pinned
    assert RECIPES[name].version == pinned[1]


def test_any_version_of_weaviate_has_a_recipe() -> None:
    assert recipe_of("weaviate-server-1.37.14").title == "weaviate-server 1.37.14"
    with pytest.raises(KeyError, match="no program is named"):
        recipe_of("weaviate-server-latest")


def test_a_missing_program_tells_how_it_is_built() -> None:
    with pytest.raises(ProgramMissing, match=r"python -m e2e\.lab\.programs weaviate-server-0\.0\.1"):
        program("weaviate-server-0.0.1")


def test_the_image_of_the_lab_is_the_one_of_the_dockerfile() -> None:
    dockerfile = (TOP / "Dockerfile").read_text()
    final = dockerfile.split("\nFROM ")[-1]
    assert final.startswith("${BASE}\n")
    assert re.search(rf"^ARG BASE=debian:{SUITE}-[0-9]+-slim@sha256:", dockerfile, re.MULTILINE)
    assert f"install --yes --no-install-recommends {' '.join(DEBIAN_PACKAGES)}" in final
    assert f"useradd --uid {UID} --gid {UID}" in final
    assert re.search(rf"nologin {USER}$", final, re.MULTILINE)
    assert f"/{PACKAGES_DIRECTORY}" in final
    variables = re.search(r"^ENV (.*)$", final, re.MULTILINE)
    assert variables
    assert dict(pair.split("=") for pair in variables[1].split()) == OPERATOR_ENVIRONMENT
    assert f"USER {UID}:{UID}" in final
    assert 'ENTRYPOINT ["weaviate-backup-operator"]' in final
