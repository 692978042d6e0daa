"""Plots of a run, for `docs/performance.md`."""

import pathlib
from collections.abc import Callable

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks import costs
from benchmarks.cells import Cell
from benchmarks.plan import IN_FLIGHT, RATES, closed, opened
from benchmarks.results import Results
from benchmarks.servers import NAMES, TITLES, Name
from benchmarks.spread import NotMeasured
from benchmarks.tables import number

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "performance"

COLOURS = {"plain": "#D55E00", "sluice": "#0072B2", "empty": "#7F7F7F"}
"""Colours of Okabe and Ito, which people with colour blindness distinguish (https://jfly.uni-koeln.de/color/)."""

MARKS = {"plain": "s", "sluice": "o", "empty": "^"}

_ABOVE = {"p50": -13, "p99": -4, "p99.9": 5}
"""Points by which a label stands above its mark: all three may be the same."""

_COSTS = (*costs.INGEST, costs.KEPT)

_PARTS = ("#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#E69F00")

mpl.rcParams.update(
    {
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.figsize": (7.5, 4.5),
        "figure.dpi": 120,
        "font.size": 10,
        "grid.alpha": 0.3,
        "svg.hashsalt": "sluice",
    }
)


def draw(results: Results, folder: pathlib.Path) -> list[pathlib.Path]:
    """Draw all plots as PNG; what was not measured is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, paint in {"throughput": _throughput, "latency": _latency, "cpu": _cpu, "cost": _cost}.items():
        figure = Figure(layout="constrained")
        paint(results, figure.add_subplot())
        files.append(folder / f"{name}.png")
        figure.savefig(files[-1], metadata={"Software": None})
    return files


def _line(results: Results, axes: Axes, name: Name, value: Callable[[Cell], float | None], *, at_once: bool) -> None:
    points = {
        count: spread
        for count in IN_FLIGHT
        if (spread := results.spread(closed(count, at_once=at_once), name, value)) is not None
    }
    if not points:
        return
    medians = [spread.median for spread in points.values()]
    axes.errorbar(
        list(points),
        medians,
        yerr=[
            [spread.median - spread.low for spread in points.values()],
            [spread.high - spread.median for spread in points.values()],
        ],
        color=COLOURS[name],
        marker=MARKS[name],
        linestyle="--" if at_once else "-",
        markerfacecolor="white" if at_once else COLOURS[name],
        capsize=3,
        label=f"{TITLES[name]}, {'stand-ins answer at once' if at_once else 'insert 80 ms, upload 60 ms'}"
        if name != "empty"
        else f"{TITLES[name]} (calls nobody)",
    )


def _legend_below(axes: Axes) -> None:
    """Place the legend below the axes, where it hides nothing; each name once."""
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    figure = axes.get_figure()
    if by_label and isinstance(figure, Figure):
        figure.legend(
            by_label.values(), by_label.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
        )


def _by_in_flight(axes: Axes, results: Results, value: Callable[[Cell], float | None]) -> None:
    for at_once in (False, True):
        for name in NAMES:
            _line(results, axes, name, value, at_once=at_once)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(IN_FLIGHT, [str(count) for count in IN_FLIGHT])
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value).removesuffix(".0").removesuffix(".00")))
    axes.set_xlabel("requests in flight")
    _legend_below(axes)


def _throughput(results: Results, axes: Axes) -> None:
    _by_in_flight(axes, results, lambda cell: cell.events_per_second)
    axes.set_ylabel("events acknowledged per second")
    axes.set_title("Throughput on one vCPU")


def _cpu(results: Results, axes: Axes) -> None:
    _by_in_flight(axes, results, lambda cell: None if cell.cpu is None else cell.cpu * 100)
    axes.set_ylabel("µs of CPU for an event")
    axes.set_title("What an event takes of the CPU")


def _latency(results: Results, axes: Axes) -> None:
    """Each rate has a place for each implementation, with its percentiles above each other."""
    percentiles: dict[str, Callable[[Cell], float | None]] = {
        "p50": lambda cell: cell.p50,
        "p99": lambda cell: cell.p99,
        "p99.9": lambda cell: cell.p999,
    }
    for place, rate in enumerate(RATES):
        for side, name in ((-0.2, NAMES[0]), (0.2, NAMES[1])):
            cells = results.of(opened(rate), name)
            if not cells:
                continue
            if not all(cell.is_sustained for cell in cells):
                axes.annotate(
                    "does\nnot\nfollow",
                    (place + side, 0.5),
                    xycoords=("data", "axes fraction"),
                    ha="center",
                    color=COLOURS[name],
                )
                continue
            spreads = {shown: results.spread(opened(rate), name, value) for shown, value in percentiles.items()}
            heights = {shown: spread.median * 1000 for shown, spread in spreads.items() if spread}
            xs = [place + side] * len(heights)
            axes.plot(xs, list(heights.values()), color=COLOURS[name], marker=MARKS[name], label=TITLES[name])
            for shown, height in heights.items():
                axes.annotate(
                    f"{shown} {height:.0f}",
                    (place + side, height),
                    (7, _ABOVE[shown]),
                    textcoords="offset points",
                    fontsize=8,
                )
    axes.set_xticks(range(len(RATES)), [f"{rate} events/s" for rate in RATES])
    axes.set_xlim(-0.5, len(RATES) - 0.3)
    axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.08)
    axes.set_ylabel("ms from arrival to acknowledgement")
    axes.set_title("Latency by rate, Poisson arrivals; insert 80 ms, upload 60 ms")
    _legend_below(axes)


def _cost(results: Results, axes: Axes) -> None:
    labels, bars = [], []
    for rate in RATES:
        for name in NAMES[:2]:
            if not results.of(opened(rate), name):
                continue
            labels.append(f"{rate}/s, {TITLES[name]}")
            try:
                bars.append(list(costs.parts(costs.bills(results, rate)[name]).values()))
            except NotMeasured:
                bars.append([0.0] * len(_COSTS))
    for position, shown in enumerate(_COSTS):
        widths = [bar[position] for bar in bars]
        starts = [sum(bar[:position]) for bar in bars]
        axes.barh(labels, widths, left=starts, color=_PARTS[position], label=shown, edgecolor="white", linewidth=0.5)
    for label, bar in zip(labels, bars, strict=True):
        shown = f"{sum(bar):.2f}" if any(bar) else "not measured"
        axes.annotate(shown, (sum(bar), label), (4, -3), textcoords="offset points")
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("USD for a million events, list prices")
    axes.set_title("Cost by rate")
    _legend_below(axes)
