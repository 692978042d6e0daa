"""Runs scenarios by their seeds: `python -m tests.simulation --seeds 1000`, or `--seed 17` for the history of one."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping

from tests.simulation.clients import google_clients_in_virtual_time
from tests.simulation.archive import run_archive
from tests.simulation.batch import run_batch
from tests.simulation.push import run_push
from tests.simulation.world import World

SCENARIOS: Mapping[str, Callable[[World], None]] = {"push": run_push, "batch": run_batch, "archive": run_archive}


def run(kind: str, seed: int, *, is_kept: bool = False) -> World:
    """Run the scenario of a seed."""
    world = World(seed, is_kept=is_kept)
    try:
        SCENARIOS[kind](world)
    finally:
        world.close()
    return world


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("kind", choices=SCENARIOS)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    with google_clients_in_virtual_time():
        if arguments.seed is not None:
            world = run(arguments.kind, arguments.seed, is_kept=True)
            print(*world.history.lines, *world.history.violations, sep="\n")
            return bool(world.history.violations)
        started, failed = time.process_time(), 0
        faults = events = 0
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            world = run(arguments.kind, seed)
            faults += sum(world.network.faults.values())
            events += len(world.published)
            if world.history.violations:
                failed += 1
                print(f"seed {seed}: {world.history.violations[0]}")
        seconds = time.process_time() - started
        print(f"{arguments.seeds} scenarios, {events} events, {faults} faults, {failed} failed, {arguments.seeds / seconds:.0f}/s")
        return bool(failed)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    raise SystemExit(main())
