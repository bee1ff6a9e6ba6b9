"""What a lab is to be: everything that is decided before it starts, handed into the sandbox as one JSON file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

NAMESPACE = "weaviate"
OPERATOR_NAMESPACE = "weaviate-backup-system"
NODES = ("node-0", "node-1", "node-2")


@dataclass(frozen=True)
class Plan:
    """One lab. `directory` is LAB_DIR; all other paths were made before the sandbox is entered."""

    directory: Path
    golden_roots: tuple[Path, ...]
    """Folders with containerd's content of all images, topmost first; shared read-only by the nodes."""
    chart: Path | None
    """The operator's chart. None: no operator is installed."""
    weaviate_version: str
    replicas: int
    stores: tuple[str, ...]
    """Kinds of stores that run beside the filesystem, which is always there."""
    command: tuple[str, ...]
    working_directory: Path
    weaviate_environment: dict[str, str] = field(default_factory=dict)
    volume_mebibytes: int = 0
    """Size of each Weaviate pod's volume, which is then in memory; 0: all that the machine has."""

    @property
    def name(self) -> str:
        """Also the name of its cgroups."""
        return self.directory.name

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    def save(self) -> Path:
        path = self.directory / "plan.json"
        path.write_text(json.dumps(asdict(self), default=str, indent=1))
        return path

    @classmethod
    def load(cls, path: Path) -> "Plan":
        fields = json.loads(path.read_text())
        for name in ("directory", "chart", "working_directory"):
            fields[name] = Path(fields[name]) if fields[name] is not None else None
        for name in ("stores", "command"):
            fields[name] = tuple(fields[name])
        fields["golden_roots"] = tuple(Path(path) for path in fields["golden_roots"])
        return cls(**fields)
