"""The inputs of the model of costs, `sluice/cost/measured.json`, from the results of a run."""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.cells import Cell
from benchmarks.plan import INSERT_MS, LARGE_ORDERS, RATES, UPLOAD_MS, closed, opened, sustained
from benchmarks.results import Results
from benchmarks.servers import TITLES, Name
from benchmarks.spread import NotMeasured
from sluice.cost.measured import Measured

_STEADY = 300
"""Events per second at which the plain function is measured: it does not sustain more of the rates."""
_LARGE_IN_FLIGHT = 80
"""Requests in flight of the large orders, and of the events that they are compared with."""
_FEW_IN_FLIGHT = (1, 8)
"""Requests in flight of which objects have few events."""


def of(results: Results) -> Measured:
    """Return what an event takes.

    Raises:
        NotMeasured: A part of the benchmark was left out, no two rates were sustained, or the values of events and of
            flushes cannot be distinguished.
    """
    if results.sizes is None:
        raise NotMeasured("the sizes of the rows were not measured")
    cores = [core.microseconds for core in results.core if core.events == "mixed"]
    if not cores:
        raise NotMeasured("the pure core was not measured")
    drained = [drained.microseconds for drained in results.drain if drained.events == "mixed"]
    if not drained:
        raise NotMeasured("batch mode was not measured")
    scenarios = [results.of(name, "sluice") for name in (*map(opened, RATES), sustained("sluice"))]
    rates = [cells for cells in scenarios if cells and all(cell.is_sustained for cell in cells)]
    if len(rates) < 2:
        raise NotMeasured("less than two rates were measured that an instance sustains")
    cpu = _line(rates, lambda cell: cell.cpu, "CPU")
    alone = [cells for count in _FEW_IN_FLIGHT if (cells := results.of(closed(count), "sluice"))]
    archived = _line([*alone, *rates], lambda cell: cell.upload_bytes, "bytes in the archive")
    large = [
        _median(results, name, "sluice", lambda cell: cell.cpu) for name in (LARGE_ORDERS, closed(_LARGE_IN_FLIGHT))
    ]
    return Measured(
        run=results.started,
        revision=results.revision,
        message_bytes=results.message_bytes,
        event_cpu=cpu.of_event,
        flush_cpu=cpu.of_flush,
        byte_cpu=(large[0] - large[1]) / 10_000 / (results.large_bytes - results.message_bytes),
        core_cpu=statistics.median(cores[0]) / 1e6,
        drain_cpu=statistics.median(drained[0]) / 1e6,
        plain_cpu=_median(results, opened(_STEADY), "plain", lambda cell: cell.cpu) / 10_000,
        upload=UPLOAD_MS / 1000,
        insert=INSERT_MS / 1000,
        billed_row_bytes=statistics.median(
            cell.billed_row_bytes for cells in rates for cell in cells if cell.billed_row_bytes is not None
        )
        / 10_000,
        object_bytes=archived.of_flush,
        archived_bytes=archived.of_event,
        plain_object_bytes=_median(results, opened(_STEADY), "plain", lambda cell: cell.upload_bytes) / 10_000,
        sizes=results.sizes,
    )


class _Apart(NamedTuple):
    """A value of each event, and of each flush besides."""

    of_event: float
    of_flush: float


def _line(rates: Sequence[Sequence[Cell]], value: Callable[[Cell], float | None], what: str) -> _Apart:
    """Fit a line through a value over the number of flushes."""
    points = [
        tuple(
            statistics.median(number for cell in cells if (number := get(cell)) is not None)
            for get in (lambda cell: cell.uploads, value)
        )
        for cells in rates
    ]
    line = statistics.linear_regression(*zip(*points, strict=True))
    if line.intercept <= 0 or line.slope < 0:
        raise NotMeasured(f"the {what} of events and of flushes cannot be separated by the rates")
    return _Apart(line.intercept / 10_000, line.slope)


def _median(results: Results, scenario: str, name: Name, value: Callable[[Cell], float | None]) -> float:
    """Return the median of a value of 10 000 events."""
    numbers = [number for cell in results.of(scenario, name) if (number := value(cell)) is not None]
    if not numbers:
        raise NotMeasured(f"{TITLES[name]}: {scenario} was not measured")
    return statistics.median(numbers)
