"""`sluice dead-letters`: what a person sees of it."""

import pathlib
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from functions.archive.writer import Archive
from functions.clients import bigquery_client, storage_client
from functions.core.dead_letters import Stage
from functions.ingest.http_client import storage_api
from functions.settings import Settings
from sluice.backfill.events import EventReader
from sluice.backfill.load_jobs import LoadJobs
from sluice.backfill.run import Backfill, Listener
from sluice.commands import progress
from sluice.commands.exit_codes import ExitCode, exit_code_of_errors
from sluice.commands.options import DryRun, Json, Rate, parse_past_time
from sluice.commands.replay import call_in_order
from sluice.commands.trace import describe_replay, envelope_as_json
from sluice.dead_letters import payload_view
from sluice.dead_letters.lookup import DeadLetterDetails, DeadLetterFilter, Group, dead_letters_of, groups
from sluice.formatting import printable
from sluice.replay.ledger import Cause, Ledger, ReplaySource, current_user
from sluice.replay.letters import CauseTally, Letters, RemainingError, Tally
from sluice.replay.transform import NoTransform, Transform

app = typer.Typer(help="Dead letters: look at them, and bring them back.", no_args_is_help=True)
console = Console(stderr=True, soft_wrap=True, highlight=False)

Type = Annotated[str | None, typer.Option("--type", help="Whose payload says this event type.")]
InStage = Annotated[Stage | None, typer.Option("--stage", help="What this stage refused.")]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=parse_past_time,
        metavar="TIME",
        help="Start of the rejection times: a time, or 24h, 7d ago.",
    ),
]


def list_(
    event_type: Type = None,
    stage: InStage = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that are no longer open, too.")] = False,
    as_json: Json = False,
) -> None:
    """List the open dead letters by cause: those whose events no replay has made rows of.

    Exit code 0: listed; 1: BigQuery's error; 2: an option or a setting is wrong.
    """
    settings = Settings.from_environment()
    choice = DeadLetterFilter((), event_type, stage, since, only_open=not everything)
    causes = groups(bigquery_client(settings), settings, choice)
    if as_json:
        print(msgspec.json.encode(causes).decode())  # noqa: T201
        return
    if not causes:
        console.print("There are none." if everything else "None is open.")
        return
    Console().print(_groups(causes, everything=everything))
    console.print("sluice dead-letters show EVENT_ID shows one; replay --fingerprint FINGERPRINT --dry-run tries them.")


def _groups(causes: Sequence[Group], *, everything: bool) -> Table:
    counts = ["open", "of all"] if everything else ["open"]
    table = Table(
        *(Column(name, justify="right") for name in counts),
        Column("error", overflow="fold"),
        "seen (UTC)",
        Column("fingerprint", no_wrap=True),
        Column("example", overflow="fold"),
    )
    for group in causes:
        numbers = [f"{group.open_events}", f"{group.events}"] if everything else [f"{group.open_events}"]
        seen = f"{group.first_seen_at:%m-%d %H:%M} to\n{group.last_seen_at:%m-%d %H:%M}"
        table.add_row(
            *numbers, _why(group, group.message), seen, group.fingerprint, Text(printable(group.example_event_id))
        )
    return table


def _why(cause: Cause | Group, message: str | None) -> Text:
    """Return stage and type, place and rule, and the message of the error."""
    text = Text(f"{cause.stage} {printable(cause.event_type or '(no type)')}\n", "bold")
    text.append(printable(f"{cause.place}  {cause.rule}"), "not bold")
    if message:
        text.append(printable(f"\n{message}"), "not bold dim")
    return text


def show(
    event_id: Annotated[str, typer.Argument(help="The event: its attribute event_id, or its message's id.")],
    as_json: Json = False,
) -> None:
    """Show everything about the dead letters of an event, its payload with the offending places marked.

    Exit code 0: there are some; 1: there are none, or they cannot be looked for; 2: a setting is wrong.
    """
    settings = Settings.from_environment()
    with console.status("looking"):
        letters = dead_letters_of(event_id, bigquery_client(settings), storage_client(settings), settings)
    if as_json:
        print(msgspec.json.encode([_as_json(letter) for letter in letters]).decode())  # noqa: T201
    else:
        for letter in letters:
            for line in _known(letter):
                Console().print(line, soft_wrap=True, highlight=False, markup=False)
    if not letters:
        console.print(
            f"The event {printable(event_id)} has no dead letters; sluice trace looks elsewhere.", markup=False
        )
        raise typer.Exit(ExitCode.FAILED)


def _as_json(letter: DeadLetterDetails) -> dict[str, Any]:
    """Return its columns, with attributes and payload as JSON where they are JSON."""
    record = {name: value for name, value in letter.record.items() if name != "payload"}
    record["attributes"] = msgspec.Raw((letter.record["attributes"] or "{}").encode())
    more: dict[str, Any] = {"is_open": letter.is_open, "replays": letter.replays, "problem": letter.problem}
    if letter.message:
        sealed = envelope_as_json(letter.message)
        more |= {name: sealed[name] for name in sealed if name.startswith("payload")}
    return record | more


def _known(letter: DeadLetterDetails) -> Iterator[Text | str]:
    record, errors = letter.record, letter.record["errors"]
    state = "open" if letter.is_open else "closed"
    yield Text(f"dead letter, {state}: stage {record['stage']}, fingerprint {record['fingerprint']}", "bold red")
    version = f", version {record['schema_version']}" if record["schema_version"] else ""
    yield printable(f"  event type {record['event_type'] or '(none)'}{version}")
    yield printable(f"  refused {record['failed_at'].isoformat()} by code {record['code_version']}")
    attempt = f", delivery {record['delivery_attempt']}" if record["delivery_attempt"] else ""
    yield printable(f"  message {record['message_id']}, published {record['publish_time'].isoformat()}{attempt}")
    yield f"  {record['archive_uri']}"
    for replay in letter.replays:
        yield printable(f"  {describe_replay(replay)}")
    yield Text("attributes", "bold")
    for name, value in msgspec.json.decode(record["attributes"] or "{}").items():
        yield printable(f"  {name}: {value}")
        yield from (
            _note(f"{error['rule']}: {error['message']}") for error in errors if error["path"] == f"attributes.{name}"
        )
    yield Text(f"payload, {record['payload_bytes']} bytes", "bold")
    if letter.message is None:
        yield Text(printable(f"  {letter.problem}"), "red")
        yield from (_note(f"{error['path']}  {error['rule']}: {error['message']}") for error in errors)
        return
    for line in payload_view.marked(letter.message.data, errors):
        yield Text(f"  {line.text}", "dim" if line.is_gap else "red" if line.notes else "")
        yield from (_note(note) for note in line.notes)
    yield ""


def _note(text: str) -> Text:
    mark = "  " if text.lstrip().startswith("^") else "  ^ "
    return Text(f"{mark}{printable(text)}", "bold red")


def replay(
    fingerprint: Annotated[
        list[str] | None, typer.Option("--fingerprint", help="Of this cause; once for each.", show_default=False)
    ] = None,
    event_type: Type = None,
    stage: InStage = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="All open ones.")] = False,
    transform: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE.py",
            help="A file with transform(payload: bytes, attributes: dict) -> bytes | None, which repairs"
            " payloads; None leaves an event alone.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Process open dead letters again, by today's code and contracts, and bring those that pass into their tables.

    Events that are too old for the live dataset go into the historical one. What is wrong after all stays a dead
    letter. Each event is there once, however often it is replayed; the table `replays` has what was done.

    Exit code 0: all were processed, whatever became of them; 1: some could not be read, transformed or loaded; 2: an
    option, the transform or a setting is wrong; 130: interrupted.
    """
    if not (everything or fingerprint or event_type or stage or since):
        raise typer.BadParameter("say which: --fingerprint, --type, --stage, --since; or --all", param_hint="--all")
    repair = _load(transform) if transform else None
    started, settings, now = time.monotonic(), Settings.from_environment(), datetime.now(UTC)
    client, storage = bigquery_client(settings), storage_client(settings)
    read = EventReader.from_settings(settings, now)
    jobs = LoadJobs.open(client, settings)
    letters = Letters(client, storage, settings, DeadLetterFilter(fingerprint or (), event_type, stage, since), repair)
    archive, listeners = None, list[Listener]()
    if not dry_run:
        archive = Archive(storage_api(), settings.archive_bucket, read.process.contracts.event_types)
        listeners.append(Ledger(client, jobs, settings, ReplaySource.DEAD_LETTER, now, current_user(client)))
    run = Backfill(read, jobs, archive, call_in_order([*listeners, letters.tally]), rate)
    report = progress.run(run, letters, letters.total, of_events=True)
    done = progress.Done(report, letters.total, time.monotonic() - started, dry_run)
    if as_json:
        done.print_json(**_tally_as_json(letters.tally))
    else:
        _show_tally(letters.tally, dry_run=dry_run)
    done.end()


def _load(file: pathlib.Path) -> Transform:
    try:
        return Transform.load(file)
    except NoTransform as error:
        raise typer.BadParameter(str(error), param_hint="--transform") from error


def _tally_as_json(tally: Tally) -> dict[str, Any]:
    causes = [
        {
            **cause_tally.cause._asdict(),
            "events": cause_tally.events,
            "passing": cause_tally.passing,
            "left_alone": cause_tally.left_alone,
            "smoke_tests": cause_tally.smoke_tests,
            "still": [
                {**still.cause._asdict(), "message": still.message, "events": still.events}
                for still in cause_tally.still.values()
            ],
        }
        for cause_tally in _sorted(tally)
    ]
    changes = [
        {"event_id": change.event_id, "diff": payload_view.diff(change.before, change.after)}
        for change in sorted(tally.changes)
    ]
    names = ("events", "passing", "left_alone", "smoke_tests")
    return {**{name: tally.count(name) for name in names}, "causes": causes, "changes": changes}


def _sorted(tally: Tally) -> list[CauseTally]:
    return sorted(tally.causes.values(), key=lambda cause_tally: (-cause_tally.events, cause_tally.cause.fingerprint))


def _show_tally(tally: Tally, *, dry_run: bool) -> None:
    events = tally.count("events")
    if not events:
        console.print("None of these is open.")
        return
    for change in sorted(tally.changes):
        Console().print(Text(f"event {printable(change.event_id)}", "bold"), soft_wrap=True)
        for line in payload_view.diff(change.before, change.after):
            style = "green" if line.startswith("+") else "red" if line.startswith("-") else ""
            Console().print(Text(line, style), soft_wrap=True)
    passing = "would pass" if dry_run else "passed"
    table = Table(Column("events", justify="right"), "cause", Column(passing, justify="right"), "what is still wrong")
    for cause_tally in _sorted(tally):
        still = [_still(cause_tally.cause, other) for other in cause_tally.still.values()]
        if cause_tally.left_alone:
            still.append(Text(f"{cause_tally.left_alone}: left alone"))
        if cause_tally.smoke_tests:
            still.append(Text(f"{cause_tally.smoke_tests}: of the smoke test, left out"))
        table.add_row(
            f"{cause_tally.events}",
            _why(cause_tally.cause, cause_tally.cause.fingerprint),
            f"{cause_tally.passing}",
            Text("\n").join(still),
        )
    Console().print(table)
    what = "would pass with today's contracts" if dry_run else "passed, and are rows now"
    Console().print(f"{tally.count('passing')} of {events} {what}.", soft_wrap=True, highlight=False)
    if dry_run:
        console.print("Nothing was written.")


def _still(cause: Cause, still: RemainingError) -> Text:
    if still.cause.fingerprint == cause.fingerprint:
        return Text(f"{still.events}: the same\n").append(printable(still.message), "dim")
    return Text(f"{still.events}: ").append_text(_why(still.cause, still.message))


for name, command in (("list", list_), ("show", show), ("replay", replay)):
    app.command(name)(exit_code_of_errors()(command))
