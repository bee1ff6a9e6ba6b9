"""`e2e/chaos [--rounds N] [--seed S] [--minutes M] [--round N] [--keep-going]`: rounds until one breaks a promise.

Each round changes data, backs it up, deletes it and restores it, while parts of the cluster die. Seed and number say
all that happens in it, so `--seed S --round N` repeats one. Ends with 1 after a broken promise.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

from e2e.chaos_rounds.drawing import Round, draw
from e2e.chaos_rounds.ground import Ground
from e2e.chaos_rounds.log_keeping import LogKeeper
from e2e.chaos_rounds.rounds import Outcome, Rounds
from e2e.chaos_rounds.store_line import StoreLine
from e2e.cluster.surroundings import NotInLab, surroundings
from e2e.cluster.throttle import running


def main() -> int:
    options = _options()
    try:
        lab = surroundings()
        host, port = lab.store.host_and_port.split(":")
    except NotInLab as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10_000)
    numbers = options.round or range(1, options.rounds + 1)
    until = time.monotonic() + 60 * options.minutes if options.minutes else None
    broken = 0
    with running(StoreLine((host, int(port))), host) as line:
        ground = Ground(lab, line)
        ground.prepare()
        keeper = LogKeeper(lab.directory)
        rounds = Rounds(ground, keeper)
        for number in numbers:
            if until is not None and time.monotonic() > until:
                break
            outcome = rounds.run(draw(seed, number))
            _tell(outcome)
            if outcome.broken:
                broken += outcome.prepared
                _tell_evidence(outcome, keeper.directory)
                if not options.keep_going and outcome.prepared:
                    break
        keeper.stop()
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, metavar="S", help="of all rounds (by chance)")
    parser.add_argument("--minutes", type=float, metavar="M", help="no round begins later than that")
    parser.add_argument("--round", type=int, nargs="+", metavar="N", help="only these")
    parser.add_argument("--keep-going", action="store_true", help="go on after a broken promise")
    return parser.parse_args()


def _tell(outcome: Outcome) -> None:
    drawn = outcome.drawn
    verdict = "ok" if not outcome.broken else "BROKEN" if outcome.prepared else "NOT PREPARED"
    ends = ", ".join(outcome.ends)
    told = "; ".join(outcome.told) or "nobody dies"
    print(
        f"{drawn.seed}/{drawn.number} {verdict} {outcome.seconds:.0f}s [{_setting(drawn)}] {told} -> {ends}", flush=True
    )
    for note in outcome.notes:
        print(f"    note: {note}", flush=True)


def _setting(drawn: Round) -> str:
    what = f"{len(drawn.include)} collections" if drawn.include else "all"
    changes = ", ".join(drawn.changes) or "at rest"
    return f"{drawn.method}, {what}, {changes}, {drawn.bytes_per_second // 1000} kB/s"


def _tell_evidence(outcome: Outcome, logs: Path) -> None:
    drawn = outcome.drawn
    for line in outcome.broken:
        print(f"    broken: {line}")
    print(f"    again: e2e/chaos --seed {drawn.seed} --round {drawn.number}")
    print(f"    logs: {logs}")
    path = logs.parent / f"round-{drawn.seed}-{drawn.number}.json"
    path.write_text(json.dumps(outcome.statuses, indent=1))
    print(f"    statuses: {path}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
