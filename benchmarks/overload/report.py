"""Table and plot of the overload benchmark."""

import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from matplotlib.figure import Figure

from benchmarks.overload.records import FILE, FILE_BEFORE, PhaseRecord, Record, Records, Sample, read
from benchmarks.overload.scenarios import METASTABLE, SCENARIOS
from benchmarks.plots import FOLDER
from benchmarks.tables import number
from sluice.doc_tables import Table

PLOTS = {"BigQuery": "overload", METASTABLE.name: "overload_metastable"}
"""Names of the plots' files by scenario."""


def kept() -> dict[str, Records]:
    """Return the runs that are kept, by title, in the order in which they are shown."""
    files = {"before": FILE_BEFORE, "now": FILE}
    return {title: read(file) for title, file in files.items() if file.exists()}


def table(runs: Mapping[str, Records]) -> Table:
    """Return the table of runs, by title."""
    rows = [
        (record.scenario, title, *_cells(record))
        for scenario in SCENARIOS
        for title, records in runs.items()
        if (record := records.of(scenario.name))
    ]
    columns = (
        "limited and disturbed",
        "code",
        ">offered",
        ">steady",
        ">stall",
        ">after it",
        ">recovered after",
        ">slowdown",
        ">after it",
        ">recovered after",
        ">rows for each distinct row",
        ">acknowledged",
        ">lost",
        "criteria",
    )
    return Table("overload", "Goodput in events/s through overload", columns, rows)


def machine_table(runs: Mapping[str, Records]) -> Table:
    """Return the table of what the runs were made on."""
    rows = [
        (
            title,
            f"{records.machine.cpu}, {records.machine.cores} cores, Python {records.machine.python}",
            f"{records.started}, revision {records.revision}",
        )
        for title, records in runs.items()
    ]
    return Table("overload-runs", "The runs", ("code", "processor", "run"), rows)


def _cells(record: Record) -> Iterator[str]:
    phases = {phase.name: phase for phase in record.phases}
    yield number(record.rate)
    yield _goodput(phases.get("steady"))
    for disturbance in ("stall", "slowdown"):
        recovery = phases.get(f"after the {disturbance}")
        yield _goodput(phases.get(disturbance))
        yield _goodput(recovery)
        yield _recovered(recovery)
    yield "-" if record.rows_per_event is None else f"{record.rows_per_event:.2f}"
    yield f"{number(record.last.acknowledged)} of {number(record.last.offered)}"
    yield str(record.lost)
    yield "**missed**" if any(record.missed()) else "met"


def _goodput(phase: PhaseRecord | None) -> str:
    return number(phase.goodput) if phase else "-"


def _recovered(phase: PhaseRecord | None) -> str:
    if phase is None:
        return "-"
    if phase.recovered_after is None:
        return f"not within {phase.end - phase.start:.0f} s"
    return f"{phase.recovered_after:.0f} s"


def tables(runs: Mapping[str, Records]) -> list[Table]:
    """Return all tables of the page."""
    return [table(runs), machine_table(runs)]


def draw(runs: Mapping[str, Records], folder: pathlib.Path = FOLDER) -> list[pathlib.Path]:
    """Draw a plot for each of the scenarios that the page shows; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for scenario, name in PLOTS.items():
        shown = {title: record for title, records in runs.items() if (record := records.of(scenario))}
        if shown:
            files.append(folder / f"{name}.png")
            _figure(scenario, shown).savefig(files[-1], metadata={"Software": None})
    return files


def _figure(scenario: str, records: Mapping[str, Record]) -> Figure:
    """Return goodput, rows in insert requests and events in flight over time: a column a run, with the same axes."""
    figure = Figure(layout="constrained", figsize=(4.5 * len(records) + 1, 7))
    figure.suptitle(f"Overload of {scenario}")
    grid = figure.subplots(3, len(records), sharex=True, sharey="row", squeeze=False)
    for column, (title, record) in enumerate(records.items()):
        goodput, rows, in_flight = (axes[column] for axes in grid)
        samples = record.samples
        times = [sample.at for sample in samples]
        goodput.set_title(title)
        ended = record.phases[-1].end  # from there on the backlog is drained
        goodput.plot([0, ended], [record.rate] * 2, color="#7F7F7F", linestyle="--", label="offered")
        goodput.plot(times[1:], _rates(samples, lambda sample: sample.acknowledged), color="#0072B2", label="goodput")
        sent = _rates(samples, lambda sample: sample.insert_rows)
        rows.plot(times[1:], sent, color="#D55E00", label="rows sent to BigQuery")
        new = _rates(samples, lambda sample: sample.distinct_rows)
        rows.plot(times[1:], new, color="#009E73", label="distinct rows written")
        in_flight.plot(times, [sample.in_flight for sample in samples], color="#0072B2")
        in_flight.set_xlabel("seconds; grey: disturbed")
        for axes in (goodput, rows, in_flight):
            axes.set_ylim(bottom=0)
            for phase in record.phases:
                if phase.is_disturbed:
                    axes.axvspan(phase.start, phase.end, color="#7F7F7F", alpha=0.2, linewidth=0)
    for axes, label in zip(grid[:, 0], ("events/s", "rows/s", "events in flight"), strict=True):
        axes.set_ylabel(label)
    for axes in grid[:2, 0]:
        axes.legend(fontsize=8, loc="upper left")
    return figure


def _rates(samples: Sequence[Sample], value: Callable[[Sample], int]) -> list[float]:
    """Return how fast a count grew between samples that follow each other, per second."""
    return [(value(after) - value(before)) / (after.at - before.at) for before, after in itertools.pairwise(samples)]
