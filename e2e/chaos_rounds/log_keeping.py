"""Logs of pods outlive their pods: each file is linked into a folder of its own as soon as it is seen."""

import os
import threading
from pathlib import Path

LOOK_SECONDS = 0.4
PARTS = ("wvb-", "weaviate-backup-operator", "_weaviate-")


class LogKeeper:
    """Watches all nodes of a lab until `stop`. `files`: all that were kept since the last `forget`."""

    def __init__(self, lab_directory: Path) -> None:
        self.directory = lab_directory / "kept-logs"
        self.directory.mkdir(exist_ok=True)
        self._nodes = lab_directory / "nodes"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def files(self) -> list[Path]:
        return sorted(self.directory.iterdir())

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            for path in self._nodes.glob("*/var/log/pods/*/*/*.log"):
                pod = path.parts[-3]
                if any(part in pod for part in PARTS):
                    self._keep(path, self.directory / f"{pod}.{path.parts[-2]}.{path.name}")

    def _keep(self, path: Path, kept: Path) -> None:
        try:
            os.link(path, kept)
        except FileExistsError:
            return
        except OSError:
            return  # the pod is gone since it was listed
