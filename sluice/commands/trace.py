"""The command `sluice trace`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from functions.archive.envelope import Envelope
from functions.core.message import Message, is_smoke_test
from sluice.commands.command_settings import command_settings
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import EventId, Json
from sluice.formatting import printable

if TYPE_CHECKING:
    from sluice.pending_records import PendingRecord
    from sluice.trace import Trace, TracedObject, TracedRecord

console = Console(stderr=True, soft_wrap=True)


def trace(
    event_id: EventId,
    date: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="UTC day of arrival; its archive is searched if the event is in no table."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show everything about an event: rows, duplicates, dead letters, replays, archive objects and raw bytes.

    In batch mode, an event may be archived and wait for its load job.

    Examples:
        sluice trace 6f1c1a52-6a0f-4f0e-9d0b-3c8f2f0f4c11
        sluice trace EVENT_ID --date 2026-11-23 --json

    Exit code 0: the event was found; 1: it was not found, or the search failed; 2: a setting is wrong.
    """
    settings = command_settings()
    from functions.clients import bigquery_client, storage_client
    from sluice.trace import trace as find_event

    with console.status("searching"):
        event_trace = find_event(
            event_id, bigquery_client(settings), storage_client(settings), settings, date.date() if date else None
        )
    if as_json:
        print(msgspec.json.encode(_as_json(event_trace)).decode())  # noqa: T201
    else:
        _show(event_trace)
    for problem in event_trace.problems:
        print_error("Not searched:", problem)
    if not event_trace.is_found:
        if date:
            text = f"The event is neither in a table nor in the archive of {date:%Y-%m-%d}."
        else:
            text = "The event is in no table. To search the archive of a day, add --date DAY."
        console.print(text, soft_wrap=True, highlight=False)
        if is_smoke_test(event_id):
            console.print(
                "Ids of this form are reserved for `sluice smoke`, which deletes its rows. An event of a producer with"
                " such an id becomes a dead letter whose id is that of its message.",
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
    """Return a message in the format of the envelopes of `sluice trace --json`."""
    return _envelope(Envelope.from_message(message, None))


def _envelope(envelope: Envelope) -> dict[str, Any]:
    """Return an envelope whose payload is JSON if it is valid JSON, otherwise text, otherwise base64."""
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
        text = f"{len(contents)} events with different content have this id: ids must be unique (docs/producers.md)"
        lines.append(Text(text, "bold red"))
    if event_trace.is_found and is_smoke_test(event_trace.event_id):
        lines.append(
            Text("an event of the smoke test, which backfills, replays and the historical tables skip", "bold")
        )
    for row in event_trace.rows:
        lines += _describe_row(row)
    for letter in event_trace.dead_letters:
        lines += _describe_dead_letter(letter)
    for record in event_trace.pending:
        lines += _describe_pending(record)
    for replay in event_trace.replays:
        lines += _describe_replay(replay)
    for archive_object in event_trace.objects:
        lines += _describe_object(archive_object)
    for line in lines:
        Console().print(line, soft_wrap=True, highlight=False, markup=False)


def _describe_row(row: TracedRecord) -> Iterator[Text | str]:
    yield Text(f"row in {row.table} of {row.day}", "bold")
    yield from (f"  shown by {view}" for view in row.shown_by)
    if not row.shown_by:
        yield "  a duplicate, shown by no view"
    yield from _lineage(row, "processed")
    if row.content_digest:
        yield f"  content {row.content_digest}"


def _describe_dead_letter(letter: TracedRecord) -> Iterator[Text | str]:
    yield Text(f"dead letter in {letter.table}", "bold red")
    yield f"  stage {letter.stage}, fingerprint {letter.fingerprint}"
    for error in letter.errors:
        yield printable(f"  {error['path']}  {error['rule']}: {error['message']}")
    yield from _lineage(letter, "rejected")


def _describe_pending(record: PendingRecord) -> Iterator[Text | str]:
    yield Text(f"archived, waits to be loaded into {record.table}", "bold yellow")
    job = f"load job {record.job_id}" if record.job_id else "in no load job yet"
    again = "; earlier attempts have failed, the next is after "
    yield f"  {job}" + (f"{again}{record.paused_until:%H:%M:%S} UTC" if record.paused_until else "")
    yield f"  {record.load_uri}"
    yield printable(f"  message {record.message_id}, processed {record.processed_at.isoformat()}")
    yield f"  {record.archive_uri}"


def describe_replay(replay: Mapping[str, Any]) -> Iterator[str]:
    """Return lines that describe an entry of the ledger."""
    what = f"a row of {replay['table_name']}"
    if replay["outcome"] != "row":
        same = replay["new_fingerprint"] == replay["fingerprint"]
        what = "a dead letter with the same cause" if same else f"a dead letter with cause {replay['new_fingerprint']}"
    transform = f", with {replay['transform']}" if replay["transform"] else ""
    yield f"replayed {replay['replayed_at'].isoformat()} by {replay['replayed_by']}"
    yield f"  {what}{transform}"


def _describe_replay(replay: Mapping[str, Any]) -> Iterator[Text | str]:
    head, what = map(printable, describe_replay(replay))
    yield Text(head, "bold")
    yield what
    source = {
        "dead_letter": "the dead letters",
        "archive": "the archive",
        "undeliverable": "the undeliverable messages",
    }
    yield printable(
        f"  message {replay['message_id']}, from {source[replay['source']]}, by code {replay['code_version']}"
    )
    yield f"  {replay['archive_uri'] or 'the event was already present'}"


def _lineage(record: TracedRecord, done: str) -> Iterator[str]:
    yield printable(f"  message {record.message_id}, published {record.publish_time.isoformat()}")
    version = f"contract version {record.schema_version}, " if record.schema_version else ""
    yield printable(f"  {done} {record.processed_at.isoformat()}")
    yield printable(f"  by {version}code {record.code_version}")
    yield f"  {record.archive_uri}"


def _describe_object(archive_object: TracedObject) -> Iterator[Text | str]:
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
