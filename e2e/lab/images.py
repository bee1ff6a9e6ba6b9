"""The lab's images: a list of layers and a configuration each, written as an OCI layout that containerd imports."""

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass, field
from typing import IO, Any

from e2e.lab.layers import UID, USER, Layer, code_layer, debian_layer, dependencies_layer, program_layer
from e2e.lab.programs import program

REGISTRY = "docker.io/local"
PAUSE_IMAGE = f"{REGISTRY}/pause:1"
OPERATOR_REPOSITORY = f"{REGISTRY}/weaviate-backup-operator"
OPERATOR_TAG = "dev"
OPERATOR_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "USER": USER}
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


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
        return _json(content)

    def write(self, stream: IO[bytes], *, omit: frozenset[str]) -> None:
        """The image as an OCI layout in a tar, without the layers that the reader is known to have."""
        layers = [
            {"mediaType": _LAYER_TYPE, "digest": f"sha256:{layer.digest}", "size": layer.tar.stat().st_size}
            for layer in self.layers
        ]
        config = _descriptor("application/vnd.oci.image.config.v1+json", self.configuration)
        manifest = _json({"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": config, "layers": layers})
        named = _descriptor(_MANIFEST_TYPE, manifest) | {"annotations": {"io.containerd.image.name": self.name}}
        small_files = {
            "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
            _blob(hashlib.sha256(self.configuration).hexdigest()): self.configuration,
            _blob(hashlib.sha256(manifest).hexdigest()): manifest,
            "index.json": _json({"schemaVersion": 2, "manifests": [named]}),
        }
        with tarfile.open(fileobj=stream, mode="w|") as archive:
            for layer in self.layers:
                if layer.digest not in omit:
                    with layer.tar.open("rb") as content:
                        archive.addfile(_entry(_blob(layer.digest), layer.tar.stat().st_size), content)
            for name, small in small_files.items():
                archive.addfile(_entry(name, len(small)), io.BytesIO(small))


def _entry(name: str, size_bytes: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size_bytes
    return entry


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest}"


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def weaviate_image_name(version: str) -> str:
    return f"{REGISTRY}/weaviate:{version}"


def lab_images(weaviate_version: str) -> tuple[list[Image], list[Image]]:
    """The images that rarely change, and ours on layers of theirs. Layers that are not kept yet are made."""
    debian = debian_layer()
    dependencies = dependencies_layer(debian)
    pause = program_layer("pause", program("pause"), "/pause")
    binary = program(f"weaviate-server-{weaviate_version}")
    weaviate = program_layer(f"weaviate-{weaviate_version}", binary, "/bin/weaviate")
    steady = [
        Image(PAUSE_IMAGE, (pause,), ("/pause",)),
        Image(weaviate_image_name(weaviate_version), (debian, weaviate), ("/bin/weaviate",)),
        Image(f"{OPERATOR_REPOSITORY}-dependencies:{OPERATOR_TAG}", (debian, dependencies), ("/usr/bin/python3",)),
    ]
    return steady, [operator_image((debian, dependencies))]


def operator_image(below: tuple[Layer, ...]) -> Image:
    """Operator and agent: what the Dockerfile makes."""
    return Image(
        f"{OPERATOR_REPOSITORY}:{OPERATOR_TAG}",
        (*below, code_layer(below)),
        ("weaviate-backup-operator",),
        user=f"{UID}:{UID}",
        environment=OPERATOR_ENVIRONMENT,
    )
