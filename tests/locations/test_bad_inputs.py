"""Everything that people get wrong in a location: one line that names the field and the cure, within half a minute.

Each is tried as a store worker tries it, on real servers, all at once. A path with `..` does not get this far: the API
server refuses it (`tests/api/test_rules.py`).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.azure_server import KEY
from tests.locations.cases import CASES, SERVICE_ACCOUNT, Case
from tests.locations.places import READER_SECRET, servers
from tests.locations.trying import tried

from weaviate_backup.core.location_verdict import Verdict

SECONDS = 30.0


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Verdict, float]]]:
    """Of all cases, each in a thread of its own: most of the time is waiting."""
    directory = tmp_path_factory.mktemp("bad-inputs")
    with servers(directory) as there, ThreadPoolExecutor(len(CASES)) as pool:
        running = {case.name: pool.submit(tried, case.make(there)) for case in CASES}
        yield {name: future.result() for name, future in running.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_wrong_is_said_in_one_line(case: Case, verdicts: dict[str, tuple[Verdict, float]]) -> None:
    verdict, seconds = verdicts[case.name]
    assert verdict.reason == case.reason, verdict.message
    assert not [word for word in case.words if word not in verdict.message], verdict.message
    assert "\n" not in verdict.message
    assert len(verdict.message) < 400
    secrets = ("testsecret", "x" * 40, READER_SECRET, KEY, SERVICE_ACCOUNT["private_key"][30:60])
    assert not [secret for secret in secrets if secret in verdict.message]
    assert seconds < SECONDS
