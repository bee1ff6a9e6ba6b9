"""Libraries that tell of requests, with what they carry, are quiet in every program, whatever its level is."""

import subprocess
import sys

import pytest

from weaviate_backup.settings import TALKATIVE

PROGRAMS = {
    "operator": "from weaviate_backup.cli import _configure_logging; _configure_logging('debug')",
    "plugin": "from weaviate_backup.plugin import commands; commands.app = lambda **_: None; commands.main()",
}
LOUD = (
    "import logging; logging.getLogger().setLevel('DEBUG')\n{start}\nlogging.getLogger().setLevel('DEBUG')\n"
    "import boto3, urllib3, aiohttp, azure.storage.blob, google.cloud.storage\n"
    "for name in sorted({{*logging.root.manager.loggerDict, {below}}}):\n"
    "    print(name, logging.getLogger(name).getEffectiveLevel())"
)
CHILDREN = (
    "botocore.auth",
    "botocore.endpoint",
    "urllib3.connectionpool",
    "azure.core.pipeline.policies",
    "aiohttp.client",
)


@pytest.mark.parametrize("start", PROGRAMS.values(), ids=PROGRAMS)
def test_no_library_tells_of_requests(start: str) -> None:
    code = LOUD.format(start=start, below=", ".join(map(repr, (*TALKATIVE, *CHILDREN))))
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    levels = dict(line.split() for line in told.splitlines())
    assert levels.keys() >= {*TALKATIVE, *CHILDREN}
    loud = [name for name, level in levels.items() if name.split(".")[0] in TALKATIVE and int(level) < 30]
    assert not loud
