"""Whoever owns Weaviate exchanges what lies on the volume while the agent works: nothing of the agent's own reaches
him, nothing outside the volume changes, and every step ends.
"""

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from tests.hostile.between_calls import before_each_call
from tests.hostile.scenes import SCENES, Scene
from tests.hostile.volume import Attacker, Outside, Volume, kinds_that_can_be_made
from tests.time_limits import ended_after

from weaviate_backup.errors import BackupError

ATTACKS = 240
"""Of each scene, spread over all calls, entries and kinds; `WVB_EVERY_ATTACK=1` makes every one."""
RACE_SECONDS = 1.0
RUNS_OF_A_RACE = 5
HANG_SECONDS = 20


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory on a file system that is not the machine's own, as a volume's is not, and quick."""
    shared = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="wvb-hostile-", dir=shared if os.access(shared, os.W_OK) else None))
    yield directory
    shutil.rmtree(directory)


def never_longer(what: str) -> AbstractContextManager[None]:
    return ended_after(HANG_SECONDS, AssertionError(f"it hangs: {what}"))


def outcome(scene: Scene, volume: Volume) -> str:
    """`done`, or the reason. Whatever is no classified error is raised: it would be a bug in the agent's report."""
    try:
        scene.act(volume)
    except BackupError as error:
        return error.reason
    except OSError as error:  # the runner names these
        return type(error).__name__
    return "done"


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("openat2", [True, False], ids=["openat2", "without openat2"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_no_exchange_between_two_calls_leads_out_of_the_volume(
    memory: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene, openat2: bool
) -> None:
    outside, numbers = Outside(memory / "outside"), count()

    def prepared() -> Volume:
        volume = Volume(memory / str(next(numbers)), outside.directory).fill()
        scene.prepare(volume)
        return volume

    seen: list[list[str]] = []
    volume = prepared()
    kinds = kinds_that_can_be_made(volume)
    with before_each_call(monkeypatch, lambda _, target: seen.append(on_the_way(volume, target)), openat2=openat2):
        assert outcome(scene, volume) == "done", "without an attack"
    volume.remove()

    every = [
        Attack(number, entry, kind, returns)
        for number, entries in enumerate(seen)
        for entry in entries
        for kind in kinds
        for returns in (False, True)
    ]
    wanted = ATTACKS if openat2 else ATTACKS // 4
    attacks = every[:: stride(len(every), 2 * len(kinds), wanted=wanted)]
    outcomes: Counter[str] = Counter()
    descriptors = open_descriptors()
    for attack in attacks:
        volume = prepared()
        run = attack.on(Attacker(volume))
        with never_longer(str(attack)), before_each_call(monkeypatch, run, openat2=openat2):
            outcomes[outcome(scene, volume)] += 1
        assert not [*outside.changes(), *volume.revealed()], attack
        volume.remove()
    assert open_descriptors() == descriptors
    print(f"{scene.name}: {len(attacks)} of {len(every)} attacks, {len(seen)} calls, 0 escapes: {dict(outcomes)}")
    assert len(attacks) >= wanted * 9 // 10
    assert outcomes["UnexpectedEntry"] >= len(attacks) // 10, "hardly an attack met anything"
    if "a device" not in kinds:
        pytest.skip("devices cannot be made by this user; all other kinds were tried")


def on_the_way(volume: Volume, target: str) -> list[str]:
    """Entries below the data root that a call comes by. To exchange another before it is the same as to exchange that
    before the next call that comes by it."""
    if not target.startswith(f"{volume.data}/"):
        return []
    parts = target.removeprefix(f"{volume.data}/").split("/")
    names = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    return [name for name in names if os.path.lexists(volume.data / name)]


@dataclass(frozen=True)
class Attack:
    """Before a call an entry is exchanged, and before the next one perhaps put back."""

    call: int
    entry: str
    kind: str
    returns: bool

    def on(self, attacker: Attacker) -> Callable[[int, str], None]:
        def act(number: int, _: str) -> None:
            if number == self.call:
                attacker.put(self.entry, self.kind)
            elif number == self.call + 1 and self.returns:
                attacker.take_back()

        return act


def stride(total: int, turn: int, *, wanted: int) -> int:
    """So that `wanted` of them are met, and every kind and return in turn."""
    if os.environ.get("WVB_EVERY_ATTACK"):
        return 1
    step = max(1, total // wanted)
    while math.gcd(step, turn) > 1:
        step += 1
    return step


RACER = """
import random, select, sys
from pathlib import Path
from tests.hostile.volume import Attacker, Volume
chance, swaps, volume = random.Random(7), 0, None
while True:
    if volume is None or select.select([sys.stdin], [], [], 0)[0]:
        line = sys.stdin.readline().strip()
        if not line:
            break
        volume = Volume(*map(Path, line.split())) if line != "pause" else None
        print(swaps, flush=True)
        continue
    if entries := volume.entries():
        attacker = Attacker(volume)
        swaps += attacker.put(chance.choice(entries), chance.choice(sys.argv[1].split(",")))
        attacker.take_back()
"""


class Racer:
    """Another process, which exchanges entries of one volume after the other as fast as it can."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", RACER, ",".join(kinds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def tell(self, line: str) -> int:
        """Attack a volume, or pause. How many exchanges there were."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_no_race_leads_out_of_the_volume(memory: Path, scene: Scene) -> None:
    outside = Outside(memory / "outside")
    racer = Racer(kinds_that_can_be_made(Volume(memory / "tried", outside.directory).fill()))
    outcomes: Counter[str] = Counter()
    swaps = 0
    try:
        racer.tell("pause")
        deadline = time.monotonic() + RACE_SECONDS
        for number in count():
            volume = Volume(memory / str(number), outside.directory).fill()
            scene.prepare(volume)
            racer.tell(f"{volume.base} {volume.outside}")
            with never_longer(scene.name):
                for _ in range(RUNS_OF_A_RACE):
                    outcomes[outcome(scene, volume)] += 1
            swaps = racer.tell("pause")
            assert not [*outside.changes(), *volume.revealed()]
            if time.monotonic() > deadline:
                break
    finally:
        racer.end()
    assert swaps > 0
    print(f"{scene.name}: {swaps} exchanges beside {outcomes.total()} runs, 0 escapes: {dict(outcomes)}")
