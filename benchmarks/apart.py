"""Runs the measurements without the network, in a process of their own."""

import dataclasses
import multiprocessing
import pathlib
from concurrent.futures import ProcessPoolExecutor

from benchmarks.core import Backfilled, Core, backfill, core
from benchmarks.drain import Drained, drain
from benchmarks.machine import FUNCTION_CORE, on_core


@dataclasses.dataclass(frozen=True, slots=True)
class Apart:
    """Runs these measurements in a process of their own, on the function's core."""

    rounds: int
    events: int
    folder: pathlib.Path

    def __call__(self) -> tuple[list[Core], Backfilled, list[Drained]]:
        """Measure them."""
        with on_core(FUNCTION_CORE):
            pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            pool.submit(int).result()  # starts the process, on this core
        with pool:
            timed = pool.submit(core, self.rounds, self.events).result()
            filled = pool.submit(backfill, 3, self.events * 4, self.folder).result()
            return timed, filled, pool.submit(drain, self.rounds, self.events * 4).result()
