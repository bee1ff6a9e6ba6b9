"""The files that are made from the models: the CRDs, and the chart's copy of them. `crds/generate` writes them.

Kept beside the test that compares them, so that both use one definition of what is current.
"""

from pathlib import Path
from typing import Any

import yaml

from weaviate_backup.api.crd import definitions

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT / "crds", ROOT / "charts" / "weaviate-backup-operator" / "files" / "crds")
HEADER = "# Generated from operator/weaviate_backup/api by crds/generate; do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Without anchors, and with lists indented below their key."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def expected_files() -> dict[Path, str]:
    """Every generated file with its content."""
    texts = {
        f"{name}.yaml": HEADER + yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=118)
        for name, definition in definitions().items()
    }
    return {folder / name: text for folder in FOLDERS for name, text in texts.items()}


def surplus_files() -> list[Path]:
    """CRD files that no model stands behind any more."""
    expected = expected_files()
    return sorted(path for folder in FOLDERS for path in folder.glob("*.yaml") if path not in expected)


def main() -> None:
    for path in surplus_files():
        path.unlink()
    for path, text in expected_files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
