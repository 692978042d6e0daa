"""The commands `sluice dead-letters list`, `show` and `replay`."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from functions.core.dead_letters import Stage
from functions.events import event_types
from sluice.checkout import command
from sluice.commands.command_settings import command_settings
from sluice.commands.exit_codes import ExitCode, errors_as_exit_codes
from sluice.commands.options import Csv, DryRun, EventId, Json, Rate, nearest, parse_past_time
from sluice.commands.trace import describe_replay, envelope_as_json
from sluice.dead_letters import payload_view
from sluice.formatting import print_rows, printable

if TYPE_CHECKING:
    from google.cloud import bigquery

    from functions.settings import Settings
    from sluice.dead_letters.lookup import DeadLetterDetails, DeadLetterFilter, Group
    from sluice.replay.ledger import Cause
    from sluice.replay.letters import CauseTally, Tally
    from sluice.replay.transform import Transform

app = typer.Typer(help="List, show and replay dead letters.", no_args_is_help=True)
console = Console(stderr=True, soft_wrap=True, highlight=False)

Type = Annotated[str | None, typer.Option("--type", help="Event type in the payload.")]
InStage = Annotated[Stage | None, typer.Option("--stage", help="Stage that rejected the event.")]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=parse_past_time,
        metavar="TIME",
        help="Start of the rejection times: a time, or 24h, 7d ago.",
    ),
]


def _check(client: bigquery.Client, settings: Settings, selection: DeadLetterFilter) -> None:
    """Check that there are dead letters, open or not, with each given fingerprint and type.

    Raises:
        typer.BadParameter: There is none.
    """
    from sluice.dead_letters.lookup import fingerprints, stated_types

    listed = "`sluice dead-letters list --all` lists all"
    if selection.fingerprints:
        existing = fingerprints(client, settings)
        for fingerprint in selection.fingerprints:
            if fingerprint not in existing:
                text = f"no dead letter has fingerprint {fingerprint}; {nearest(fingerprint, existing, listed)}"
                raise typer.BadParameter(text, param_hint="--fingerprint")
    if selection.event_type and selection.event_type not in event_types():
        existing = stated_types(client, settings)
        if selection.event_type not in existing:
            hint = nearest(selection.event_type, existing | event_types().keys(), listed)
            text = f"no dead letter has type {selection.event_type}; {hint}"
            raise typer.BadParameter(text, param_hint="--type")


def list_(
    event_type: Type = None,
    stage: InStage = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="Include closed dead letters.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the open dead letters by cause.

    A dead letter is open until a replay has loaded its event.

    Examples:
        sluice dead-letters list
        sluice dead-letters list --type order --since 24h --all

    Exit code 0: listed; 1: BigQuery rejected the query or did not answer; 2: an option or a setting is wrong.
    """
    settings = command_settings(archive=False)
    from functions.clients import bigquery_client
    from sluice.dead_letters.lookup import DeadLetterFilter, groups

    selection = DeadLetterFilter((), event_type, stage, since, only_open=not everything)
    client = bigquery_client(settings)
    _check(client, settings, selection)
    causes = groups(client, settings, selection)
    if as_json:
        print(msgspec.json.encode(causes).decode())  # noqa: T201
        return
    if causes or as_csv:
        _show_groups(causes, everything=everything, as_csv=as_csv)
    if not causes:
        console.print("There are no dead letters." if everything else "There are no open dead letters.")
        return
    console.print(
        "\nDetails of an event, and the test of a replay:\n"
        f"  {command()} dead-letters show EVENT_ID\n"
        f"  {command()} dead-letters replay --fingerprint FINGERPRINT --dry-run"
    )


def _show_groups(causes: Sequence[Group], *, everything: bool, as_csv: bool) -> None:
    counts = ("open", "all") if everything else ("open",)
    names = (*counts, *_CAUSE, "message", "first_seen_at", "last_seen_at", "fingerprint", "example")
    rows = [
        (
            *((group.open_events, group.events) if everything else (group.open_events,)),
            *_cells(group),
            group.message,
            group.first_seen_at,
            group.last_seen_at,
            group.fingerprint,
            group.example_event_id,
        )
        for group in causes
    ]
    print_rows(names, rows, as_csv=as_csv)


_CAUSE = ("stage", "type", "place", "rule")


def _cells(cause: Cause | Group) -> tuple[object, ...]:
    return cause.stage, cause.event_type or "(no type)", cause.place, cause.rule


def show(
    event_id: EventId,
    as_json: Json = False,
) -> None:
    """Show the dead letters of an event, with each error marked in the payload.

    Examples:
        sluice dead-letters show EVENT_ID
        sluice dead-letters show EVENT_ID --json

    Exit code 0: the event has dead letters; 1: it has none, or the search failed; 2: a setting is wrong.
    """
    settings = command_settings(archive=False)
    from functions.clients import bigquery_client, storage_client
    from sluice.dead_letters.lookup import dead_letters_of

    with console.status("searching"):
        letters = dead_letters_of(event_id, bigquery_client(settings), storage_client(settings), settings)
    if as_json:
        print(msgspec.json.encode([_as_json(letter) for letter in letters]).decode())  # noqa: T201
    else:
        for number, letter in enumerate(letters):
            for line in ("",) * bool(number) + (*_describe(letter),):
                Console().print(line, soft_wrap=True, highlight=False, markup=False)
    if not letters:
        console.print(
            f"The event {printable(event_id)} has no dead letters. sluice trace searches tables and archive.",
            markup=False,
        )
        raise typer.Exit(ExitCode.FAILED)


def _as_json(letter: DeadLetterDetails) -> dict[str, Any]:
    """Return the columns of a dead letter, with attributes and payload as JSON if they are valid JSON."""
    record = {name: value for name, value in letter.record.items() if name != "payload"}
    record["attributes"] = msgspec.Raw((letter.record["attributes"] or "{}").encode())
    more: dict[str, Any] = {"is_open": letter.is_open, "replays": letter.replays, "problem": letter.problem}
    if letter.message:
        envelope = envelope_as_json(letter.message)
        more |= {name: envelope[name] for name in envelope if name.startswith("payload")}
    return record | more


def _describe(letter: DeadLetterDetails) -> Iterator[Text | str]:
    record, errors = letter.record, letter.record["errors"]
    state = "open" if letter.is_open else "closed"
    yield Text(f"dead letter, {state}: stage {record['stage']}, fingerprint {record['fingerprint']}", "bold red")
    version = f", version {record['schema_version']}" if record["schema_version"] else ""
    yield printable(f"  event type {record['event_type'] or '(none)'}{version}")
    yield printable(f"  rejected {record['failed_at'].isoformat()} by code {record['code_version']}")
    attempt = f", delivery {record['delivery_attempt']}" if record["delivery_attempt"] else ""
    yield printable(f"  message {record['message_id']}, published {record['publish_time'].isoformat()}{attempt}")
    yield f"  {record['archive_uri']}"
    for replay in letter.replays:
        yield from (printable(f"  {line}") for line in describe_replay(replay))
    yield Text("attributes", "bold")
    for name, value in msgspec.json.decode(record["attributes"] or "{}").items():
        yield printable(f"  {name}: {value}")
        yield from (
            payload_view.note(f"{error['rule']}: {error['message']}")
            for error in errors
            if error["path"] == f"attributes.{name}"
        )
    yield Text(f"payload, {record['payload_bytes']} bytes", "bold")
    if letter.message is None:
        yield Text(printable(f"  {letter.problem}"), "red")
        yield from (payload_view.note(f"{error['path']}  {error['rule']}: {error['message']}") for error in errors)
        return
    yield from payload_view.styled(letter.message.data, errors)


def replay(
    fingerprint: Annotated[
        list[str] | None, typer.Option("--fingerprint", help="Fingerprint of a cause; repeatable.", show_default=False)
    ] = None,
    event_type: Type = None,
    stage: InStage = None,
    since: Since = None,
    event_id: Annotated[str | None, typer.Option("--event", help="Event id.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Replay all open dead letters.")] = False,
    transform: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE.py",
            help="Python file with a function transform(payload: bytes, attributes: dict) -> bytes | None, which fixes"
            " payloads. None skips the event.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Process open dead letters again with the current code and contracts, and load the events that pass.

    An event that is too old for the live dataset goes into the historical one. An event that is rejected again stays a
    dead letter. Each event is loaded once, however often it is replayed. The table `replays` records each replay.

    Examples:
        sluice dead-letters replay --fingerprint 4c1f0a9be2d37a55 --dry-run
        sluice dead-letters replay --type order --since 24h
        sluice dead-letters replay --all --transform fix.py

    Exit code 0: all were processed, whether they passed or not; 1: some could not be read, transformed or loaded; 2: an
    option, the transform or a setting is wrong; 130: interrupted.
    """
    if not (everything or fingerprint or event_type or stage or since or event_id):
        raise typer.BadParameter(
            "select dead letters with --fingerprint, --type, --stage, --since or --event, or use --all",
            param_hint="--all",
        )
    fix = _load(transform) if transform else None
    started, settings, now = time.monotonic(), command_settings(), datetime.now(UTC)
    from sluice.backfill.builder import BackfillBuilder
    from sluice.commands import progress
    from sluice.dead_letters.lookup import DeadLetterFilter
    from sluice.replay.letters import letters_replay

    builder = BackfillBuilder.connect(settings, now, dry_run=dry_run)
    selection = DeadLetterFilter(fingerprint or (), event_type, stage, since, event_id=event_id)
    _check(builder.client, settings, selection)
    letters, backfill = letters_replay(builder, selection, fix, rate)
    report = progress.run(backfill, letters, letters.total, of_events=True)
    done = progress.FinishedBackfill(report, letters.total, time.monotonic() - started, dry_run)
    if as_json:
        done.print_json(**letters.tally.as_json())
    else:
        _show_tally(letters.tally, dry_run=dry_run, as_csv=as_csv)
    done.end()


def _load(file: pathlib.Path) -> Transform:
    from sluice.replay.transform import NoTransform, Transform

    try:
        return Transform.load(file)
    except NoTransform as error:
        raise typer.BadParameter(str(error), param_hint="--transform") from error


def _show_tally(tally: Tally, *, dry_run: bool, as_csv: bool) -> None:
    events = tally.count("events")
    if not events:
        console.print("No open dead letter matches.")
        return
    for change in () if as_csv else sorted(tally.changes):
        Console().print(Text(f"event {printable(change.event_id)}", "bold"), soft_wrap=True)
        for line in payload_view.diff(change.before, change.after):
            style = "green" if line.startswith("+") else "red" if line.startswith("-") else ""
            Console().print(Text(line, style), soft_wrap=True)
    passing = "would_pass" if dry_run else "passed"
    names = ["events", *_CAUSE, "fingerprint", passing, "remaining"]
    rows = [
        (
            cause_tally.events,
            *_cells(cause_tally.cause),
            cause_tally.cause.fingerprint,
            cause_tally.passing,
            "\n".join(_remaining(cause_tally)),
        )
        for cause_tally in tally.by_events()
    ]
    if not as_csv and not any(row[-1] for row in rows):
        names, rows = names[:-1], [row[:-1] for row in rows]
    print_rows(names, rows, as_csv=as_csv)
    if as_csv:
        return
    what = "would pass with the current contracts" if dry_run else "passed and are rows now"
    Console().print(f"{tally.count('passing')} of {events} {what}.", soft_wrap=True, highlight=False)
    if dry_run:
        console.print("Nothing was written.")


def _remaining(cause_tally: CauseTally) -> Iterator[str]:
    for remaining in cause_tally.still.values():
        if remaining.cause.fingerprint == cause_tally.cause.fingerprint:
            yield f"{remaining.events}: the same error, {remaining.message}"
        else:
            yield f"{remaining.events}: {', '.join(map(str, _cells(remaining.cause)))}, {remaining.message}"
    if cause_tally.left_alone:
        yield f"{cause_tally.left_alone}: skipped by the transform"
    if cause_tally.smoke_tests:
        yield f"{cause_tally.smoke_tests}: events of the smoke test, skipped"


for name, function in (("list", list_), ("show", show), ("replay", replay)):
    app.command(name)(errors_as_exit_codes()(function))
