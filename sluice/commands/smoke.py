"""The command `sluice smoke`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from sluice.commands.command_settings import check_topic, command_settings
from sluice.commands.exit_codes import ExitCode
from sluice.commands.options import Csv, Json, Topic
from sluice.formatting import print_rows, printable
from sluice.local.names import TOPIC

if TYPE_CHECKING:
    from sluice.smoke import LogLines, Remains, Smoke

_console = Console(stderr=True, soft_wrap=True, highlight=False)


def smoke(
    topic: Topic = TOPIC,
    timeout: Annotated[float, typer.Option(min=1, help="Maximum seconds to wait for the events.")] = 120,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the rows of the test.")] = False,
    logs: Annotated[
        bool, typer.Option("--logs/--no-logs", help="Also check the log lines of ingest in Cloud Logging.")
    ] = True,
    clean: Annotated[
        bool, typer.Option("--clean", help="Publish nothing; delete the rows of the runs of the last 30 days.")
    ] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Publish an event of each type and an invalid one, and wait until each is in its table and in the archive.

    The command then checks that Cloud Logging has the log lines of the flushes, from which metrics and alerts are
    derived. Without permission to read the log, it reports so and does not fail.

    The events have the date of the partition that expires next. BigQuery cannot delete rows that were streamed
    recently: the command reports rows that remain, and `--clean` deletes them two hours later.

    Examples:
        sluice smoke
        sluice smoke --topic projects/PROJECT/topics/sluice-prod-events
        sluice smoke --clean

    Exit code 0: all events arrived; 1: an event or a log line is missing, or a check failed; 2: an option or a setting
    is wrong.
    """
    settings = command_settings(archive=not clean)
    if not clean:
        check_topic(topic)
    from functions.clients import bigquery_client, storage_client
    from sluice.smoke import Smoke

    test = Smoke(bigquery_client(settings), storage_client(settings), settings)
    if clean:
        _report_remaining(test.delete(all_runs=True))
        return
    _send(test, topic, timeout)
    if logs and test.arrived:
        with _console.status("checking the log lines"):
            test.look_into_the_log(timeout)
    if as_json:
        print(msgspec.json.encode(_as_json(test)).decode())  # noqa: T201
    else:
        _show(test, as_csv=as_csv)
    if not keep:
        _report_remaining(test.delete())
    if test.log_lines:
        _print_log_lines(test.log_lines)
    if not test.arrived:
        _console.print(
            "[bold red]An event is missing or wrong.[/] If all are missing: does the subscription push to ingest, and"
            " is it allowed to (docs/deploy.md)? Does the log of ingest have errors?"
        )
    if not test.passed:
        raise typer.Exit(ExitCode.FAILED)
    _console.print(f"All {len(test.probes)} events are in their table and the archive.")


def _send(test: Smoke, topic: str, timeout: float) -> None:
    with _console.status("publishing") as status:

        def show_count() -> None:
            status.update(f"{len(test.arrivals)} of {len(test.probes)} events have arrived")

        test.send(topic, timeout, show_count)


def _show(test: Smoke, *, as_csv: bool) -> None:
    rows: list[Sequence[object]] = []
    for probe in test.probes:
        name = probe.event_id.removeprefix(f"{test.run}-")
        arrival = test.arrivals.get(probe.event_id)
        if arrival is None:
            rows.append((name, Text("missing", "bold red"), "", "", ""))
            continue
        place = arrival.table if arrival.rows == 1 else f"{arrival.table}, {arrival.rows} times"
        archive = Text(printable(arrival.problem), "bold red") if arrival.problem else "same bytes"
        rows.append((name, place, f"{arrival.seconds:.1f} s", f"{arrival.lag:.1f} s", archive))
    print_rows(("event", "table", "after", "lag", "archive"), rows, as_csv=as_csv, title=test.run)
    out = _console if as_csv else Console()
    for probe in test.probes:
        arrival = test.arrivals.get(probe.event_id)
        if arrival and arrival.why:
            out.print(Text(printable(f"{probe.event_id}: {arrival.why}")), soft_wrap=True)


def _as_json(test: Smoke) -> dict[str, object]:
    events = {probe.event_id: test.arrivals.get(probe.event_id) for probe in test.probes}
    return {"run": test.run, "passed": test.passed, "events": events, "log_lines": test.log_lines}


def _print_log_lines(lines: LogLines) -> None:
    if lines.problem:
        _console.print(f"The log lines of ingest were not checked: {lines.problem}", markup=False)
    elif lines.missing:
        _console.print(
            f"[bold red]Log lines of ingest are missing.[/] Cloud Logging has no line for {len(lines.missing)} of"
            f" {len(lines.expected)} flushes, so metrics and alerts that are derived from the log do not work. Is"
            " LOG_LEVEL above INFO? Does the sink _Default exclude the lines, or route them to another project?"
        )
        for uri in lines.missing:
            _console.print(f"  {uri}", markup=False)
    else:
        _console.print(f"Cloud Logging has the log lines of all {len(lines.expected)} flushes.")


def _report_remaining(remains: list[Remains]) -> None:
    from sluice.smoke import STREAMING_BUFFER

    for remaining in remains:
        until = f"until {remaining.expires:%Y-%m-%d %H:%M} UTC" if remaining.expires else "without expiration"
        _console.print(f"Rows in {remaining.table} remain {until}: {remaining.why}", markup=False)
    if remains:
        minutes = STREAMING_BUFFER.total_seconds() / 60
        _console.print(
            f"BigQuery cannot delete streamed rows for up to {minutes:.0f} minutes. To delete them afterwards:"
        )
        _console.print("  sluice smoke --clean")
    else:
        _console.print("The rows are deleted. The archive keeps the raw bytes until its lifecycle deletes them.")
