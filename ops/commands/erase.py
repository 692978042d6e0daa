"""`sluice erase`: what a person sees of it."""

from datetime import datetime
from typing import Annotated

import msgspec
import typer
from google.cloud import bigquery
from rich.console import Console
from rich.table import Table
from rich.text import Text

from functions.clients import bigquery_client, storage_client
from functions.settings import Settings
from ops.commands.ending import ExitCode, tell
from ops.commands.options import check_order, moment, past_moment
from ops.erase import Erased, Erasure, Patience, Person
from ops.rows import printable
from ops.snapshots import Snapshots

console = Console(stderr=True)


def erase(
    user: Annotated[str | None, typer.Option(help="Id of a user: `user_id` of user activities.")] = None,
    customer: Annotated[str | None, typer.Option(help="Id of a customer: `customer_id` of orders.")] = None,
    start: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            parser=past_moment,
            metavar="TIME",
            help="Read the archive from this time of arrival on: a time, or 24h, 7d ago.",
            show_default=False,
        ),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option(
            "--to", parser=moment, metavar="TIME", help="Read the archive up to this time.", show_default=False
        ),
    ] = None,
    wait: Annotated[int, typer.Option(min=0, help="Minutes to wait for rows that BigQuery does not delete yet.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Find all of it, and leave it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the counts as JSON to standard output.")] = False,
) -> None:
    """Remove a person from tables, history, dead letters and archive; what it cannot reach it says.

    Without --from and --to all objects of the archive are read. What was interrupted is completed by starting it again.

    Exit code 0: all that can be reached is gone; 1: something is left, which it names, or Google Cloud refused or did
    not answer; 2: an option or a setting is wrong; 130: interrupted. What was erased until then is told.
    """
    ids = {field: one for field, one in (("user_id", user), ("customer_id", customer)) if one is not None}
    if not ids or not all(one and one.isprintable() for one in ids.values()):
        raise typer.BadParameter("an id that can be printed is needed", param_hint="--user or --customer")
    check_order(start, end)
    settings = Settings.from_environment()
    client = bigquery_client(settings)
    person = Person(ids)
    snapshots = _snapshots(client, settings)
    erasure = Erasure(person, client, storage_client(settings), settings, dry_run, Patience(wait * 60))
    complete = False
    try:
        with console.status("dead letters") as status:
            erasure(start, end, advance=status.update)
        complete = not erasure.erased.left
    finally:  # What was erased is told, however it ends.
        if as_json:
            facts = {"dry_run": dry_run, "complete": complete}
            answer = {**facts, **msgspec.to_builtins(erasure.erased), "snapshots": snapshots}
            print(msgspec.json.encode(answer).decode())  # noqa: T201
        else:
            _show(erasure.erased, snapshots, dry_run=dry_run)
    for one in erasure.erased.left:
        tell("Left:", one)
    if not complete:
        raise typer.Exit(ExitCode.FAILED)


def _snapshots(client: bigquery.Client, settings: Settings) -> list[dict[str, object]]:
    """Those of which nobody can take out a row."""
    return [{"snapshot": one.snapshot, "expires_at": one.expires_at} for one in Snapshots(client, settings).taken()]


def _show(erased: Erased, snapshots: list[dict[str, object]], *, dry_run: bool) -> None:
    table = Table("", "would be erased" if dry_run else "erased", title_justify="left")
    table.columns[1].justify = "right"
    for name, count in sorted(erased.rows.items()):
        table.add_row(f"rows of {name}", f"{count}")
    table.add_row("events in the archive", f"{erased.envelopes}")
    table.add_row("  objects rewritten", f"{erased.objects_rewritten}")
    table.add_row("  objects deleted", f"{erased.objects_deleted}")
    table.add_row("  of rows and events: no JSON", f"{erased.unparsed}")
    table.add_section()
    table.add_row("objects read", f"{erased.objects_read}")
    table.add_row("MB read", f"{erased.bytes_read / 1e6:.1f}")
    out = Console()
    out.print(table)
    for uri, count in sorted(erased.objects.items()):
        out.print(Text(f"{count} {'event' if count == 1 else 'events'} of {uri}"), soft_wrap=True)
    if erased.doubtful:
        console.print("Has the id, and may be theirs: it is left; see whose it is:")
        for place in erased.doubtful:
            console.print(Text(f"  {printable(place)}"), soft_wrap=True)
    console.print(
        "Not reached: BigQuery's time travel (7 days) and fail-safe (7 more), deleted objects (as long as the bucket's"
        " soft delete keeps them), copies in other regions until they are made again, exports, and what Pub/Sub still"
        " has: events that come again bring the person back.",
        soft_wrap=True,
    )
    for one in snapshots:
        expires = one["expires_at"]
        until = f"{expires:%Y-%m-%d}" if isinstance(expires, datetime) else "somebody deletes it"
        console.print(f"Snapshot {one['snapshot']}: has what it had, until {until}.")
