"""containerd's content of the lab's images: imported once, then shared read-only by the nodes of every lab.

Two golden roots lie over each other: one with everything that rarely changes, and one with our code on top of it, which
is made anew in a moment when the code changes. A node gets an overlay of both and adds its own changes.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from e2e.lab.cache import exclusively, forget_unused, mark_used, project_cache
from e2e.lab.images import Image
from e2e.lab.programs import program
from e2e.lab.progress import step

_RECIPE = "3"
_KEPT = 4
_SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs/snapshots"


def golden_roots(steady: list[Image], changing: list[Image]) -> tuple[Path, ...]:
    """The folders that a node's containerd starts on, topmost first."""
    lower = _golden("steady", steady, below=(), known_layers=frozenset())
    known_layers = frozenset(layer.digest for image in steady for layer in image.layers)
    return (_golden("code", changing, below=(lower,), known_layers=known_layers), lower)


def mount_commands(roots: tuple[Path, ...], *, over: Path) -> list[str]:
    """Shell commands that make `<over>/mounted` a root for containerd: the golden ones, and changes kept in `over`."""
    changes, work, snapshots, mounted = (over / name for name in ("root", "work", "snapshots", "mounted"))
    for directory in (changes, work, snapshots, mounted):
        directory.mkdir(parents=True, exist_ok=True)
    if roots:
        lower = ":".join(str(root / "root") for root in roots)
        commands = [f"mount -t overlay overlay -o lowerdir={lower},upperdir={changes},workdir={work} {mounted}"]
    else:
        (changes / _SNAPSHOTS).mkdir(parents=True)
        commands = [f"mount --bind {changes} {mounted}"]
    # An overlay cannot carry the writable layer of another: snapshots live in a plain folder, and the golden ones are
    # mounted into it.
    commands.append(f"mount --bind {snapshots} {mounted / _SNAPSHOTS}")
    for golden in (path for root in roots for path in sorted((root / "snapshots").iterdir()) if any(path.iterdir())):
        (snapshots / golden.name).mkdir()
        commands.append(f"mount --bind -o ro {golden} {mounted / _SNAPSHOTS / golden.name}")
    return commands


def _golden(kind: str, images: list[Image], *, below: tuple[Path, ...], known_layers: frozenset[str]) -> Path:
    """The kept root of exactly these images, or a new one."""
    parent = project_cache() / "containerd"
    key = hashlib.sha256(" ".join([_RECIPE, *(str(root) for root in below)]).encode())
    for image in images:
        key.update(image.name.encode() + image.configuration)
    directory = parent / f"{kind}-{key.hexdigest()[:16]}"
    if not (directory / "complete").is_file():
        with exclusively(parent / "lock", waiting_for="another lab's import of images"):
            if not (directory / "complete").is_file():
                forget_unused(parent, f"{kind}-*", keep=_KEPT)
                with step("importing images" if kind == "steady" else "importing our image"):
                    _import(images, directory, below=below, known_layers=known_layers)
    mark_used(directory)
    return directory


def _import(images: list[Image], directory: Path, *, below: tuple[Path, ...], known_layers: frozenset[str]) -> None:
    """Runs a containerd of its own for the import, in namespaces whose end ends it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    socket, log, config = (directory / name for name in ("containerd.sock", "containerd.log", "containerd.toml"))
    config.write_text(
        f'version = 3\nroot = "{directory / "mounted"}"\nstate = "{directory / "state"}"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]\n'
        f'[grpc]\n  address = "{socket}"\n'
    )
    script = [*mount_commands(below, over=directory), f"exec {program('containerd')} -c {config}"]
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    reader, writer = os.pipe()  # open until the last process of the namespace is gone
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [*command, "sh", "-c", " && ".join(script)], stdout=output, stderr=output, pass_fds=[writer]
        )
    os.close(writer)
    try:
        _wait_until_serving(socket, daemon, log)
        for image in images:
            _import_one(image, socket, omit=known_layers)
    finally:
        daemon.kill()
        daemon.wait()
        os.read(reader, 1)
        os.close(reader)
    for leftover in ("state", "work", "mounted"):
        shutil.rmtree(directory / leftover, ignore_errors=True)
    (directory / "complete").touch()


def _import_one(image: Image, socket: Path, *, omit: frozenset[str]) -> None:
    importer = subprocess.Popen(
        [program("ctr"), "-a", socket, "-n", "k8s.io", "images", "import", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert importer.stdin and importer.stderr
    with contextlib.suppress(BrokenPipeError):  # what went wrong is on the other stream
        image.write(importer.stdin, omit=omit)
    importer.stdin.close()
    complaint = importer.stderr.read().decode()
    if importer.wait():
        raise RuntimeError(f"containerd refused the image {image.name}: {complaint.strip()}")


def _wait_until_serving(socket: Path, daemon: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    probe: list[str | Path] = [program("ctr"), "-a", socket, "version"]
    while not socket.exists() or subprocess.run(probe, capture_output=True, check=False).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"containerd did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)
