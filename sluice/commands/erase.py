"""The command `sluice erase`."""

from __future__ import annotations

import contextlib
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from sluice.commands.command_settings import check_subscription, command_settings
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import (
    Csv,
    IdleSeconds,
    Json,
    Subscription,
    Undeliverable,
    check_order,
    parse_past_time,
    parse_time,
)
from sluice.formatting import print_rows
from sluice.local.names import UNDELIVERABLE

if TYPE_CHECKING:
    from google.cloud import bigquery

    from functions.archive.reader import Archived
    from functions.settings import Settings
    from sluice.erase.archive import Advance
    from sluice.erase.checkpoint import Checkpoint, Request
    from sluice.erase.forecast import Forecast
    from sluice.erase.ownership import Persons
    from sluice.erase.report import Erased, Listed

console = Console(stderr=True, soft_wrap=True)


def erase(
    users: Annotated[
        list[str] | None,
        typer.Option(
            "--user", metavar="ID", help="Id of a user; short for --id user_id=ID; repeatable.", show_default=False
        ),
    ] = None,
    customers: Annotated[
        list[str] | None,
        typer.Option(
            "--customer",
            metavar="ID",
            help="Id of a customer; short for --id customer_id=ID; repeatable.",
            show_default=False,
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--id",
            metavar="FIELD=ID",
            help="Id of a person in a field that identifies persons; repeatable.",
            show_default=False,
        ),
    ] = None,
    ids_files: Annotated[
        list[typer.FileBinaryRead] | None,
        typer.Option(
            "--ids-file",
            metavar="FILE",
            help="File with an id of a person in each line, as FIELD=ID; - for standard input; repeatable. Lines that"
            " are blank or begin with # are skipped.",
            show_default=False,
        ),
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            metavar="EVENT_ID",
            help="Id of an event that an earlier run listed and that belongs to a person; repeatable.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            parser=parse_past_time,
            metavar="TIME",
            help="Start of the arrival times to read from the archive: a time, or 24h, 7d ago.",
            show_default=False,
        ),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option(
            "--to",
            parser=parse_time,
            metavar="TIME",
            help="End of the arrival times to read from the archive.",
            show_default=False,
        ),
    ] = None,
    undeliverable: Undeliverable = False,
    subscription: Subscription = UNDELIVERABLE,
    patience: IdleSeconds = 10,
    wait: Annotated[
        int, typer.Option(min=0, help="Maximum minutes to wait for recent rows, which BigQuery cannot delete yet.")
    ] = 100,
    checkpoint_file: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="File that keeps which hours of the archive were read, without ids. A run with the same ids, --event,"
            " --from and --to continues there.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would be erased; change nothing.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Erase persons from the live and historical tables, the dead letters and the archive.

    The command searches payloads, attributes, ordering keys and event ids; in dead letters also text in UTF-16, UTF-32
    and 8-bit encodings, and data in gzip, zlib, bzip2, xz and base64. Without --from and --to, it reads all objects of
    the archive. It lists data that is not erased, may belong to a person, or cannot be searched. It begins with
    a forecast of what it reads, how long that takes, and what it costs. To resume an interrupted run, run the command
    again; with --checkpoint, it does not read the archive again from its beginning.

    Examples:
        sluice erase --user user-17 --dry-run
        sluice erase --customer C-1001 --user user-17 --undeliverable
        sluice erase --user user-17 --event EVENT_ID
        sluice erase --ids-file ids.txt --checkpoint erasure.jsonl

    Exit code 0: no data of the persons remains in the tables, their snapshots, the dead letters and the archive, nor,
    with --undeliverable, in the subscription; 1: data remains (`Not erased:`), may belong to a person (`Uncertain:`)
    or is unreadable (`Unreadable:`), each with its place, or Google Cloud rejected a request or did not answer; 2: an
    option or a setting is wrong; 130: interrupted. The command reports what it has erased in all cases.
    """
    persons = _persons(users or (), customers or (), given or (), ids_files or (), events or ())
    check_order(start, end)
    if checkpoint_file and dry_run:
        raise typer.BadParameter("a dry run changes nothing that a later run could build on", param_hint="--checkpoint")
    settings = command_settings()
    if undeliverable:
        check_subscription(subscription)
    from functions.archive.reader import ArchiveReader
    from functions.clients import bigquery_client, storage_client
    from sluice.erase.checkpoint import Request
    from sluice.erase.deletions import Patience
    from sluice.erase.erasure import Erasure
    from sluice.erase.forecast import Forecast, forecast
    from sluice.replay import undeliverable as dead_letter_subscription

    client, storage = bigquery_client(settings), storage_client(settings)
    snapshots = _snapshots(client, settings)
    checkpoint = _checkpoint(checkpoint_file, client, Request.of(persons, settings.archive_bucket, start, end))
    erasure = Erasure(persons, client, storage, settings, dry_run, Patience(wait * 60), checkpoint)
    complete, expected = False, Forecast()
    try:
        with console.status("listing the archive"):
            objects = ArchiveReader(storage, settings.archive_bucket).stored(start, end)
            expected = forecast(objects, persons, checkpoint.is_read if checkpoint else lambda _: False)
        console.print(expected.sentences())
        with contextlib.ExitStack() as leases, _progress(expected) as advance:
            messages = (
                leases.enter_context(dead_letter_subscription.Undeliverable(subscription, patience))
                if undeliverable
                else None
            )
            erasure(start, end, undeliverable=messages, advance=advance)
        complete = erasure.erased.is_complete
    finally:  # Report what was erased, also after an error.
        if as_json:
            facts = {"dry_run": dry_run, "complete": complete}
            erased = msgspec.to_builtins(erasure.erased)
            answer = {**facts, **erased, "snapshots": snapshots, "forecast": expected.as_json()}
            print(msgspec.json.encode(answer).decode())  # noqa: T201
        else:
            _show(erasure.erased, snapshots, dry_run=dry_run, as_csv=as_csv)
    _list("Uncertain:", erasure.erased.doubtful)
    _list("Unreadable:", erasure.erased.unreadable)
    for problem in erasure.erased.remaining:
        print_error("Not erased:", problem)
    if not complete:
        raise typer.Exit(ExitCode.FAILED)


def _persons(
    users: Sequence[str],
    customers: Sequence[str],
    given: Sequence[str],
    ids_files: Sequence[typer.FileBinaryRead],
    events: Sequence[str],
) -> Persons:
    """Return the persons by all options.

    Raises:
        typer.BadParameter: There is no id, an id is empty or not printable, a field does not identify persons, or the
            ids are too many.
    """
    from sluice.erase.ownership import MAX_BYTES, Persons, person_fields, size_of
    from sluice.erase.person_ids import InvalidId, parse_id, read_ids

    texts = [("--user", f"user_id={value}") for value in users]
    texts += [("--customer", f"customer_id={value}") for value in customers]
    texts += [("--id", text) for text in given]
    ids: defaultdict[str, set[str]] = defaultdict(set)
    hint = ""
    try:
        for option, text in texts:
            hint = option
            field, value = parse_id(text)
            ids[field].add(value)
        for file in ids_files:
            hint = f"--ids-file {getattr(file, 'name', '-')}"
            of_file = list(read_ids(file))
            if not of_file:
                raise typer.BadParameter("the file has no id", param_hint=hint)
            for field, value in of_file:
                ids[field].add(value)
    except InvalidId as error:
        raise typer.BadParameter(str(error), param_hint=hint) from error
    if not ids:
        fields = ", ".join(person_fields())
        raise typer.BadParameter(f"an id is required, as FIELD=ID; fields are {fields}", param_hint="--id")
    if (size := size_of(ids, events)) > MAX_BYTES:
        raise typer.BadParameter(
            f"the ids have {size} bytes as JSON; a run takes up to {MAX_BYTES}: split the file", param_hint=hint
        )
    return Persons(ids, events)


def _checkpoint(path: pathlib.Path | None, client: bigquery.Client, request: Request) -> Checkpoint | None:
    """Return the checkpoint of a file.

    Raises:
        typer.BadParameter: The file is the checkpoint of another request, or no checkpoint.
    """
    from sluice.erase.checkpoint import Checkpoint, WrongCheckpoint

    if path is None:
        return None
    [row] = client.query_and_wait("SELECT CURRENT_TIMESTAMP() AS now")  # This machine's clock may be wrong.
    try:
        checkpoint = Checkpoint.open(path, request, row.now)
    except (WrongCheckpoint, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--checkpoint") from error
    if checkpoint.read_before:
        console.print(f"Continued: {checkpoint.read_before} hours of the archive were read before.")
    return checkpoint


@contextlib.contextmanager
def _progress(expected: Forecast) -> Iterator[Advance]:
    """Show a bar whose remaining time follows the rate of the run; yield what advances it."""
    text = TextColumn("{task.description}", table_column=Column(ratio=1))
    columns = (text, BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, expand=True) as progress:
        task = progress.add_task("searching", total=expected.seconds)

        def advance(text: str, objects: Sequence[Archived] = (), /) -> None:
            progress.update(task, description=escape(text), advance=sum(map(expected.seconds_of, objects)))

        yield advance


def _list(what: str, listed: Listed) -> None:
    for place in listed.places:
        print_error(what, place)
    if more := listed.count - len(listed.places):
        print_error(what, f"and {more} more")


def _snapshots(client: bigquery.Client, settings: Settings) -> list[dict[str, object]]:
    """Return the snapshots of tables, which are read-only."""
    from sluice.snapshots import Snapshots

    return [
        {"snapshot": snapshot.snapshot, "expires_at": snapshot.expires_at}
        for snapshot in Snapshots(client, settings).taken()
    ]


def _show(erased: Erased, snapshots: list[dict[str, object]], *, dry_run: bool, as_csv: bool) -> None:
    rows: list[tuple[str, object]] = [(f"rows of {name}", count) for name, count in sorted(erased.rows.items())]
    rows += [
        ("events in the archive", erased.envelopes),
        ("objects rewritten", erased.objects_rewritten),
        ("objects deleted", erased.objects_deleted),
        ("of all rows and events: not JSON", erased.unparsed),
    ]
    if erased.messages is not None:
        rows.append(("undeliverable messages", erased.messages))
    rows += [
        ("not erased: uncertain", erased.doubtful.count),
        ("not erased: unreadable", erased.unreadable.count),
        ("objects read", erased.objects_read),
        ("objects that an earlier run has read", erased.objects_skipped),
        ("MB read", f"{erased.bytes_read / 1e6:.1f}"),
    ]
    print_rows(("what", "would_be_erased" if dry_run else "erased"), rows, as_csv=as_csv)
    out = console if as_csv else Console()
    for uri, count in sorted(erased.objects.items()):
        out.print(Text(f"{count} {'event' if count == 1 else 'events'} of {uri}"), soft_wrap=True)
    topic = (
        "and the topic"
        if erased.messages is not None
        else "the topic, and the dead-letter subscription (--undeliverable)"
    )
    console.print(
        "Not searched: BigQuery's time travel (7 days) and fail-safe (7 more days), soft-deleted objects of the bucket,"
        f" copies in other regions until their next refresh, exports, {topic}. An event that is"
        " delivered again restores the data of the person.",
        soft_wrap=True,
    )
    for snapshot in snapshots:
        expires = snapshot["expires_at"]
        until = f"{expires:%Y-%m-%d}" if isinstance(expires, datetime) else "it is deleted"
        console.print(f"Snapshot {snapshot['snapshot']} is unchanged and is kept until {until}.")
