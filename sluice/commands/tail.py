"""The command `sluice tail`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from functions.events import event_types
from sluice.commands.command_settings import command_settings
from sluice.commands.options import Csv, Json
from sluice.formatting import csv_lines, json_lines, printable

if TYPE_CHECKING:
    from sluice.stored_events import StoredEvent
    from sluice.tail import Tail

_console = Console(stderr=True, soft_wrap=True, highlight=False)

_MIN_PAYLOAD = 60
"""Minimum number of characters of a longer payload that a line shows."""


def tail(
    number: Annotated[int, typer.Option("--number", "-n", min=0, max=10_000, help="Last events to begin with.")] = 10,
    bad: Annotated[bool, typer.Option("--bad", help="Only dead letters.")] = False,
    event_type: Annotated[str | None, typer.Option("--type", help="Only events of this type.")] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--grep", metavar="TEXT", help="Only events with this text in id, row, payload or error, in any case."
        ),
    ] = None,
    days: Annotated[
        int,
        typer.Option(
            min=0, max=3650, help="Days before today that an event's own date may be. More days cost more to read."
        ),
    ] = 1,
    interval: Annotated[float, typer.Option(min=0.5, help="Seconds between two queries.")] = 2,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="End after the last events.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show the last events and dead letters as they come, each with its id for `sluice trace`.

    A line has the time of processing in UTC, the type, `good` or `bad`, the event id and the payload; of a dead letter
    also stage, rule and path. With --json, an event is one line with the whole row or payload. Each query is billed at
    least 10 MB for each table. Rows of the historical dataset are not shown.

    Examples:
        sluice tail
        sluice tail --bad --type order
        sluice tail --grep ORD-1001 -n 100 --no-follow --json

    Exit code 0: with --no-follow, shown; 1: BigQuery rejected the query or did not answer; 2: an option or a setting is
    wrong; 130: ended by Ctrl-C.
    """
    if event_type is not None and event_type not in event_types() and not bad:
        raise typer.BadParameter(
            f"event type {event_type} does not exist; event types are {', '.join(sorted(event_types()))}; dead letters"
            " of other types need --bad",
            param_hint="--type",
        )
    settings = command_settings(archive=False)
    from functions.clients import bigquery_client
    from sluice.queries import price, short_retry
    from sluice.stored_events import EventFilter
    from sluice.tail import Tail

    chosen = EventFilter("bad" if bad else None, event_type, text, days)
    events = Tail(bigquery_client(settings), settings, chosen, short_retry())
    try:
        _print(_events(events, number, None if no_follow else interval), as_json=as_json, as_csv=as_csv)
    finally:
        if events.billed:
            _console.print(f"billed {events.billed / 2**20:,.1f} MiB, {price(events.billed):.6f} USD")


def _events(events: Tail, number: int, interval: float | None) -> Iterator[StoredEvent]:
    """Yield the last events, and with an interval the new ones forever."""
    yield from events.last(number)
    while interval is not None:
        time.sleep(interval)
        yield from events.new()


def _print(events: Iterator[StoredEvent], *, as_json: bool, as_csv: bool) -> None:
    if as_json or as_csv:
        from sluice.stored_events import StoredEvent

        lines = json_lines if as_json else csv_lines
        for line in lines(StoredEvent.__struct_fields__, (_values(event) for event in events)):
            print(line, flush=True)  # noqa: T201
        return
    console = Console()
    for event in events:
        console.print(_line(event, console.width), soft_wrap=True)


def _values(event: StoredEvent) -> Sequence[object]:
    """Return the values of an event; a row is JSON, a payload text."""
    values = msgspec.structs.asdict(event)
    if event.verdict == "good":
        values["content"] = msgspec.Raw(str(event.content).encode())
    return list(values.values())


def _line(event: StoredEvent, width: int) -> Text:
    """Return a line for people: only the payload is shortened, after a whole value."""
    type_width = max(map(len, event_types()))
    head = f"{event.time:%Y-%m-%d %H:%M:%S}  {printable(event.type or '(no type)'):<{type_width}}  "
    error = f"  {event.stage} {event.rule} {event.path}" if event.stage else ""
    line = Text.assemble(
        head,
        (f"{event.verdict:<4}", "bold red" if event.stage else "green"),
        f"  {printable(event.event_id)}{printable(error)}  ",
    )
    payload = re.sub(r"\s+", " ", event.payload())
    room = max(_MIN_PAYLOAD, width - line.cell_len)
    if len(payload) > room:
        payload = f"{payload[:room].rpartition(',')[0] or payload[:room]}, ..."
    line.append(printable(payload), "dim")
    return line
