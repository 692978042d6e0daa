"""`sluice smoke`: what a person sees of it."""

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from functions.clients import bigquery_client, storage_client
from functions.settings import Settings
from sluice.commands.exit_codes import ExitCode
from sluice.local.stack import topic_name
from sluice.smoke import STREAMING_BUFFER, LogLines, Remains, Smoke

_console = Console(stderr=True, soft_wrap=True, highlight=False)


def smoke(
    topic: Annotated[
        str, typer.Option(help="Topic to publish to, as projects/PROJECT/topics/TOPIC.", envvar="SLUICE_TOPIC")
    ] = topic_name(),
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the events.")] = 120,
    keep: Annotated[bool, typer.Option("--keep", help="Delete nothing in the end.")] = False,
    logs: Annotated[
        bool, typer.Option("--logs/--no-logs", help="Look for the function's log lines in Cloud Logging, too.")
    ] = True,
    clean: Annotated[
        bool, typer.Option("--clean", help="Publish nothing; delete what the runs of the last 30 days have left.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")] = False,
) -> None:
    """Publish an event of each type and a bad one, and wait until each is in its table and in the archive.

    Then look for the log lines of their flushes, of which metrics and alerts are made, where the caller may read them.

    The events have the date of the partition that expires next. BigQuery does not delete what it streamed in just now:
    what remains is said, and `--clean` deletes it two hours later. Exit code 0: all arrived; 1: an event or a log line
    is missing, or something is wrong or could not be looked for. A log that may not be read is said, and is no failure.
    """
    settings = Settings.from_environment()
    test = Smoke(bigquery_client(settings), storage_client(settings), settings)
    if clean:
        _report_remaining(test.delete(all_runs=True))
        return
    _send(test, topic, timeout)
    if logs and test.arrived:
        with _console.status("looking for the log lines"):
            test.look_into_the_log(timeout)
    if as_json:
        print(msgspec.json.encode(_as_json(test)).decode())  # noqa: T201
    else:
        Console().print(_table(test))
    if not keep:
        _report_remaining(test.delete())
    if test.log_lines:
        _tell_log_lines(test.log_lines)
    if not test.arrived:
        _console.print(
            "[bold red]Something is missing or wrong.[/] If all is: does the subscription push to ingest, and may it"
            " (docs/deploy.md)? What does the log of ingest say?"
        )
    if not test.passed:
        raise typer.Exit(ExitCode.FAILED)
    _console.print(f"All {len(test.probes)} events are where they belong.")


def _send(test: Smoke, topic: str, timeout: float) -> None:
    with _console.status("publishing") as status:

        def show_count() -> None:
            status.update(f"{len(test.arrivals)} of {len(test.probes)} events are there")

        test.send(topic, timeout, show_count)


def _table(test: Smoke) -> Table:
    table = Table("event", "is in", "after", "lag", "archive", title=test.run, title_justify="left")
    for probe in test.probes:
        name = probe.event_id.removeprefix(f"{test.run}-")
        arrival = test.arrivals.get(probe.event_id)
        if arrival is None:
            table.add_row(name, Text("nowhere", "bold red"), "", "", "")
            continue
        place = Text(arrival.table if arrival.rows == 1 else f"{arrival.table}, {arrival.rows} times")
        if arrival.why:
            place.append(f"\n{arrival.why}", "dim")
        archive = Text(arrival.problem, "bold red") if arrival.problem else Text("has its bytes")
        table.add_row(name, place, f"{arrival.seconds:.1f} s", f"{arrival.lag:.1f} s", archive)
    return table


def _as_json(test: Smoke) -> dict[str, object]:
    events = {probe.event_id: test.arrivals.get(probe.event_id) for probe in test.probes}
    return {"run": test.run, "passed": test.passed, "events": events, "log_lines": test.log_lines}


def _tell_log_lines(lines: LogLines) -> None:
    if lines.problem:
        _console.print(f"The log lines of ingest were not looked for: {lines.problem}", markup=False)
    elif lines.missing:
        _console.print(
            f"[bold red]The log of ingest is missing.[/] Cloud Logging has no line of {len(lines.missing)} of the"
            f" {len(lines.expected)} flushes, so metrics and alerts that are made of the log see nothing. Is LOG_LEVEL"
            " above INFO? Does the sink _Default exclude the lines, or route them to another project?"
        )
        for uri in lines.missing:
            _console.print(f"  {uri}", markup=False)
    else:
        _console.print(f"Cloud Logging has the lines of {len(lines.expected)} flushes.")


def _report_remaining(remains: list[Remains]) -> None:
    for remaining in remains:
        until = f"until {remaining.expires:%Y-%m-%d %H:%M} UTC" if remaining.expires else "for ever"
        _console.print(f"Rows in {remaining.table} remain {until}: {remaining.why}", markup=False)
    if remains:
        minutes = STREAMING_BUFFER.total_seconds() / 60
        _console.print(f"BigQuery keeps streamed rows from deletion for up to {minutes:.0f} minutes; then:")
        _console.print("  sluice smoke --clean")
    else:
        _console.print("The rows are deleted; the archive keeps the raw bytes as long as its lifecycle says.")
