"""The targets, as ratios of what one run measured."""

import math
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import costs
from benchmarks.cells import Cell
from benchmarks.cold_start import Start
from benchmarks.drain import LARGE_BYTES
from benchmarks.plan import Part, closed, opened, sustained
from benchmarks.results import Results, by_start
from benchmarks.servers import TITLES, Name
from benchmarks.spread import NotMeasured, Spread, ratio

_STEADY = 300
_PEAK = 1_500
_MANY = 250


class Target(NamedTuple):
    """A target, and what was measured.

    Attributes:
        what: Target in words.
        measured: The ratio, or the value itself; None where it was not measured.
        least: Minimum of the value, if there is one.
        most: Maximum of the value, if there is one.
        unit: `x` for a ratio.
        part: The part of a run that measures it.
        why_not: Reason why it was not measured.
    """

    what: str
    measured: Spread | None
    least: float | None = None
    most: float | None = None
    unit: str = "x"
    part: Part = Part.LOAD
    why_not: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the median keeps to it; None where it was not measured."""
        if self.measured is None:
            return None
        median = self.measured.median
        return (self.least is None or median >= self.least) and (self.most is None or median <= self.most)


def highest(results: Results, name: Name) -> float | None:
    """Return the events per second that an implementation sustained in each repetition; None if there is no such rate.

    Of the rates that were proven it is the lowest.
    """
    cells = results.of(sustained(name), name)
    rates = [cell.rate for cell in cells if cell.rate and cell.is_sustained]
    is_proven = rates and len(rates) == len(cells) == results.repetitions
    return min(rates) if is_proven else None


def targets(results: Results) -> list[Target]:
    """Return all targets."""

    def target(  # noqa: PLR0913 - the attributes of a target
        what: str,
        measure: Callable[[], Spread],
        *,
        least: float | None = None,
        most: float | None = None,
        unit: str = "x",
        part: Part = Part.LOAD,
    ) -> Target:
        try:
            return Target(what, measure(), least, most, unit, part)
        except NotMeasured as error:
            return Target(what, None, least, most, unit, part, str(error))

    def against(opponent: Name, scenario: str, value: Callable[[Cell], float | None]) -> Callable[[], Spread]:
        return lambda: results.ratio(scenario, "sluice", opponent, value)

    many, at_once, steady = closed(_MANY), closed(_MANY, at_once=True), opened(_STEADY)
    return [
        target(
            "events/s with 250 in flight, against the plain function", against("plain", many, _throughput), least=10
        ),
        target(
            "beside it: with services that answer at once, against the plain function",
            against("plain", at_once, _throughput),
            least=10,
        ),
        target(
            "events/s with 1 in flight, against the plain function", against("plain", closed(1), _throughput), least=1
        ),
        target(
            "CPU per event with 250 in flight, against the plain function", against("plain", many, _cpu), most=1 / 12
        ),
        target(
            "uploads per event at 300/s, against the plain function", against("plain", steady, _uploads), most=1 / 20
        ),
        target("p99 at 300/s, against the plain function", lambda: _p99(results, _STEADY), most=1.3),
        target("p99 at 1 500/s, against the plain function's at 300/s", lambda: _p99(results, _PEAK), most=1.3),
        target(
            "cost of a million events until they are durable, at 300/s, against the plain function",
            lambda: _costs(results),
            most=1 / 6,
        ),
        target(
            "cold start with bytecode, against the plain function",
            lambda: _starts(results, lambda start: start.seconds),
            most=1 / 2,
            part=Part.COLD_START,
        ),
        target(
            "memory after the first event, against the plain function",
            lambda: _starts(results, lambda start: start.memory),
            most=1,
            part=Part.COLD_START,
        ),
        target(
            "requests/s with 250 in flight, answered at once, against the empty function",
            against("empty", at_once, _throughput),
            least=0.6,
        ),
        target("CPU of the pure core for an event", lambda: _core(results), most=12, unit="µs", part=Part.CORE),
        target(
            f"batch mode: messages of {LARGE_BYTES} bytes from the pull to the load file, for each vCPU",
            lambda: _drained(results),
            least=14_000,
            unit="/s",
            part=Part.CORE,
        ),
    ]


def _throughput(cell: Cell) -> float:
    """Return the events per second.

    Raises:
        NotMeasured: It is an opponent's, and the load generator was the limit: it may be capable of more.
    """
    if cell.of != "sluice" and cell.is_limited_by_generator:
        raise NotMeasured(f"{TITLES[cell.of]}: limited by the load generator")
    return cell.events_per_second


def _cpu(cell: Cell) -> float | None:
    return cell.cpu


def _uploads(cell: Cell) -> float | None:
    return cell.uploads


def _p99(results: Results, rate: int) -> Spread:
    """Return the p99 of Sluice at a rate over the plain function's at 300/s; infinite where Sluice does not keep up.

    Raises:
        NotMeasured: The plain function does not keep up, so it has none.
    """
    ours = {cell.repetition: cell.p99 if cell.is_sustained else math.inf for cell in results.of(opened(rate), "sluice")}
    plain = {cell.repetition: cell.p99 if cell.is_sustained else None for cell in results.of(opened(_STEADY), "plain")}
    if plain and ours and all(value == math.inf for value in ours.values()):
        return Spread.of([math.inf])
    if None in plain.values():
        raise NotMeasured(f"{TITLES['plain']}: does not sustain {opened(_STEADY)}")
    return ratio(ours, plain, (TITLES["sluice"], TITLES["plain"]))


def _costs(results: Results) -> Spread:
    """Compare what brings the events in; what is kept afterwards, and watched, is not what the plain function does."""
    bills = costs.bills(results, _STEADY)
    return Spread.of([costs.ingest(bills["sluice"]) / costs.ingest(bills["plain"])])


def _starts(results: Results, value: Callable[[Start], float]) -> Spread:
    """Compare them one by one, in the order in which they took place, so with the same type of event."""
    ours, plain = (
        dict(enumerate(map(value, by_start(results.starts, name, compiled=True)))) for name in ("sluice", "plain")
    )
    return ratio(ours, plain, (TITLES["sluice"], TITLES["plain"]))


def _core(results: Results) -> Spread:
    mixed = [core.microseconds for core in results.core if core.events == "mixed"]
    if not mixed or not mixed[0]:
        raise NotMeasured("pure core: not run")
    return Spread.of(mixed[0])


def _drained(results: Results) -> Spread:
    """Return the messages per second of the large orders."""
    large = [drained.microseconds for drained in results.drain if drained.events.endswith(f"{LARGE_BYTES} bytes")]
    if not large or not large[0]:
        raise NotMeasured("batch mode: not run")
    return Spread.of(1e6 / microseconds for microseconds in large[0])
