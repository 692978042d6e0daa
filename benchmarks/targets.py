"""The targets, as ratios of what one run measured."""

import math
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.cells import Cell
from benchmarks.cold_start import Start
from benchmarks.cost import Usage
from benchmarks.plan import RATES, closed, opened, sustained
from benchmarks.results import Results, by_start
from benchmarks.servers import Name
from benchmarks.spread import Spread, ratio

_STEADY = 300
_PEAK = 1_500
_MANY = 250


class Target(NamedTuple):
    """A target, and what was measured.

    Attributes:
        what: In words.
        measured: The ratio, or the value itself; None where it was not measured.
        least: What it is to be at least, if so.
        most: What it is to be at most, if so.
        unit: `x` for a ratio.
    """

    what: str
    measured: Spread | None
    least: float | None = None
    most: float | None = None
    unit: str = "x"

    @property
    def is_met(self) -> bool | None:
        """Whether the median keeps to it; None where it was not measured."""
        if self.measured is None:
            return None
        median = self.measured.median
        return (self.least is None or median >= self.least) and (self.most is None or median <= self.most)


def highest(results: Results, name: Name) -> float | None:
    """Events per second that an implementation sustained in each repetition."""
    rates = [cell.rate for cell in results.of(sustained(name), name) if cell.rate and cell.is_sustained]
    return min(rates) if rates else None


def cost(results: Results, rate: int, name: Name) -> dict[int, Usage]:
    """What events at a rate take, by repetition; of the implementation's last rate that it sustained, if that is less.

    An implementation that cannot follow with one instance runs on more, each of which takes what it takes then.
    """
    most = highest(results, name)
    if most is None:
        return {}
    alone = [of for of in RATES if of <= rate and all(cell.is_sustained for cell in results.of(opened(of), name))]
    if not alone:
        return {}
    return {
        cell.repetition: Usage(rate, most, results.message_bytes, cell.billed_row_bytes / 10_000, cell.uploads / 10_000)
        for cell in results.of(opened(alone[-1]), name)
    }


def dollars(usage: Usage) -> float:
    """Of a million events."""
    return sum(usage.per_million().values())


def targets(results: Results) -> list[Target]:
    """All of them."""

    def against_plain(scenario: str, value: Callable[[Cell], float | None]) -> Spread | None:
        return results.ratio(scenario, "sluice", "plain", value)

    many, at_once, steady = closed(_MANY), closed(_MANY, at_once=True), opened(_STEADY)
    return [
        Target("events/s with 250 in flight, against the plain function", against_plain(many, _throughput), least=10),
        Target(
            "beside it: with services that answer at once, against the plain function",
            against_plain(at_once, _throughput),
            least=10,
        ),
        Target("events/s with 1 in flight, against the plain function", against_plain(closed(1), _throughput), least=1),
        Target("CPU per event with 250 in flight, against the plain function", against_plain(many, _cpu), most=1 / 12),
        Target("uploads per event at 300/s, against the plain function", against_plain(steady, _uploads), most=1 / 20),
        Target("p99 at 300/s, against the plain function", _p99(results, _STEADY), most=1.3),
        Target("p99 at 1 500/s, against the plain function's at 300/s", _p99(results, _PEAK), most=1.3),
        Target("cost of a million events at 300/s, against the plain function", _costs(results), most=1 / 6),
        Target(
            "cold start with bytecode, against the plain function",
            _starts(results, lambda one: one.seconds),
            most=1 / 2,
        ),
        Target(
            "memory after the first event, against the plain function", _starts(results, lambda one: one.memory), most=1
        ),
        Target(
            "requests/s with 250 in flight, answered at once, against the empty function",
            results.ratio(at_once, "sluice", "empty", _throughput),
            least=0.6,
        ),
        Target("CPU of the pure core for an event", _core(results), most=12, unit="µs"),
    ]


def _throughput(cell: Cell) -> float:
    return cell.events_per_second


def _cpu(cell: Cell) -> float:
    return cell.cpu


def _uploads(cell: Cell) -> float:
    return cell.uploads


def _p99(results: Results, rate: int) -> Spread | None:
    """Of Sluice at a rate, over the plain function's at 300/s. Of what is left behind it is infinite."""
    pairs: list[tuple[int, Name]] = [(rate, "sluice"), (_STEADY, "plain")]
    found = [
        {
            cell.repetition: cell.p99 if cell.is_sustained and cell.p99 else math.inf
            for cell in results.of(opened(at), of)
        }
        for at, of in pairs
    ]
    ours, plain = found
    seen = [ours[one] / plain[one] if ours[one] < math.inf else math.inf for one in ours.keys() & plain.keys()]
    return Spread.of(seen) if seen else None


def _costs(results: Results) -> Spread | None:
    values = [
        {repetition: dollars(usage) for repetition, usage in cost(results, _STEADY, name).items()}
        for name in ("sluice", "plain")
    ]
    return ratio(*values) if values[0].keys() & values[1].keys() else None


def _starts(results: Results, value: Callable[[Start], float]) -> Spread | None:
    """One by one, in the order in which they took place, so with the same type of event."""
    ours, plain = (
        dict(enumerate(map(value, by_start(results.starts, name, compiled=True)))) for name in ("sluice", "plain")
    )
    return ratio(ours, plain) if ours.keys() & plain.keys() else None


def _core(results: Results) -> Spread | None:
    mixed = [one.microseconds for one in results.core if one.events == "mixed"]
    return Spread.of(mixed[0]) if mixed else None
