"""The lab's images, and containerd's content of them all: imported once, then shared by the nodes of every lab.

An image is a list of layers and a configuration; containerd reads it as a stream in docker-archive form.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from e2e.lab.layers import Layer, code_layer, debian_layer, dependencies_layer, program_layer
from e2e.lab.programs import exclusively, program, project_cache
from e2e.lab.progress import step

REGISTRY = "docker.io/local"
PAUSE_IMAGE = f"{REGISTRY}/pause:1"
OPERATOR_REPOSITORY = f"{REGISTRY}/weaviate-backup-operator"
OPERATOR_TAG = "dev"
_KEPT_GOLDEN_ROOTS = 4
_GOLDEN_RECIPE = "1"


@dataclass(frozen=True)
class Image:
    name: str
    layers: tuple[Layer, ...]
    entry_point: tuple[str, ...]
    user: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def configuration(self) -> bytes:
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"} | self.environment
        config = {
            "Entrypoint": list(self.entry_point),
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "User": self.user,
        }
        layers = {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in self.layers]}
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        content = {"architecture": architecture, "os": "linux", "config": config, "rootfs": layers}
        return json.dumps(content, sort_keys=True).encode()

    def write(self, stream: IO[bytes]) -> None:
        """The image in docker-archive form."""
        config_name = hashlib.sha256(self.configuration).hexdigest() + ".json"
        layer_names = [f"{layer.digest}/layer.tar" for layer in self.layers]
        manifest = json.dumps([{"Config": config_name, "RepoTags": [self.name], "Layers": layer_names}]).encode()
        with tarfile.open(fileobj=stream, mode="w|") as archive:
            for name, content in ((config_name, self.configuration), ("manifest.json", manifest)):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            for name, layer in zip(layer_names, self.layers, strict=True):
                entry = tarfile.TarInfo(name)
                entry.size = layer.tar.stat().st_size
                with layer.tar.open("rb") as content_stream:
                    archive.addfile(entry, content_stream)


def weaviate_image_name(version: str) -> str:
    return f"{REGISTRY}/weaviate:{version}"


def lab_images(weaviate_version: str) -> list[Image]:
    """All images of a lab; layers that are not kept yet are made."""
    debian = debian_layer()
    pause = program_layer("pause", program("pause"), "/pause")
    binary = program(f"weaviate-server-{weaviate_version}")
    weaviate = program_layer(f"weaviate-{weaviate_version}", binary, "/bin/weaviate")
    return [
        Image(PAUSE_IMAGE, (pause,), ("/pause",)),
        Image(weaviate_image_name(weaviate_version), (debian, weaviate), ("/bin/weaviate",)),
        operator_image(debian),
    ]


def operator_image(debian: Layer) -> Image:
    """Operator and agent: what the Dockerfile makes."""
    dependencies = dependencies_layer(debian)
    code = code_layer((debian, dependencies))
    return Image(
        f"{OPERATOR_REPOSITORY}:{OPERATOR_TAG}",
        (debian, dependencies, code),
        ("/usr/bin/python3", "-m", "weaviate_backup.cli"),
        user="65532:65532",
        environment={"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def golden_root(images: list[Image]) -> Path:
    """containerd's root folder with exactly these images imported and unpacked; kept by their content."""
    key = hashlib.sha256(_GOLDEN_RECIPE.encode())
    for image in images:
        key.update(image.name.encode() + image.configuration)
    directory = project_cache() / "containerd" / key.hexdigest()[:16]
    if not (directory / "complete").is_file():
        with exclusively(project_cache() / "containerd" / "lock", waiting_for="another lab's import of images"):
            if not (directory / "complete").is_file():
                _forget_old_roots()
                with step("importing images"):
                    _import(images, directory)
    os.utime(directory)
    return directory / "root"


def _import(images: list[Image], directory: Path) -> None:
    """Runs a containerd of its own for the import; both end with the namespace they run in."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    socket, log = directory / "containerd.sock", directory / "containerd.log"
    config = directory / "containerd.toml"
    config.write_text(
        f'version = 3\nroot = "{directory / "root"}"\nstate = "{directory / "state"}"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]\n'
        f'[grpc]\n  address = "{socket}"\n'
    )
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    with log.open("wb") as output:
        daemon = subprocess.Popen([*command, program("containerd"), "-c", config], stdout=output, stderr=output)
    try:
        _wait_until_serving(socket, daemon, log)
        for image in images:
            importer = subprocess.Popen(
                [program("ctr"), "-a", socket, "-n", "k8s.io", "images", "import", "-"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
            assert importer.stdin and importer.stderr
            with contextlib.suppress(BrokenPipeError):  # what went wrong is on the other stream
                image.write(importer.stdin)
            importer.stdin.close()
            complaint = importer.stderr.read().decode()
            if importer.wait():
                raise RuntimeError(f"containerd refused the image {image.name}: {complaint.strip()}")
    finally:
        daemon.kill()  # the kernel then ends containerd too; its databases are safe at any instant
        daemon.wait()
    shutil.rmtree(directory / "state", ignore_errors=True)
    (directory / "complete").touch()


def _wait_until_serving(socket: Path, daemon: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    probe: list[str | Path] = [program("ctr"), "-a", socket, "version"]
    while not socket.exists() or subprocess.run(probe, capture_output=True, check=False).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"containerd did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _forget_old_roots() -> None:
    """Removes roots that no lab asked for since a day, but for the newest few."""
    roots = [path.parent for path in (project_cache() / "containerd").glob("*/complete")]
    roots.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in roots[_KEPT_GOLDEN_ROOTS:]:
        shutil.rmtree(path, ignore_errors=True)
