"""`e2e/lab/run [options] -- COMMAND…`: runs a command beside a real Weaviate on a real three-node Kubernetes.

What is missing is built first; then everything happens in a sandbox that leaves nothing behind. The command finds
KUBECONFIG, kubectl, helm and ctr on its PATH, LAB_NAMESPACE, WEAVIATE_URLS (by ordinal), LAB_DIR (with
`volumes/<claim name>`, `stores/<kind>`, `stores.json`, `logs`, `nodes/<name>`), and for S3 LAB_S3_ENDPOINT,
LAB_S3_BUCKET and AWS_*.
It runs in the lab's network and sees pods, services and cluster DNS. Its exit status is the lab's.
"""

import argparse
import re
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from e2e.lab.cache import project_cache
from e2e.lab.golden import golden_roots
from e2e.lab.images import lab_images
from e2e.lab.layers import TOP
from e2e.lab.plan import Plan
from e2e.lab.programs import OLDER_HELM, RECIPES, WEAVIATE_VERSION, BuildFailed, build
from e2e.lab.progress import console
from e2e.lab.sandbox import Janitor, run_in_sandbox
from e2e.lab.stores import KINDS, PROGRAMS, require_known
from e2e.lab.system import Unsuitable, install_missing_packages, require_suitable_machine

CHART = TOP / "charts" / "weaviate-backup-operator"
_HIDDEN_ON_NODES = ("/var/lib", "/var/log", "/run")


def main() -> None:
    arguments = _parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, _end)
    try:
        require_suitable_machine()
        _require_usable_folders()
        stores = tuple(dict.fromkeys(["filesystem", *arguments.stores]))
        require_known(stores)
        install_missing_packages()
        _build_programs(arguments.weaviate, stores)
        golden = golden_roots(*lab_images(arguments.weaviate))
    except (Unsuitable, BuildFailed, ValueError, RuntimeError) as error:
        sys.exit(f"lab: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    directory = Path(tempfile.mkdtemp(prefix="weaviate-backup-lab-"))
    janitor = Janitor(directory)
    keep, status = True, 70
    try:
        (directory / "logs").mkdir()
        directory.chmod(0o755)
        plan = Plan(
            directory=directory,
            golden_roots=golden,
            chart=CHART if arguments.operator and (CHART / "Chart.yaml").is_file() else None,
            weaviate_version=arguments.weaviate,
            replicas=arguments.replicas,
            stores=stores,
            command=tuple(arguments.command),
            working_directory=Path.cwd(),
            weaviate_environment=arguments.weaviate_env,
            volume_mebibytes=arguments.volume_mebibytes,
        )
        status = run_in_sandbox("e2e.lab.inside", plan.save())
        keep = arguments.keep or status != 0
    finally:
        janitor.finish(keep_directory=keep)
        if keep:
            console.print(f"[yellow]the lab's folder is kept: logs are in {directory / 'logs'}[/]")
    sys.exit(status)


def _parse(arguments: list[str]) -> argparse.Namespace:
    options, command = arguments, list[str]()
    if "--" in arguments:
        separator = arguments.index("--")
        options, command = arguments[:separator], arguments[separator + 1 :]
    parser = argparse.ArgumentParser(
        prog="e2e/lab/run", usage="e2e/lab/run [options] -- COMMAND…", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--weaviate", default=WEAVIATE_VERSION, metavar="VERSION", help="server version (%(default)s)")
    parser.add_argument("--replicas", type=int, default=3, help="Weaviate pods (%(default)s)")
    parser.add_argument("--stores", nargs="*", default=["s3"], metavar="KIND", help=f"of {', '.join(KINDS)} (s3)")
    parser.add_argument("--no-operator", dest="operator", action="store_false", help="leave our operator out")
    parser.add_argument("--keep", action="store_true", help="keep LAB_DIR also on success")
    parser.add_argument(
        "--weaviate-env", action="append", default=[], metavar="KEY=VALUE", help="environment of the Weaviate pods"
    )
    parser.add_argument(
        "--volume-mebibytes",
        type=int,
        default=0,
        metavar="N",
        help="volumes of that size, in memory (as the machine has)",
    )
    parsed = parser.parse_args(options)
    if not command:
        parser.error("say what to run after --, for example: e2e/lab/run -- bash")
    parsed.command = command
    for pair in parsed.weaviate_env:
        if not re.match(r"\w+=", pair):
            parser.error(f"--weaviate-env {pair!r} is not of the form KEY=VALUE")
    parsed.weaviate_env = dict(pair.split("=", 1) for pair in parsed.weaviate_env)
    return parsed


def _build_programs(weaviate_version: str, stores: tuple[str, ...]) -> None:
    optional = {name for names in PROGRAMS.values() for name in names} | {"weaviate-server", OLDER_HELM}
    names = [name for name in RECIPES if name not in optional]
    names += [name for kind in stores for name in PROGRAMS.get(kind, ())]
    build([*names, f"weaviate-server-{weaviate_version}"])


def _require_usable_folders() -> None:
    for folder, variable in ((project_cache(), "XDG_CACHE_HOME"), (Path(tempfile.gettempdir()), "TMPDIR"), (TOP, "")):
        if any(folder.resolve().is_relative_to(hidden) for hidden in _HIDDEN_ON_NODES):
            cure = f"set {variable} to another folder" if variable else "move the checkout"
            raise Unsuitable(f"{folder} lies where the lab's nodes have folders of their own; {cure}")


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
