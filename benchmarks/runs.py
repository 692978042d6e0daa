"""A run: everything, in turn, on the two cores."""

import contextlib
import dataclasses
import datetime
import math
import pathlib
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks import cells, cold_start, generator, sizes, stand_in
from benchmarks.apart import Apart
from benchmarks.cells import Cell, Drive, Scenario
from benchmarks.events import payloads
from benchmarks.load import Closed, Open
from benchmarks.machine import FUNCTION_CORE, OTHER_CORE, Machine, on_core
from benchmarks.plan import INSERT_MS, UPLOAD_MS, Part, Plan, closed, sustained
from benchmarks.results import Ceiling, Results
from benchmarks.servers import Name, Server, implementations, serving_all
from benchmarks.stand_in import StandIn
from sluice.package import ROOT

_PROBE_SECONDS = 3.0
_STEP_DOWN, _STEPS_DOWN = 0.95, 4
_LEAST_RATE = 1.0
"""Minimum rate that is tried, in events per second."""

type Report = Callable[[str], None]


def run(plan: Plan, parts: Iterable[Part], folder: pathlib.Path, report: Report) -> Results:
    """Measure.

    Args:
        plan: Amount of each measurement.
        parts: Parts of the benchmark that are run.
        folder: Empty folder for temporary files.
        report: Called with the name of each step that begins.

    Raises:
        LostEvents: An acknowledged event is in no table.
    """
    started = time.monotonic()
    results = Results(
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        revision=revision(),
        seconds=0.0,
        machine=Machine.here(),
    )
    with on_core(OTHER_CORE), stand_in.running() as cloud:
        if Part.CORE in parts:
            report("core, backfill, batch mode")
            apart = Apart(plan.core_rounds, plan.core_events, folder)
            results.core, results.backfill, results.drain = apart()
        if Part.COLD_START in parts:
            _cold_starts(plan, results, cloud, folder, report)
        if Part.LOAD in parts:
            results.message_bytes = statistics.fmean(len(data) for data, _ in payloads("mixed"))
            results.large_bytes = statistics.fmean(len(data) for data, _ in payloads("large_orders"))
            results.sizes = sizes.measure()
            _loads(plan, results, cloud, folder, report)
    results.seconds = round(time.monotonic() - started, 1)
    return results


def _cold_starts(plan: Plan, results: Results, cloud: StandIn, folder: pathlib.Path, report: Report) -> None:
    for compiled in plan.bytecode:
        name = "with-bytecode" if compiled else "without-bytecode"
        functions = implementations(folder / name, compiled=compiled, own=plan.own)
        starts = cold_start.starts(functions, cloud, folder, plan.starts, compiled=compiled)
        for start in _reporting(starts, report, f"cold start {name.replace('-', ' ')}"):
            results.starts.append(start)
        if compiled:
            results.imports = [
                package_import for function in functions for package_import in cold_start.imports(function, cloud)
            ]


def _reporting[One](ones: Iterable[One], report: Report, what: str) -> Iterator[One]:
    report(what)
    for step in ones:
        yield step
        report(what)


def _loads(plan: Plan, results: Results, cloud: StandIn, folder: pathlib.Path, report: Report) -> None:
    functions = implementations(folder / "served", own=plan.own)
    with generator.driver() as drive, serving_all(functions, cloud, folder) as servers:
        report("load generator alone")
        with stand_in.running(FUNCTION_CORE) as nothing:
            driven = drive(nothing.url, "mixed", Closed(80, 0.5))
        results.ceiling = Ceiling(requests_per_second=driven.answered / driven.seconds, busy=driven.busy)
        for server in servers:
            report(f"warm-up, {server.name}")
            drive(server.url, "mixed", Closed(80, plan.pace))
        bench = _Bench(plan, servers, drive, cloud, report)
        for repetition in range(1, plan.repetitions + 1):
            for scenario in plan.scenarios(repetition):
                results.cells += bench.in_turn(scenario, repetition)
        if plan.probes:
            results.cells += bench.highest_rates(results)


@dataclasses.dataclass(frozen=True, slots=True)
class _Bench:
    """All that it takes to measure a cell."""

    plan: Plan
    servers: Sequence[Server]
    drive: Drive
    cloud: StandIn
    report: Report

    def in_turn(self, scenario: Scenario, repetition: int) -> Iterator[Cell]:
        """Measure a scenario once with each implementation; another one begins each time."""
        chosen = [server for server in self.servers if server.name in scenario.of]
        first = repetition % len(chosen)
        for server in chosen[first:] + chosen[:first]:
            self.report(f"{scenario.name}, {server.name}, repetition {repetition}")
            yield cells.run(scenario, server, self.drive, self.cloud, repetition)

    def highest_rates(self, results: Results) -> Iterator[Cell]:
        """Halve the distance, on a logarithmic scale, as often as planned; then prove the rate that was found.

        A repetition in which no rate is proven gives the cell of the last rate that was tried, so that it is known that
        the rates of the others were not sustained each time.

        Half of what many requests in flight achieve is kept for sure; and where the services answer at once, only CPU
        is the bound, which no rate can exceed by much.
        """
        kept: dict[Name, float] = {}
        failed: dict[Name, float] = {}
        for server in self.servers:
            at_once = self._seen(results, server, at_once=True)
            kept[server.name] = 0.5 * (
                at_once if server.name == "empty" else self._seen(results, server, at_once=False)
            )
            failed[server.name] = 1.4 * at_once
        for probe in range(1, self.plan.probes + 1):
            for server in self.servers:
                rate = max(math.sqrt(kept[server.name] * failed[server.name]), _LEAST_RATE)
                (kept if self._at(rate, server, probe).is_sustained else failed)[server.name] = rate
        for repetition in range(1, self.plan.repetitions + 1):
            for server in self.servers:
                yield self._proven(kept, server, repetition)

    def _proven(self, kept: dict[Name, float], server: Server, repetition: int) -> Cell:
        """Lower the rate until it is sustained, and return its cell; after so many steps whether it is or not."""
        for step in range(_STEPS_DOWN):
            kept[server.name] = max(kept[server.name] * (_STEP_DOWN if step else 1.0), _LEAST_RATE)
            cell = self._at(kept[server.name], server, repetition)
            if cell.is_sustained:
                break
        return cell

    def _seen(self, results: Results, server: Server, *, at_once: bool) -> float:
        cells_seen = results.of(closed(max(self.plan.in_flight), at_once=at_once), server.name)
        return statistics.median(cell.events_per_second for cell in cells_seen)

    def _at(self, rate: float, server: Server, repetition: int) -> Cell:
        self.report(f"{sustained(server.name)}: {rate:.0f}/s?")
        arrivals = Open(rate, _PROBE_SECONDS * self.plan.pace, seed=repetition)
        scenario = Scenario(sustained(server.name), arrivals, INSERT_MS, UPLOAD_MS)
        return cells.run(scenario, server, self.drive, self.cloud, repetition)


def revision(folder: pathlib.Path = ROOT) -> str:
    """Return the commit of a checkout, and whether anything differs from it."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        described = subprocess.run(describe, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603
        return described.stdout.strip()
    return "unknown"
