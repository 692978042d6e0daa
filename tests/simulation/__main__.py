"""Runs scenarios of the simulation; see docs/reliability.md."""

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import hypothesis.errors

from tests.simulation.planted import PLANTED, plant

KINDS = {"push": 1, "batch": 1, "archive": 1, "recovery": 20}
"""Kinds of scenarios, and of how many seeds one is run: a scenario of overload takes as long as many others.

`campaign.KINDS` cannot be imported before a bug is planted."""

_OF_A_TASK = 40
"""Number of seeds that a process runs at once."""


class Result(NamedTuple):
    """The result of some seeds.

    Attributes:
        scenarios: Number of scenarios.
        events: Number of events in them.
        faults: Number of faults.
        failed: Kind, seed and first violation of those that broke a promise.
    """

    scenarios: int = 0
    events: int = 0
    faults: int = 0
    failed: tuple[tuple[str, int, str], ...] = ()

    def plus(self, other: "Result") -> "Result":
        """Return the sum of both."""
        return Result(
            self.scenarios + other.scenarios,
            self.events + other.events,
            self.faults + other.faults,
            self.failed + other.failed,
        )


def run_seeds(kind: str, seeds: Iterable[int]) -> Result:
    """Run the scenarios of some seeds."""
    from tests.simulation import campaign  # noqa: PLC0415 - a bug is planted before

    result = Result()
    with campaign.simulated():
        for seed in seeds:
            world = campaign.run(kind, seed)
            failed = tuple((kind, seed, violation) for violation in world.history.violations[:1])
            faults = sum(world.network.faults.values())
            result = result.plus(Result(1, len(world.published), faults, failed))
    return result


def run_all(first: int, seeds: int) -> Result:
    """Run the scenarios of some seeds of all kinds, on all cores."""
    result = Result()
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        tasks = [
            processes.submit(run_seeds, kind, of_task[::step])
            for of_task in itertools.batched(range(first, first + seeds), _OF_A_TASK, strict=False)
            for kind, step in KINDS.items()
        ]
        for task in tasks:
            result = result.plus(task.result())
    return result


def first_seed(number: int, seeds: int) -> int | None:
    """Plant a bug, and return the first seed that finds it."""
    planted = PLANTED[number]
    plant(planted)
    return next((seed for seed in range(seeds) if run_seeds(planted.kind, [seed]).failed), None)


def _replay(kind: str, seed: int) -> int:
    from tests.simulation import campaign  # noqa: PLC0415

    with campaign.simulated():
        world = campaign.run(kind, seed, is_kept=True)
    print(*world.history.lines, *world.history.violations, sep="\n")
    return bool(world.history.violations)


def _shrink(kind: str, examples: int) -> int:
    from tests.simulation import campaign  # noqa: PLC0415

    with campaign.simulated():
        try:
            seed, plan = campaign.smallest(kind, examples)
        except hypothesis.errors.NoSuchExample:
            print(f"none of {examples} scenarios fails")
            return 0
        world = campaign.run(kind, seed, plan, is_kept=True)
    print(*world.history.lines, *world.history.violations, f"seed {seed}, {dict(plan)}", sep="\n")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        epilog="Examples: --seeds 1000   --replay batch 17   --shrink archive   --planted 3",
    )
    parser.add_argument("--seeds", type=int, default=1_000, help="number of seeds of each kind")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--replay", nargs=2, metavar=("KIND", "SEED"), help="print the history of one scenario")
    parser.add_argument("--shrink", choices=KINDS, help="print the history of the smallest scenario that fails")
    parser.add_argument(
        "--planted",
        type=int,
        choices=range(len(PLANTED)),
        metavar="NUMBER",
        help="print the first seed that finds a planted bug",
    )
    arguments = parser.parse_args()
    if arguments.planted is not None:
        print(first_seed(arguments.planted, arguments.seeds))
        return 0
    if arguments.replay:
        kind, seed = arguments.replay
        if kind not in KINDS or not seed.isdecimal():
            parser.error(f"--replay {kind} {seed}: KIND is one of {', '.join(KINDS)}, and SEED is a number")
        return _replay(kind, int(seed))
    if arguments.shrink:
        return _shrink(arguments.shrink, arguments.seeds)
    result = run_all(arguments.first, arguments.seeds)
    for kind, seed, violation in result.failed:
        print(f"{kind} {seed}: {violation}\n  python -m tests.simulation --replay {kind} {seed}")
    print(f"{result.scenarios} scenarios, {result.events} events, {result.faults} faults, {len(result.failed)} failed")
    return bool(result.failed)


if __name__ == "__main__":
    # The order of sets of texts depends on this.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)
    raise SystemExit(main())
