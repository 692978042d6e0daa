"""Runs the scenarios of many seeds, on all cores."""

import itertools
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from tests.simulation.planted import PLANTED, plant

KINDS = {"push": 1, "batch": 2, "archive": 1, "recovery": 40}
"""Kinds of scenarios, and of how many seeds one is run: a scenario of `drain` takes as long as two others, and one of
overload as long as many others.

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
    os.environ["PYTHONHASHSEED"] = "0"  # The order of sets of texts depends on it; new processes read it.
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as processes:
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
