"""`sluice trace`: what a person sees of it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from functions.archive.envelope import Envelope
from functions.clients import bigquery_client, storage_client
from functions.core.message import Message, is_smoke_test
from functions.settings import Settings
from sluice.commands.exit_codes import ExitCode
from sluice.formatting import printable
from sluice.trace import Trace, TracedObject, TracedRecord
from sluice.trace import trace as look_for

console = Console(stderr=True)


def trace(
    event_id: Annotated[str, typer.Argument(help="The event: its attribute event_id, or its message's id.")],
    date: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="UTC day of arrival; searched in the archive where no table knows the event."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")] = False,
) -> None:
    """Show all that is known of an event: rows, duplicates, dead letters, replays, archive objects and raw bytes.

    Exit code 0: it was found; 1: it was not, or could not be looked for; 2: a setting is wrong.
    """
    settings = Settings.from_environment()
    with console.status("looking"):
        event_trace = look_for(
            event_id, bigquery_client(settings), storage_client(settings), settings, date.date() if date else None
        )
    if as_json:
        print(msgspec.json.encode(_as_json(event_trace)).decode())  # noqa: T201
    else:
        _show(event_trace)
    if not event_trace.is_found:
        where = f"nor in the archive of {date:%Y-%m-%d}" if date else "; --date DAY searches the archive of a day"
        console.print(f"No table knows the event{' ' if date else ''}{where}.", soft_wrap=True, highlight=False)
        if is_smoke_test(event_id):
            console.print(
                "Such ids are reserved for `sluice smoke`, which deletes its rows. A producer's event with one is a"
                " dead letter with the id of its message.",
                soft_wrap=True,
                highlight=False,
            )
        raise typer.Exit(ExitCode.FAILED)


def _as_json(event_trace: Trace) -> dict[str, Any]:
    objects = [
        {
            "uri": archive_object.uri,
            "problem": archive_object.problem,
            "envelopes": [_envelope(envelope) for envelope in archive_object.envelopes],
        }
        for archive_object in event_trace.objects
    ]
    return {
        **msgspec.to_builtins(event_trace),
        "is_smoke_test": is_smoke_test(event_trace.event_id),
        "objects": objects,
    }


def envelope_as_json(message: Message) -> dict[str, Any]:
    """Return a message, as `trace` writes those of the archive."""
    return _envelope(Envelope.from_message(message, None))


def _envelope(envelope: Envelope) -> dict[str, Any]:
    """Return the message, with its payload as JSON where it is, else as text, else as base64."""
    sealed: dict[str, Any] = msgspec.to_builtins(envelope)
    payload = sealed.pop("payload", None)
    if payload is not None:
        name = "payload" if _is_json(payload) else "payload_text"
        sealed[name] = msgspec.Raw(payload.encode()) if _is_json(payload) else payload
    return sealed


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _show(event_trace: Trace) -> None:
    lines: list[Text | str] = []
    contents = {row.content_digest for row in event_trace.rows if row.content_digest}
    if len(contents) > 1:
        text = f"{len(contents)} contents under this id: a producer has given it to several events (docs/producers.md)"
        lines.append(Text(text, "bold red"))
    if event_trace.is_found and is_smoke_test(event_trace.event_id):
        lines.append(Text("an event of the smoke test, which backfills, replays and history leave out", "bold"))
    for row in event_trace.rows:
        lines += _of_row(row)
    for letter in event_trace.dead_letters:
        lines += _of_dead_letter(letter)
    for replay in event_trace.replays:
        lines += _of_replay(replay)
    for archive_object in event_trace.objects:
        lines += _of_object(archive_object)
    for line in lines:
        Console().print(line, soft_wrap=True, highlight=False, markup=False)


def _of_row(row: TracedRecord) -> Iterator[Text | str]:
    what = f"shown by {' and '.join(row.shown_by)}" if row.shown_by else "a duplicate: no view shows it"
    yield Text(f"row in {row.table} of {row.day}, {what}", "bold")
    yield from _lineage(row, "processed")
    if row.content_digest:
        yield f"  content {row.content_digest}"


def _of_dead_letter(letter: TracedRecord) -> Iterator[Text | str]:
    yield Text(f"dead letter in {letter.table}, stage {letter.stage}, fingerprint {letter.fingerprint}", "bold red")
    for error in letter.errors:
        yield printable(f"  {error['path']}  {error['rule']}: {error['message']}")
    yield from _lineage(letter, "refused")


def describe_replay(replay: Mapping[str, Any]) -> str:
    """Return a line of the ledger, in words."""
    what = f"a row of {replay['table_name']}"
    if replay["outcome"] != "row":
        same = replay["new_fingerprint"] == replay["fingerprint"]
        what = "a dead letter of the same cause" if same else f"a dead letter of {replay['new_fingerprint']}"
    transform = f" with {replay['transform']}" if replay["transform"] else ""
    return f"replayed {replay['replayed_at'].isoformat()} by {replay['replayed_by']}{transform}: {what}"


def _of_replay(replay: Mapping[str, Any]) -> Iterator[Text | str]:
    yield Text(printable(describe_replay(replay)), "bold")
    source = {"dead_letter": "the dead letters", "archive": "the archive", "undeliverable": "what Pub/Sub gave up on"}
    yield printable(
        f"  message {replay['message_id']}, from {source[replay['source']]}, by code {replay['code_version']}"
    )
    yield f"  {replay['archive_uri'] or 'the event was there before'}"


def _lineage(record: TracedRecord, done: str) -> Iterator[str]:
    yield printable(f"  message {record.message_id}, published {record.publish_time.isoformat()}")
    version = f"by contract version {record.schema_version}, " if record.schema_version else ""
    yield printable(f"  {done} {record.processed_at.isoformat()} {version}by code {record.code_version}")
    yield f"  {record.archive_uri}"


def _of_object(archive_object: TracedObject) -> Iterator[Text | str]:
    yield Text(archive_object.uri, "bold")
    if archive_object.problem:
        yield Text(f"  {archive_object.problem}", "red")
    for envelope in archive_object.envelopes:
        yield printable(f"  message {envelope.message_id}, published {envelope.publish_time.isoformat()}")
        for name, value in envelope.attributes.items():
            yield printable(f"  {name}: {value}")
        yield printable(_payload(envelope))


def _payload(envelope: Envelope) -> str:
    if envelope.payload is None:
        return f"base64: {msgspec.to_builtins(envelope.payload_base64)}"
    if _is_json(envelope.payload):
        return msgspec.json.format(envelope.payload, indent=2)
    return envelope.payload
