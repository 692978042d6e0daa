"""`sluice erase`: what a person sees of it."""

import contextlib
from collections.abc import Sequence
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
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import check_order, parse_past_time, parse_time
from sluice.erase.erasure import Erased, Erasure, Listed, Patience
from sluice.erase.ownership import Person, person_fields
from sluice.local.stack import undeliverable_name
from sluice.replay.undeliverable import Undeliverable
from sluice.snapshots import Snapshots

console = Console(stderr=True)


_SHORT_FORMS = {"user_id": "--user", "customer_id": "--customer"}


def erase(
    user: Annotated[str | None, typer.Option(help="Id of a user: the same as --id user_id=ID.")] = None,
    customer: Annotated[str | None, typer.Option(help="Id of a customer: the same as --id customer_id=ID.")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--id",
            metavar="FIELD=ID",
            help="Id of the person in a field of the event types' persons; once for each field.",
            show_default=False,
        ),
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            metavar="EVENT_ID",
            help="An event that an earlier run has listed and that is theirs: erase all with its id. Once for each.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            parser=parse_past_time,
            metavar="TIME",
            help="Read the archive from this time of arrival on: a time, or 24h, 7d ago.",
            show_default=False,
        ),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option(
            "--to", parser=parse_time, metavar="TIME", help="Read the archive up to this time.", show_default=False
        ),
    ] = None,
    undeliverable: Annotated[
        bool, typer.Option("--undeliverable", help="Search the dead-letter subscription, too.")
    ] = False,
    subscription: Annotated[
        str,
        typer.Option(
            help="Of --undeliverable, as projects/PROJECT/subscriptions/SUBSCRIPTION.", envvar="SLUICE_UNDELIVERABLE"
        ),
    ] = undeliverable_name(),
    patience: Annotated[
        float, typer.Option(min=0.5, help="Of --undeliverable: seconds without a message that are the end.")
    ] = 10,
    wait: Annotated[int, typer.Option(min=0, help="Minutes to wait for rows that BigQuery does not delete yet.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Find all of it, and leave it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the counts as JSON to standard output.")] = False,
) -> None:
    """Remove a person from tables, history, dead letters and archive; list what it leaves or cannot look into.

    It looks into payloads, attributes, ordering keys and event ids; in dead letters also into UTF-16, UTF-32, 8-bit
    texts, gzip, zlib, bzip2, xz and base64. Without --from and --to all objects of the archive are read. What was
    interrupted is completed by starting it again.

    Exit code 0: nothing of the person is left in the tables, their snapshots, the dead letters and the archive, nor
    with --undeliverable in the subscription; 1: something is left (`Left:`), may be theirs (`May be theirs:`) or cannot
    be looked into (`Cannot be read:`), each with its place, or Google Cloud refused or did not answer; 2: an option or
    a setting is wrong; 130: interrupted. What was erased until then is told.
    """
    person = Person(_ids(user, customer, given or ()), events or ())
    check_order(start, end)
    settings = Settings.from_environment()
    client = bigquery_client(settings)
    snapshots = _snapshots(client, settings)
    erasure = Erasure(person, client, storage_client(settings), settings, dry_run, Patience(wait * 60))
    complete = False
    try:
        with contextlib.ExitStack() as leases, console.status("looking") as status:
            messages = leases.enter_context(Undeliverable(subscription, patience)) if undeliverable else None
            erasure(start, end, undeliverable=messages, advance=status.update)
        complete = erasure.erased.is_complete
    finally:  # Report what was erased, also after an error.
        if as_json:
            facts = {"dry_run": dry_run, "complete": complete}
            answer = {**facts, **msgspec.to_builtins(erasure.erased), "snapshots": snapshots}
            print(msgspec.json.encode(answer).decode())  # noqa: T201
        else:
            _show(erasure.erased, snapshots, dry_run=dry_run)
    _list("May be theirs:", erasure.erased.doubtful)
    _list("Cannot be read:", erasure.erased.unreadable)
    for problem in erasure.erased.remaining:
        print_error("Left:", problem)
    if not complete:
        raise typer.Exit(ExitCode.FAILED)


def _ids(user: str | None, customer: str | None, given: Sequence[str]) -> dict[str, str]:
    """Return the person's ids by field.

    Raises:
        typer.BadParameter: There is none, one cannot be printed, or a field is none of a person or is given twice.
    """
    pairs = [
        (field, person_id)
        for field, person_id in (("user_id", user), ("customer_id", customer))
        if person_id is not None
    ]
    pairs += [(field, person_id) for field, _, person_id in (text.partition("=") for text in given)]
    fields = person_fields()
    ids: dict[str, str] = {}
    for field, person_id in pairs:
        hint = "--id" if field not in _SHORT_FORMS else f"--id or {_SHORT_FORMS[field]}"
        if field not in fields:
            raise typer.BadParameter(
                f"{field!r} is no person's field of an event type; they are {', '.join(fields)}", param_hint=hint
            )
        if field in ids:
            raise typer.BadParameter(f"{field} is given twice; a run erases one id of each field", param_hint=hint)
        if not person_id or not person_id.isprintable():
            raise typer.BadParameter(f"{field} needs an id that can be printed", param_hint=hint)
        ids[field] = person_id
    if not ids:
        raise typer.BadParameter(f"an id is needed: FIELD=ID, of {', '.join(fields)}", param_hint="--id")
    return ids


def _list(what: str, listed: Listed) -> None:
    for place in listed.places:
        print_error(what, place)
    if more := listed.count - len(listed.places):
        print_error(what, f"and {more} more")


def _snapshots(client: bigquery.Client, settings: Settings) -> list[dict[str, object]]:
    """Return the snapshots, from which no row can be deleted."""
    return [
        {"snapshot": snapshot.snapshot, "expires_at": snapshot.expires_at}
        for snapshot in Snapshots(client, settings).taken()
    ]


def _show(erased: Erased, snapshots: list[dict[str, object]], *, dry_run: bool) -> None:
    table = Table("", "would be erased" if dry_run else "erased", title_justify="left")
    table.columns[1].justify = "right"
    for name, count in sorted(erased.rows.items()):
        table.add_row(f"rows of {name}", f"{count}")
    table.add_row("events in the archive", f"{erased.envelopes}")
    table.add_row("  objects rewritten", f"{erased.objects_rewritten}")
    table.add_row("  objects deleted", f"{erased.objects_deleted}")
    table.add_row("  of rows and events: no JSON", f"{erased.unparsed}")
    if erased.messages is not None:
        table.add_row("undeliverable messages", f"{erased.messages}")
    table.add_section()
    table.add_row("left: may be theirs", f"{erased.doubtful.count}")
    table.add_row("left: cannot be read", f"{erased.unreadable.count}")
    table.add_section()
    table.add_row("objects read", f"{erased.objects_read}")
    table.add_row("MB read", f"{erased.bytes_read / 1e6:.1f}")
    out = Console()
    out.print(table)
    for uri, count in sorted(erased.objects.items()):
        out.print(Text(f"{count} {'event' if count == 1 else 'events'} of {uri}"), soft_wrap=True)
    subscription = "" if erased.messages is not None else ", and the dead-letter subscription (--undeliverable)"
    console.print(
        "Not searched: BigQuery's time travel (7 days) and fail-safe (7 more), deleted objects (as long as the bucket's"
        " soft delete keeps them), copies in other regions until they are made again, exports, and the topic"
        f"{subscription}: events that come again bring the person back.",
        soft_wrap=True,
    )
    for snapshot in snapshots:
        expires = snapshot["expires_at"]
        until = f"{expires:%Y-%m-%d}" if isinstance(expires, datetime) else "somebody deletes it"
        console.print(f"Snapshot {snapshot['snapshot']}: has what it had, until {until}.")
