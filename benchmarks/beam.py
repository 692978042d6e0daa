"""`python -m benchmarks.beam`: what the pipeline takes on Apache Beam, beside a plain loop that does the same.

Explained in docs/performance-beam.md.
"""

import datetime
import pathlib
import statistics
import subprocess
from collections.abc import Mapping
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from benchmarks import page
from benchmarks.machine import FUNCTION_CORE, Machine, on_core
from benchmarks.runs import revision
from benchmarks.spread import Spread, ratio
from benchmarks.tables import number, target_rows, text
from benchmarks.targets import Target
from sluice.cost.dataflow import Beam
from sluice.doc_tables import Table
from sluice.package import ROOT

FILE = pathlib.Path(__file__).parent / "results" / "beam.json"
ENVIRONMENT = ROOT / ".venv" / "beam"
HOW_TO_GET = "Apache Beam is not installed, so nothing was measured: run `make beam`."

ROUNDS, COUNT = 7, 40_000
THREADS = 13
"""Number of threads that write concurrently, against a single thread; Dataflow gives a process a dozen."""

TITLES = {
    "plain": "plain loop",
    "beam": "files",
    "beam, handed over": "files, handed over",
    "beam, a stream": "stream",
    "beam, a stream of small bundles": "stream of small bundles",
    "beam, a stream of small bundles, handed over": "stream of small bundles, handed over",
}

LIKE_DATAFLOW = "beam, a stream of small bundles, handed over"
"""The way that is most like a job of Dataflow, and the dearest: the model of costs counts with it."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The size of .venv/beam.

    Attributes:
        packages: Number of its packages.
        bytes: Size of their files without bytecode.
        bytecode: Size of their bytecode.
    """

    packages: int
    bytes: int
    bytecode: int


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Time and memory that a process of a worker takes until it can write.

    Attributes:
        imports: Seconds of CPU to import the pipeline and Beam.
        contracts: Seconds of CPU to load the contracts.
        memory: Bytes of memory after it.
    """

    imports: float
    contracts: float
    memory: float


class BeamResults(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a run.

    Attributes:
        started: Time at which the run began.
        revision: Revision of the code.
        machine: Machine on which it ran.
        rows: Microseconds of CPU for an event by way and round: from a message to encoded rows.
        all: The same with the archive object.
        parse: The same for parsing alone: Sluice's (`plain`) and Beam's.
        environment: Size of the environment.
        starts: Starts of a process.
        memory: Bytes of memory of a process by kind of events: of one thread, and of `THREADS`.
    """

    started: str
    revision: str
    machine: Machine
    rows: dict[str, list[float]]
    all: dict[str, list[float]]
    parse: dict[str, list[float]]
    environment: Environment
    starts: list[Start]
    memory: dict[str, tuple[int, int]]


def measure(rounds: int, count: int) -> BeamResults:
    """Measure.

    Args:
        rounds: Number of times that everything is measured, in turn.
        count: Number of messages.

    Raises:
        RuntimeError: A process failed; has the end of what it printed.
    """
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with on_core(FUNCTION_CORE):
        stage = _run("beam_stage", dict[str, dict[str, list[float]]], rounds, count)
        starts = [_run("beam_worker", Start, "start") for _ in range(rounds)]
        memory = {
            kind: (_run("beam_worker", int, "peak", 1, kind), _run("beam_worker", int, "peak", THREADS, kind))
            for kind in ("mixed", "large_orders")
        }
    return BeamResults(
        started=started,
        revision=revision(),
        machine=Machine.here(),
        rows=stage["rows"],
        all=stage["all"],
        parse=stage["parse"],
        environment=_run("beam_worker", Environment, "environment"),
        starts=starts,
        memory=memory,
    )


def _run[Result](module: str, expected: type[Result], *arguments: object) -> Result:
    code = f"from benchmarks import {module}; {module}.main()"
    command = [str(ENVIRONMENT / "bin" / "python"), "-c", code, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)  # noqa: S603 - our own
    if ended.returncode:
        raise RuntimeError(f"benchmarks.{module} failed: {ended.stderr[-2_000:].decode(errors='replace')}")
    return msgspec.json.decode(ended.stdout, type=expected)


def targets(results: BeamResults) -> list[Target]:
    """Return the targets."""
    what = "from a Pub/Sub message to encoded rows"
    ways = {
        "files": "beam",
        "a stream of small bundles": "beam, a stream of small bundles",
        "the same, handed over": LIKE_DATAFLOW,
    }
    return [
        *(
            Target(f"{what}, {shown}: events/s of one core", _rate(results.rows[way]), least=18_000, unit="")
            for shown, way in ways.items()
        ),
        *(
            Target(f"{what}, {shown}: CPU against the plain loop", _against_plain(results.rows, way), most=1.3)
            for shown, way in ways.items()
        ),
    ]


def of(results: BeamResults) -> Beam:
    """Return the input of the model of costs."""
    return Beam(
        source=f"benchmarks/results/beam.json of {results.started}: {TITLES[LIKE_DATAFLOW]}, to rows",
        event_cpu=statistics.median(results.rows[LIKE_DATAFLOW]) / 1e6,
    )


def _rate(microseconds: list[float]) -> Spread:
    return Spread.of(1e6 / value for value in microseconds)


def _against_plain(measured: Mapping[str, list[float]], way: str) -> Spread:
    return ratio(dict(enumerate(measured[way])), dict(enumerate(measured["plain"])), (TITLES[way], TITLES["plain"]))


def tables(results: BeamResults) -> list[Table]:
    """Return the tables of docs/performance-beam.md."""
    stage = [
        (title, *_stage_columns(results.rows, way), *_stage_columns(results.all, way)) for way, title in TITLES.items()
    ]
    columns = (
        ">µs to rows",
        ">events/s",
        ">against the loop",
        ">µs with the archive",
        ">events/s",
        ">against the loop",
    )
    return [
        Table("beam-targets", "Targets", ("", ">target", ">measured", ""), target_rows(targets(results))),
        Table("beam", "CPU for an event on Apache Beam", ("", *columns), stage),
        Table("beam-worker", "A worker", ("", ""), _worker(results)),
    ]


def _stage_columns(measured: Mapping[str, list[float]], way: str) -> tuple[str, str, str]:
    microseconds = measured[way]
    times = "1" if way == "plain" else f"{_against_plain(measured, way).median:.2f}"
    return text(Spread.of(microseconds)), number(_rate(microseconds).median), times


def _worker(results: BeamResults) -> list[tuple[str, str]]:
    environment, machine = results.environment, results.machine
    starts = results.starts
    rows = [
        (
            "environment",
            f"{environment.packages} packages, {environment.bytes / 1e6:.0f} MB,"
            f" and {environment.bytecode / 1e6:.0f} MB of bytecode",
        ),
        ("CPU seconds of a process's imports", text(Spread.of(start.imports for start in starts))),
        ("CPU seconds to load the contracts", text(Spread.of(start.contracts for start in starts))),
        ("MiB of memory after it", text(Spread.of(start.memory / 2**20 for start in starts))),
    ]
    for kind, shown in (("mixed", "500 events"), ("large_orders", "2 MiB of orders with 200 items")):
        single, many = results.memory[kind]
        each = (many - single) / (THREADS - 1)
        rows.append(
            (f"MiB while one thread writes {shown}", f"{single / 2**20:.0f}; each other thread {each / 2**20:.1f}")
        )
    parse = (text(Spread.of(results.parse[name])) for name in ("plain", "beam"))
    rows.append(("µs to parse a message; Beam's own", "; ".join(parse)))
    rows.append(("processor", f"{machine.cpu}, {machine.cores} cores, Python {machine.python}"))
    rows.append(("run", f"{results.started}, revision {results.revision}"))
    return rows


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    quick: Annotated[bool, typer.Option("--quick", help="A few events, to see that it works.")] = False,
    json: Annotated[
        pathlib.Path | None, typer.Option(dir_okay=False, help="Write the results there.", show_default=False)
    ] = None,
    docs: Annotated[
        bool,
        typer.Option(
            "--docs", help="Write the tables of docs/performance-beam.md, and the input of the model of costs."
        ),
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Fail when a target is missed.")] = False,
) -> None:
    """Measure what the pipeline takes on Apache Beam, beside a plain loop that does the same."""
    if docs and quick:
        raise typer.BadParameter("the page shows whole runs only", param_hint="--docs")
    console = Console(stderr=True)
    if not (ENVIRONMENT / "ready").exists():
        console.print(f"[bold yellow]Skipped:[/] {HOW_TO_GET}")
        raise typer.Exit(1 if check else 0)
    results = measure(1, 2_000) if quick else measure(ROUNDS, COUNT)
    result_tables = tables(results)
    for table in result_tables:
        table.show()
    for path in [file for file in (json, FILE if docs else None) if file]:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    if docs:
        of(results).write()
        page.BEAM.write_text(page.fill_tables(page.BEAM.read_text(), result_tables))
    missed = [target for target in targets(results) if not target.is_met]
    for target in missed:
        console.print(f"[bold yellow]Target missed:[/] {target.what}")
    if check and missed:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
