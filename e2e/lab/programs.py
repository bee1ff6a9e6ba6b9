"""Programs that tests, lab and demo run: Kubernetes, containerd, Weaviate, stores. Built once, kept outside the tree.

`program("kubelet")` gives the path of a built program or says how to build it; `python -m e2e.lab.programs` builds all
that is missing. Everything comes at a pinned version, through the Go module proxy or, for what runs on Node.js, from
npm. Nothing here starts a program or needs root.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e.lab.cache import exclusively, project_cache
from e2e.lab.progress import console, step
from e2e.lab.toolchains import find_go, find_node

KUBERNETES_VERSION = "1.37.2"
CONTAINERD_VERSION = "2.4.2"
WEAVIATE_VERSION = "1.39.1"
OLDER_WEAVIATE_VERSION = "1.37.14"
"""The newest of the servers that halt a shard by other calls and forget more in their own backups."""

_SOURCES = Path(__file__).with_name("modules")
_KUBERNETES_FLAGS = " ".join(
    f"-X {package}.gitVersion=v{KUBERNETES_VERSION}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
)


class ProgramMissing(Exception):
    """A program has not been built; the message holds the command that builds it."""


class BuildFailed(Exception):
    """A build ended with an error; the message holds the end of its output."""


@dataclass(frozen=True)
class Recipe:
    """How one program is built."""

    name: str
    version: str
    package: str
    module: str | None = None
    """Folder of the go.mod that pins everything. None: the package is a module of its own and brings its pins."""
    tags: str = ""
    link_flags: str = ""
    script: str | None = None
    """File of an npm package, below its folder, that Node.js runs. None: it is a Go program."""

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def path(self) -> Path:
        return cache_directory() / f"{self.name}-{self.version}" / self.name


def _kubernetes(name: str) -> Recipe:
    package = f"k8s.io/kubernetes/cmd/{name}"
    return Recipe(name, KUBERNETES_VERSION, package, module="kubernetes", link_flags=_KUBERNETES_FLAGS)


def _containerd(name: str) -> Recipe:
    package = f"github.com/containerd/containerd/v2/cmd/{name}"
    return Recipe(name, CONTAINERD_VERSION, package, module="containerd", tags="no_btrfs,no_devmapper,no_zfs")


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubectl"),
        _kubernetes("kubelet"),
        _kubernetes("kube-proxy"),
        Recipe("etcd", "3.7.3", "go.etcd.io/etcd/server/v3", module="kubernetes"),
        _containerd("containerd"),
        _containerd("containerd-shim-runc-v2"),
        _containerd("ctr"),
        Recipe("pause", "1", "lab/pause", module="pause"),
        Recipe("coredns", "1.15.0", "github.com/coredns/coredns"),
        Recipe("helm", "4.3.1", "helm.sh/helm/v4/cmd/helm"),
        Recipe("versitygw", "1.8.0", "github.com/versity/versitygw/cmd/versitygw"),
        Recipe("fake-gcs-server", "1.56.1", "github.com/fsouza/fake-gcs-server"),
        Recipe("azurite", "3.37.0", "azurite", script="dist/src/blob/main.js"),
        Recipe("weaviate-server", WEAVIATE_VERSION, "github.com/weaviate/weaviate/cmd/weaviate-server"),
    )
}
OLDER_HELM = "helm-3"
"""The line of helm before ours, which many still use: the chart is tried with both."""
_HELM_FLAGS = " ".join(
    f"-X helm.sh/helm/v3/pkg/{package}.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/{package}.k8sVersionMinor=37"
    for package in ("chartutil", "lint/rules")
)
"""As its releases are built: the Kubernetes that `helm template` takes for granted without a cluster, else 1.20."""
RECIPES[OLDER_HELM] = Recipe("helm", "3.22.0", "helm.sh/helm/v3/cmd/helm", link_flags=_HELM_FLAGS)


def recipe_of(name: str) -> Recipe:
    """The recipe of a program: by its name, or `weaviate-server-1.37.14` for any version of Weaviate."""
    if name in RECIPES:
        return RECIPES[name]
    if match := re.fullmatch(r"weaviate-server-(\d+\.\d+\.\d+(?:-[\w.]+)?)", name):
        default = RECIPES["weaviate-server"]
        return Recipe(default.name, match[1], default.package)
    raise KeyError(f"no program is named {name!r}; there are {', '.join(RECIPES)} and weaviate-server-<version>")


def program(name: str) -> Path:
    """The built program. Raises ProgramMissing, with the command that builds it, when it is not there."""
    path = recipe_of(name).path
    if not path.is_file():
        raise ProgramMissing(f"{name} is not built yet; build it with: python -m e2e.lab.programs {name}")
    return path


def cache_directory() -> Path:
    """Where programs are kept, outside the tree and for all checkouts."""
    return project_cache() / "programs"


def build(names: list[str]) -> None:
    """Builds what is missing of these programs, one after the other: a build uses all cores."""
    recipes = [recipe_of(name) for name in names]
    missing = [recipe for recipe in recipes if not recipe.path.is_file()]
    if not missing:
        return
    with exclusively(cache_directory() / "lock", waiting_for="another build of programs"):
        missing = [recipe for recipe in missing if not recipe.path.is_file()]
        if len(missing) > 3:
            console.print(
                f"building {len(missing)} programs once: about 20 minutes on two cores when nothing is cached"
            )
        for number, recipe in enumerate(missing, 1):
            with step(f"{recipe.title} ({number} of {len(missing)})", announce=True):
                _build(recipe)


def _build(recipe: Recipe) -> None:
    """Builds into a directory beside the final one and renames it, so that a program is there whole or not at all."""
    cache_directory().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_directory(), prefix="building-") as directory:
        output = Path(directory) / "output"
        output.mkdir()
        if recipe.script:
            _install_script(recipe, recipe.script, output)
        else:
            _build_with_go(recipe, output)
        shutil.rmtree(recipe.path.parent, ignore_errors=True)
        output.rename(recipe.path.parent)


def _build_with_go(recipe: Recipe, output: Path) -> None:
    go = find_go()
    flags = ["-trimpath", "-ldflags", f"-s -w {recipe.link_flags}".strip()]
    if recipe.tags:
        flags += ["-tags", recipe.tags]
    environment = {
        "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local", "PATH": f"{go.parent}:{os.environ['PATH']}",
    }  # fmt: skip
    if recipe.module:
        command = ["build", *flags, "-o", f"{output / recipe.name}", recipe.package]
        folder = _SOURCES / recipe.module
    else:
        command = ["install", *flags, f"{recipe.package}@v{recipe.version}"]
        folder, environment = output.parent, environment | {"GOBIN": str(output)}
    _run(recipe, [str(go), *command], folder, environment)


def _install_script(recipe: Recipe, script: str, output: Path) -> None:
    """An npm package with all it needs, and a program that starts its script wherever the folder lies."""
    node = find_node()
    command = [*node.npm, "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund"]
    environment = {"PATH": f"{node.program.parent}:{os.environ['PATH']}"}
    _run(recipe, [*command, "--prefix", str(output), f"{recipe.package}@{recipe.version}"], output, environment)
    starter = output / recipe.name
    starter.write_text(
        f'#!/bin/sh\nexec {node.program} "$(dirname "$(realpath "$0")")/node_modules/{recipe.package}/{script}" "$@"\n'
    )
    starter.chmod(0o755)


def _run(recipe: Recipe, command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildFailed(f"{recipe.title} could not be built: {' '.join(command)}\n{done.stderr[-4000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.lab.programs", description="Builds programs that are missing.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(RECIPES)}, weaviate-server-<version>")
    parser.add_argument("--all", action="store_true", help="all of them (also when no name is given)")
    arguments = parser.parse_args()
    everything = [*RECIPES, f"weaviate-server-{OLDER_WEAVIATE_VERSION}"]
    names = arguments.names if arguments.names and not arguments.all else everything
    try:
        build(names)
    except (BuildFailed, KeyError) as error:
        sys.exit(str(error.args[0]))
    for name in names:
        console.print(f"[dim]{program(name)}[/]")


if __name__ == "__main__":
    main()
