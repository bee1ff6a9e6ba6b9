"""Layers of container images, made without a container engine and kept by the key of what they are made from.

From bottom to top: a minimal Debian with Python, our pinned dependencies, our code. The content matches the Dockerfile
that users build. Files carry no times, so the same input gives the same layer.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.lab.cache import exclusively, forget_unused, mark_used, project_cache
from e2e.lab.progress import step

TOP = Path(__file__).resolve().parents[2]

USER, UID = "weaviate-backup", 65532
"""Who the image runs as by itself."""

SUITE = "bookworm"
_PYTHON = "3.11"
PACKAGES_DIRECTORY = f"usr/local/lib/python{_PYTHON}/dist-packages"
DEBIAN_PACKAGES = ("python3", "ca-certificates")
_DEBIAN_LEFTOVERS = (
    "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "var/cache/apt",
    "var/lib/apt/lists", "var/log", "var/cache/debconf",
)  # fmt: skip
_RECIPE = "5"
"""Raise it when a layer is made differently from the same input."""
_KEPT = 4


@dataclass(frozen=True)
class Layer:
    """An uncompressed layer: its tar, its files, and the sha256 by which images name it."""

    tar: Path
    digest: str

    @property
    def root(self) -> Path:
        """The folder the tar was made from."""
        return self.tar.parent / "root"


def debian_layer() -> Layer:
    """A minimal Debian with Python and certificate authorities, without documentation and package lists."""
    key = _key("debian-2", SUITE, *DEBIAN_PACKAGES, *_DEBIAN_LEFTOVERS)
    return _layer("debian", key, _make_debian, f"Debian {SUITE} with Python, for images")


def dependencies_layer(below: Layer) -> Layer:
    """The locked runtime dependencies, byte-compiled."""
    lock = TOP / "operator" / "runtime.lock"

    def make(root: Path) -> None:
        target = root / PACKAGES_DIRECTORY
        target.mkdir(parents=True)
        _pip_install(target, "--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(lock))
        shutil.rmtree(target / "bin", ignore_errors=True)
        (root / "etc").mkdir()
        user = {"passwd": f"{USER}:x:{UID}:{UID}::/nonexistent:/usr/sbin/nologin\n", "group": f"{USER}:x:{UID}:\n"}
        for file, line in user.items():
            (root / "etc" / file).write_text((below.root / "etc" / file).read_text() + line)
        _compile(below=(below,), root=root, folder=PACKAGES_DIRECTORY)

    key = _key("dependencies-3", below.digest, lock.read_text())
    return _layer("dependencies", key, make, "our dependencies, for the image")


def code_layer(below: tuple[Layer, ...]) -> Layer:
    """Our package, byte-compiled, and its commands: what pip installs, without asking it for every changed line."""
    package = TOP / "operator" / "weaviate_backup"
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    sources = [path for path in sorted(package.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]

    def make(root: Path) -> None:
        target = root / PACKAGES_DIRECTORY / "weaviate_backup"
        shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))
        information = target.with_name(f"weaviate_backup_operator-{project['version']}.dist-info")
        information.mkdir()
        facts = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (information / "METADATA").write_text(facts)
        commands = root / "usr" / "local" / "bin"
        commands.mkdir(parents=True)
        for name, entry in project["scripts"].items():
            (commands / name).write_text(f"#!/usr/bin/python3\nfrom {entry.partition(':')[0]} import main\n\nmain()\n")
            (commands / name).chmod(0o755)
        _compile(below=below, root=root, folder=f"{PACKAGES_DIRECTORY}/weaviate_backup")

    contents = [part for path in sources for part in (str(path.relative_to(TOP)), path.read_bytes())]
    key = _key("code-3", project["version"], str(project["scripts"]), *(layer.digest for layer in below), *contents)
    return _layer("code", key, make, "our code, for the image")


def program_layer(name: str, program: Path, destination: str) -> Layer:
    """One static program, and the directories that a container needs."""

    def make(root: Path) -> None:
        for directory in ("dev", "etc", "proc", "run", "sys", "tmp", "var/lib"):
            (root / directory).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        path = root / destination.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(program, path)
        path.chmod(0o755)

    return _layer(
        name, _key(name, str(program), str(program.stat().st_mtime_ns), destination), make, f"{name}, for its image"
    )


def _make_debian(root: Path) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(DEBIAN_PACKAGES)}", SUITE, str(root)]
    _run(command, "make a minimal Debian")
    # Python would compile its whole library at every start: Debian's own byte code names the times that we do not keep.
    library = [f"/usr/lib/python{_PYTHON}", "-q", "-f", "--invalidation-mode", "unchecked-hash"]
    _run(["chroot", str(root), "python3", "-m", "compileall", *library], "byte-compile the image's Python library")
    for leftover in _DEBIAN_LEFTOVERS:
        directory = root / leftover
        if directory.is_dir():
            shutil.rmtree(directory)
            directory.mkdir()
    for file in ("etc/resolv.conf", "etc/hostname", "etc/machine-id"):
        (root / file).unlink(missing_ok=True)
    shutil.rmtree(root / "dev")
    (root / "dev").mkdir()


def _pip_install(target: Path, *arguments: str) -> None:
    """Installs wheels for the image's Python, which need not be the one that runs this."""
    uv = shutil.which("uv") or str(project_cache() / "uv" / "bin" / "uv")
    command = [
        uv, "pip", "install", "--quiet", "--no-compile",  "--target", str(target), "--link-mode", "copy",
        "--python-version", _PYTHON, "--python-platform", f"{os.uname().machine}-manylinux_2_36", *arguments,
    ]  # fmt: skip
    _run(command, "install into the image", environment=os.environ | {"VIRTUAL_ENV": sys.prefix})
    (target / ".lock").unlink(missing_ok=True)


def _run(command: list[str], purpose: str, *, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"could not {purpose}: {done.stdout[-1500:]}{done.stderr[-1500:]}")


def _compile(*, below: tuple[Layer, ...], root: Path, folder: str) -> None:
    """Byte-compiles with the image's own Python, in a throw-away union of the layers."""
    script = (
        'mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4" && mount --rbind /dev "$4/dev" && '
        'exec chroot "$4" python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash "/$5"'
    )
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        work, union = Path(scratch, "work"), Path(scratch, "union")
        work.mkdir()
        union.mkdir()
        lower = ":".join(str(layer.root) for layer in reversed(below))
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        command += [lower, str(root), str(work), str(union), folder]
        _run(command, "byte-compile the image's Python")


def _layer(kind: str, key: str, make: Callable[[Path], None], title: str) -> Layer:
    """The kept layer of that key, or a new one."""
    directory = project_cache() / "layers" / f"{kind}-{key}"
    facts = directory / "layer.json"
    if not facts.is_file():
        with exclusively(project_cache() / "layers" / "lock", waiting_for="another lab's image"):
            if not facts.is_file():
                forget_unused(directory.parent, f"{kind}-*", keep=_KEPT)
                with step(title, announce=kind == "debian"):
                    _make_layer(directory, make)
    mark_used(directory)
    return Layer(tar=directory / "layer.tar", digest=json.loads(facts.read_text())["digest"])


def _make_layer(directory: Path, make: Callable[[Path], None]) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    root, tar = directory / "root", directory / "layer.tar"
    root.mkdir(parents=True)
    make(root)
    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT) as archive:
        for path in _sorted_tree(root):
            entry = archive.gettarinfo(path, arcname=str(path.relative_to(root)))
            if entry is None:  # a socket
                continue
            entry.mtime = 0
            if stat.S_ISREG(path.lstat().st_mode) and entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    with tar.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    (directory / "layer.json").write_text(json.dumps({"digest": digest}))


def _sorted_tree(root: Path) -> Iterable[Path]:
    for path in sorted(root.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _sorted_tree(path)


def _key(*parts: str | bytes) -> str:
    digest = hashlib.sha256(_RECIPE.encode())
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:16]
