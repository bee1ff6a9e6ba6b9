"""The committed stubs are what the committed definitions generate."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROTOCOL = Path("weaviate_backup/weaviate/protocol")


def test_stubs_are_generated_from_the_definitions(tmp_path: Path) -> None:
    definitions = sorted(path.name for path in (ROOT / "operator" / PROTOCOL).glob("*.proto"))
    assert definitions == ["cluster.proto", "file_replication.proto"]
    outputs = ["--python_out=", "--grpc_python_out=", "--mypy_out=quiet:", "--mypy_grpc_out=quiet:"]
    plugins = str(Path(sys.executable).parent)  # where protoc finds protoc-gen-mypy
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'operator'}"]
        + [f"{output}{tmp_path}" for output in outputs]
        + [str(PROTOCOL / name) for name in definitions],
        check=True,
        env=os.environ | {"PATH": plugins + os.pathsep + os.environ.get("PATH", "")},
    )
    generated = {path.name: path.read_text() for path in (tmp_path / PROTOCOL).iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / "operator" / PROTOCOL).glob("*_pb2*")}
    assert generated.keys() == committed.keys()
    stale = [name for name in generated if generated[name] != committed[name]]
    assert not stale, "regenerate with: python -m grpc_tools.protoc -Ioperator " + " ".join(
        f"{output}operator" for output in outputs
    )
