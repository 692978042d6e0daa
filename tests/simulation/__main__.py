"""Runs scenarios of the simulation; see docs/reliability.md."""

import argparse
import os
import subprocess
import sys

import hypothesis.errors

from tests.simulation.planted import PLANTED, plant
from tests.simulation.seeds import KINDS, first_seed, run_all


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
        epilog="Examples: --seeds 1000   --replay batch 17   --shrink archive   --planted 3 --shrink push",
    )
    parser.add_argument("--seeds", type=int, default=1_000, help="number of seeds, 1 at least")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--replay", nargs=2, metavar=("KIND", "SEED"), help="print the history of one scenario")
    parser.add_argument("--shrink", choices=KINDS, help="print the history of the smallest scenario that fails")
    parser.add_argument(
        "--planted",
        type=int,
        choices=range(len(PLANTED)),
        metavar="NUMBER",
        help="plant a bug: print the first seed that finds it, or replay or shrink a scenario with it",
    )
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds {arguments.seeds}: it is 1 at least")
    if arguments.planted is not None:
        if not (arguments.replay or arguments.shrink):
            print(first_seed(arguments.planted, arguments.seeds))
            return 0
        plant(PLANTED[arguments.planted])
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
