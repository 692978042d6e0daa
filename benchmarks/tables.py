"""Tables of a run's results: for the screen and for `docs/performance.md`."""

import math
from collections.abc import Callable, Sequence

from benchmarks import costs
from benchmarks.cells import Cell
from benchmarks.plan import IN_FLIGHT, LARGE_ORDERS, RATES, closed, opened, sustained
from benchmarks.results import Results, by_start
from benchmarks.servers import NAMES, TITLES, Name
from benchmarks.spread import NotMeasured, Spread
from benchmarks.targets import Target, highest, targets
from sluice.doc_tables import Table

_BRIEF_RATE = 300

_NOT_MEASURED = "not measured"


def number(value: float) -> str:
    """Return a number with two or three significant digits and separated thousands."""
    if value == math.inf:
        return "∞"
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if value >= 10:
        return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}" if value else "0"


def text(spread: Spread | None, show: Callable[[float], str] = number) -> str:
    """Return the median, followed by minimum and maximum."""
    if spread is None:
        return "-"
    median, low, high = (show(value) for value in (spread.median, spread.low, spread.high))
    return median if low == high else f"{median} ({low}-{high})"


def _milliseconds(seconds: float) -> str:
    return number(seconds * 1000)


def _mebibytes(size: float | None) -> float | None:
    return None if size is None else size / 2**20


def _highest(results: Results, name: Name) -> str | None:
    """Return the highest rate that an implementation sustained; None if there is none."""
    rate = highest(results, name)
    if rate is None:
        return None
    is_limited = any(cell.is_limited_by_generator for cell in results.of(sustained(name), name))
    return f"{'at least ' if is_limited else ''}{number(rate)}/s"


def tables(results: Results) -> list[Table]:
    """Return all tables that have rows."""
    result_tables = [_targets(results), _closed(results), _open(results), _work(results), _cost(results)]
    result_tables += [_cold_start(results), _imports(results), _core(results), _machine(results)]
    return [table for table in result_tables if table.rows]


def brief(results: Results) -> Table:
    """Return the table for the README: the results that matter to a user."""

    def value(shown: Callable[[Name], str]) -> tuple[str, str]:
        return shown("plain"), shown("sluice")

    def sustains(name: Name) -> str:
        return _highest(results, name) or _NOT_MEASURED

    def usd(name: Name) -> str:
        try:
            return f"{costs.bills(results, _BRIEF_RATE)[name].per_million:.2f} USD"
        except NotMeasured:
            return _NOT_MEASURED

    def latency(name: Name) -> str:
        if not results.of(opened(_BRIEF_RATE), name):
            return _NOT_MEASURED
        p50 = results.spread(opened(_BRIEF_RATE), name, lambda cell: cell.p50 if cell.is_sustained else None)
        p99 = results.spread(opened(_BRIEF_RATE), name, lambda cell: cell.p99 if cell.is_sustained else None)
        if p50 is None or p99 is None:
            return f"does not sustain {_BRIEF_RATE}/s"
        return f"{p50.median * 1000:.0f} ms, {p99.median * 1000:.0f} ms"

    rows = [
        ("events that one vCPU sustains", *value(sustains)),
        (f"a million events, all that is paid for, at {_BRIEF_RATE}/s and list prices", *value(usd)),
        (f"50 %, 99 % of the events are durable within, at {_BRIEF_RATE}/s", *value(latency)),
    ]
    return Table("brief", "In brief", ("", *(f">{TITLES[name]}" for name in NAMES[:2])), rows, _made_on(results))


def _made_on(results: Results) -> str:
    """Return the sentence that says on what a run was made."""
    machine = results.machine
    cores = f"{machine.cores} core{'s' if machine.cores > 1 else ''}"
    if not machine.pinned:
        cores += ", of which the function has none alone"
    day = results.started.partition("T")[0]
    run = f"Python {machine.python}, {day}, revision {results.revision}"
    return f"Measured on {machine.cpu}, {cores}, {run}: `make bench`."


def _targets(results: Results) -> Table:
    return Table("targets", "Targets", ("", ">target", ">measured", ""), target_rows(targets(results)))


def target_rows(shown: Sequence[Target]) -> list[tuple[str, str, str, str]]:
    """Return targets, their bounds, what was measured, and whether they are met."""
    return [
        (
            target.what,
            _bound(target),
            text(target.measured, _share if _is_share(target) else number),
            {True: "met", False: "**not met**", None: f"{_NOT_MEASURED}: {target.why_not}"}[target.is_met],
        )
        for target in shown
    ]


def _is_share(target: Target) -> bool:
    """Return whether it reads better as one in so many."""
    return target.most is not None and target.most < 0.4


def _share(value: float) -> str:
    return f"1/{1 / value:.1f}" if value and value < math.inf else number(value)


def _bound(target: Target) -> str:
    if target.least is not None:
        return f">= {number(target.least) if target.least >= 1_000 else f'{target.least:g}'} {target.unit}".rstrip()
    most = target.most or 0.0
    return f"<= 1/{1 / most:.0f}" if _is_share(target) else f"<= {most:g} {target.unit}"


_RATE_COLUMNS = ("", "", ">events/s", ">p50 ms", ">p99 ms", ">p99.9 ms")


def _rates(results: Results, scenario: str, shown: str, names: Sequence[Name]) -> list[tuple[str, ...]]:
    values: list[Callable[[Cell], float | None]] = [lambda c: c.p50, lambda c: c.p99, lambda c: c.p999]
    return [
        (
            shown,
            TITLES[name],
            text(results.spread(scenario, name, lambda cell: cell.events_per_second)),
            *(text(results.spread(scenario, name, value), _milliseconds) for value in values),
        )
        for name in names
        if results.of(scenario, name)
    ]


def _closed(results: Results) -> Table:
    scenarios = [closed(count, at_once=at_once) for at_once in (False, True) for count in IN_FLIGHT]
    rows = [row for scenario in (*scenarios, LARGE_ORDERS) for row in _rates(results, scenario, scenario, NAMES)]
    return Table("closed", "So many requests in flight", _RATE_COLUMNS, rows)


def _open(results: Results) -> Table:
    rows = []
    for scenario in [*map(opened, RATES), *map(sustained, NAMES)]:
        for name in NAMES:
            cells = results.of(scenario, name)
            kept = "yes" if all(cell.is_sustained for cell in cells) else "no"
            if any(cell.is_limited_by_generator for cell in cells):
                kept += ", limited by the load generator"
            shown = "the highest" if scenario == sustained(name) else scenario
            rows += [(*row, kept) for row in _rates(results, scenario, shown, [name])]
    return Table("open", "Poisson arrivals", (*_RATE_COLUMNS, "sustained"), rows)


def _work(results: Results) -> Table:
    values: list[Callable[[Cell], float | None]] = [
        lambda cell: cell.cpu,
        lambda cell: cell.calls,
        lambda cell: cell.uploads,
        lambda cell: _mebibytes(cell.upload_bytes),
        lambda cell: _mebibytes(cell.insert_bytes),
        lambda cell: _mebibytes(cell.peak_memory),
    ]
    scenarios = [*map(closed, IN_FLIGHT), closed(IN_FLIGHT[-1], at_once=True), LARGE_ORDERS, *map(opened, RATES)]
    rows = [
        (scenario, TITLES[name], *(text(results.spread(scenario, name, value)) for value in values))
        for scenario in scenarios
        for name in NAMES
        if results.of(scenario, name)
    ]
    columns = ("", "", ">CPU s", ">API calls", ">objects", ">MiB uploaded", ">MiB inserted", ">peak memory MiB")
    return Table("work", "What 10 000 events take", columns, rows)


def _cost(results: Results) -> Table:
    rows = []
    for rate in RATES:
        for name in NAMES[:2]:
            if not results.of(opened(rate), name):
                continue
            try:
                bill = costs.bills(results, rate)[name]
            except NotMeasured as error:
                rows.append((opened(rate), TITLES[name], *["-"] * (len(costs.INGEST) + 1), f"{_NOT_MEASURED}: {error}"))
                continue
            shown = (f"{part:.2f}" for part in costs.parts(bill).values())
            rows.append((opened(rate), TITLES[name], *shown, f"{bill.per_million:.2f}"))
    names = (f">{name}" for name in (*costs.INGEST, costs.KEPT))
    return Table("cost", "USD for a million events", ("", "", *names, ">all"), rows)


def _cold_start(results: Results) -> Table:
    rows = []
    for compiled in (True, False):
        for name in NAMES:
            if starts := by_start(results.starts, name, compiled=compiled):
                seconds = Spread.of(start.seconds for start in starts)
                memory = Spread.of(start.memory / 2**20 for start in starts)
                shown = "with bytecode" if compiled else "without bytecode"
                rows.append((shown, TITLES[name], text(seconds), text(memory)))
    return Table("cold-start", "Cold start", ("", "", ">s to the first acknowledged event", ">MiB after it"), rows)


def _imports(results: Results) -> Table:
    rows = [
        (
            TITLES[name],
            ", ".join(
                f"{package.package} {package.milliseconds:.0f}" for package in results.imports if package.of == name
            ),
        )
        for name in NAMES
        if any(package.of == name for package in results.imports)
    ]
    return Table("imports", "Imports, in ms", ("", "ms by package"), rows)


def _core(results: Results) -> Table:
    rows = [(core.events, text(Spread.of(core.microseconds))) for core in results.core]
    if filled := results.backfill:
        rate = Spread.of(filled.events / seconds for seconds in filled.seconds)
        cpu = Spread.of(seconds / filled.events * 1e6 for seconds in filled.cpu)
        rows.append((f"backfill, {text(rate)} events/s", text(cpu)))
    for drained in results.drain:
        rate = Spread.of(1e6 / microseconds for microseconds in drained.microseconds)
        rows.append((f"batch mode, {drained.events}, {text(rate)} events/s", text(Spread.of(drained.microseconds))))
    return Table("core", "CPU for an event without the network", ("", ">µs"), rows)


def _machine(results: Results) -> Table:
    machine = results.machine
    rows = [
        ("processor", f"{machine.cpu}, {machine.cores} cores"),
        ("memory", f"{machine.memory_gib:g} GiB"),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("function on a core of its own", "yes" if machine.pinned else "**no**"),
        ("run", f"{results.started}, {results.seconds:.0f} s, revision {results.revision}"),
    ]
    if ceiling := results.ceiling:
        shown = f"{number(ceiling.requests_per_second)} requests/s, with {ceiling.busy:.0%} of its core"
        rows.append(("the load generator's own ceiling", shown))
    rows += [
        (f"highest sustained rate, {TITLES[name]}", _highest(results, name) or "not sustained in each repetition")
        for name in NAMES
        if results.of(sustained(name), name)
    ]
    return Table("machine", "The run", ("", ""), rows)
