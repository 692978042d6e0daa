"""The pure parts of the backfill: lines, chunks, loads, counts, load files."""

import itertools
import json
import pathlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import typer
from google.cloud.bigquery import SchemaField
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fake_google.scripted import Cloud
from functions.archive.envelope import Envelope
from functions.core.message import Message
from functions.core.rows import Row
from functions.drain.load_format import LoadFormat
from functions.files.id_fields import IdField
from functions.files.sources import Line, Unreadable
from functions.schema.ddl import declared_table
from functions.schema.definitions import Kind, definitions
from sluice.backfill.chunks import Seen, TableLoad, chunks, loads
from sluice.backfill.events import Event, EventReader, Identity
from sluice.backfill.run import BackfillReport, Fate, Settled
from sluice.cli import app
from sluice.commands.progress import FinishedBackfill
from tests.support import samples
from tests.support.settings import settings

NOW = samples.NOW
read = EventReader.from_settings(settings(), NOW)


def line(data: bytes, number: int = 1, source: str = "file") -> Line:
    return Line(source, number, data)


def order(order_id: str = "o-1", days_ago: int = 0) -> bytes:
    date = (NOW - timedelta(days=days_ago)).isoformat()
    return json.dumps(samples.event("order", order_id=order_id, order_date=date)).encode()


def test_the_content_of_a_plain_event_is_its_identity() -> None:
    here, there = read(line(order(), 1, "here")), read(line(order(), 7, "there"))
    assert here.identity == there.identity != read(line(order("o-2"), 8, "there")).identity
    assert here.outcome.message.message_id == here.identity.event_id
    assert here.outcome.message.publish_time - NOW == timedelta(microseconds=1)


def test_equal_lines_of_two_files_have_the_same_identities() -> None:
    """Key order and white space make no line another one; three equal lines in the first file, two in the second."""
    spellings = [order(), json.dumps(dict(reversed(json.loads(order()).items())), indent=None).encode(), b" " + order()]
    first = [read(line(text, number, "1")).identity for number, text in enumerate(spellings)]
    second = [read(line(text, number, "2")).identity for number, text in enumerate(spellings[:2])]
    assert len(set(first)) == 3
    assert second == first[:2]


def with_id(*paths: str) -> EventReader:
    return EventReader.from_settings(settings(), NOW, 1, [IdField.parse(path) for path in paths])


def test_id_field_applies_to_plain_events_and_not_to_envelopes() -> None:
    event = with_id("$.order_id")(line(order("o-1")))
    assert (event.identity.event_id, event.outcome.message.attributes) == (
        "o-1",
        {"schema_version": "1", "event_id": "o-1"},
    )
    sealed = msgspec.json.encode(Envelope.from_message(Message(order("o-1"), {"event_id": "e"}, "m", NOW), "order"))
    assert with_id("$.order_id")(line(sealed)).identity.event_id == "e"
    bad = with_id("$.order_id")(line(b"bad"))
    assert (bad.identity.event_id, bad.table) == (
        read(line(b"bad", source="x")).identity.event_id,
        "dev_events_dataset.dead_letters",
    )


def test_same_id_with_another_content_is_not_a_repetition() -> None:
    identify, seen = with_id("$.order_id"), Seen()
    states = [json.dumps(json.loads(order()) | {"status": status}).encode() for status in ("pending", "shipped")]
    new = [seen.new(identify(line(text))) for text in (*states, *states)]
    assert [event and bool(event.identity.message_id) for event in new] == [False, True, None, None]


@pytest.mark.parametrize("attributes", [{}, {"event_id": "another"}])
def test_the_event_id_of_an_envelope_counts(attributes: dict[str, str]) -> None:
    sealed = msgspec.to_builtins(Envelope.from_message(Message(order(), attributes, "m", NOW), "order"))
    event = read(line(json.dumps(sealed | {"event_id": "own"}).encode()))
    assert (event.identity.event_id, event.outcome.message.message_id) == ("own", "m")


def test_an_envelope_is_its_message() -> None:
    message = Message(order(), {"event_id": "e", "a": "b"}, "m", NOW - timedelta(days=400), ordering_key="k")
    sealed = msgspec.json.encode(Envelope.from_message(message, "order"))
    event = read(line(sealed))
    assert (event.outcome.message, event.archive_uri) == (message, None)
    of_archive = "gs://archive/raw/dt=2026-11-23/hr=12/x.ndjson.gz"
    assert read(line(sealed, source=of_archive)).archive_uri == of_archive
    assert read(line(sealed, source="gs://archive/exports/x")).archive_uri is None
    assert read(line(order(), source=of_archive)).archive_uri is None


@pytest.mark.parametrize(
    "changes",
    [
        {"publish_time": "2026-11-23"},
        {"publish_time": "2026-11-23T00:00:00"},
        {"publish_time": "0001-01-01T00:00:00+05:00"},  # which is in the year 0, in UTC
        {"publish_time": "9999-12-31T23:59:59-05:00"},
        {"payload": None},
        {"event_id": 1},
    ],
)
def test_malformed_envelope_is_a_plain_event(changes: dict[str, Any]) -> None:
    sealed = msgspec.to_builtins(Envelope.from_message(Message(order(), {}, "m", NOW), "order"))
    data = json.dumps(sealed | changes).encode()
    assert read(line(data)).outcome.message.data == data


def test_a_schema_version_is_for_events_without_envelope_only() -> None:
    of_version = EventReader.from_settings(settings(), NOW, 99)
    assert of_version(line(order())).outcome.message.attributes == {"schema_version": "99"}
    sealed = msgspec.json.encode(Envelope.from_message(Message(order(), {"event_id": "e"}, "m", NOW), "order"))
    assert of_version(line(sealed)).table == "dev_events_dataset.orders"


@pytest.mark.parametrize(
    ("days_ago", "table"),
    [
        (0, "dev_events_dataset.orders"),
        (89, "dev_events_dataset.orders"),
        (90, "historical_dataset.orders"),
        (9_999, "historical_dataset.orders"),
        (10_000, "dev_events_dataset.dead_letters"),
        (-2, "dev_events_dataset.dead_letters"),
    ],
)
def test_the_date_decides_where_an_event_belongs(days_ago: int, table: str) -> None:
    assert read(line(order(days_ago=days_ago))).table == table


numbered = st.lists(st.binary(min_size=1, max_size=40)).map(
    lambda texts: [line(text, number) for number, text in enumerate(texts)]
)


@given(numbered, st.integers(1, 5), st.integers(1, 100))
def test_chunks_are_all_lines_in_order_within_the_limits(lines: list[Line], max_lines: int, max_bytes: int) -> None:
    planned = list(chunks(lines, max_lines, max_bytes))
    assert [element for chunk in planned for element in chunk] == lines
    for chunk, following in itertools.pairwise(planned):
        size = sum(len(element.data) for element in chunk)
        assert len(chunk) == max_lines or size + len(following[0].data) > max_bytes
    for chunk in planned:
        assert 1 <= len(chunk) <= max_lines
        assert len(chunk) == 1 or sum(len(element.data) for element in chunk) <= max_bytes


ROW = read(line(order())).outcome
BAD = read(line(b"bad")).outcome


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Rows and dead letters of a few tables, days and fingerprints, each once."""
    keys = draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 9)), unique=True))
    return [
        Event(line(b"x", number), BAD if table == "c" else ROW, table, Identity(f"e-{event_id}", f"day-{day}"), None)
        for number, (table, event_id, day) in enumerate(keys)
    ]


@given(events(), st.integers(1, 5))
def test_each_event_is_in_one_load_within_the_limit_of_days(events: list[Event], max_days: int) -> None:
    planned = loads(events, max_days)
    assert sorted(event for load in planned for event in load.events) == sorted(events)
    for load in planned:
        assert load.events
        assert {event.table for event in load.events} == {load.table}
        assert [event.line.number for event in load.events] == sorted(event.line.number for event in load.events)
        assert (
            not isinstance(load.events[0].outcome, Row)
            or len({event.identity.kind for event in load.events}) <= max_days
        )


@given(st.lists(st.tuples(events(), st.booleans())), st.data())
def test_the_counts_add_up_to_the_lines(batches: Sequence[tuple[list[Event], bool]], data: st.DataObject) -> None:
    seen, report = Seen(), BackfillReport()
    for batch, fails in batches:
        new = [event for event in batch if seen.new(event)]
        report.events += len(new)
        report.repeated += len(batch) - len(new)
        for load in loads(new):
            if not fails:
                fates = st.sampled_from([Fate.LOADED, Fate.PRESENT])
                report.count([Settled(event, data.draw(fates), None) for event in load.events])
    met = {(event.table, event.identity) for batch, _ in batches for event in batch}
    assert report.lines - report.repeated == len(met)
    counted = (report.rows, report.dead_letters, report.rows_present, report.dead_letters_present)
    assert sum(counter.total() for counter in counted) + report.unfinished == len(met)
    assert report.unfinished >= 0
    if not any(fails for _, fails in batches):
        assert report.unfinished == 0
    assert report.rows.keys() | report.rows_present.keys() <= {"a", "b"}


def test_a_load_says_which_lines_it_has() -> None:
    read_events = [read(line(order(name), number, "orders.ndjson")) for number, name in ((3, "a"), (9, "b"))]
    assert (
        str(TableLoad("live.orders", read_events)) == "live.orders, from orders.ndjson line 3 to orders.ndjson line 9"
    )


def test_a_dry_run_does_without_bigquery(cloud: Cloud, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ARCHIVE_BUCKET": "archive", "GOOGLE_CLOUD_PROJECT": "project"}.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "events"
    past = order().replace(NOW.date().isoformat().encode(), b"2001-02-03").replace(b"24.98", b"0.12345678912")
    file.write_bytes(past + b"\n{bad\n{bad\n")
    again = tmp_path / "rotated"
    again.write_bytes(b"{bad\n{bad\n{bad\n")
    ran = CliRunner().invoke(app, ["backfill", str(file), str(again), "--dry-run", "--json"])
    assert ran.exit_code == 0, ran.output
    assert "Cannot find out which events BigQuery already has" in ran.stderr
    report = json.loads(ran.stdout)
    assert (report["lines"], report["repeated"], report["dead_letters"]) == (6, 2, {"decode": 3})
    assert report["rows"] == {"historical_dataset.orders": 1}
    assert "Numbers rounded to the nine decimals of NUMERIC: 1." in ran.stderr
    wet = CliRunner().invoke(app, ["backfill", str(file)])
    assert (wet.exit_code, wet.stdout) == (1, "")
    assert "Failed: notFound" in wet.stderr
    assert cloud.calls == []


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("interrupted", [False, True])
def test_end_says_of_written_events_what_is_true(
    capsys: pytest.CaptureFixture[str], *, dry_run: bool, interrupted: bool
) -> None:
    report = BackfillReport(failures=[Unreadable("file: damaged")], interrupted=interrupted, complete_to="file line 7")
    with pytest.raises(typer.Exit) as ended:
        FinishedBackfill(report, 1, 1.0, dry_run).end()
    said = " ".join(capsys.readouterr().err.split())
    assert ended.value.exit_code == (130 if interrupted else 1)
    assert ("loaded" in said) == (not dry_run), said
    assert ("Nothing was written." in said) == (dry_run and interrupted)


def json_field(name: str, mode: str = "NULLABLE") -> SchemaField:
    return SchemaField(name, "JSON", mode)


def test_json_is_embedded_wherever_the_schema_has_it() -> None:
    schema = [
        json_field("plain"),
        json_field("list", "REPEATED"),
        SchemaField("struct", "RECORD", fields=[json_field("inner"), SchemaField("text", "STRING")]),
        SchemaField("structs", "RECORD", "REPEATED", fields=[json_field("inner")]),
        SchemaField("text", "STRING"),
    ]
    text = '{"a": [1, 2.50, "\\u00fc"]}'
    record = {
        "plain": text,
        "list": [text, "1"],
        "struct": {"inner": text, "text": text},
        "structs": [{"inner": text}, {"inner": None}, {}],
        "text": text,
    }
    value = json.loads(text)
    [loaded] = LoadFormat(schema)([record]).splitlines()
    assert json.loads(loaded) == {
        "plain": value,
        "list": [value, 1],
        "struct": {"inner": value, "text": text},
        "structs": [{"inner": value}, {"inner": None}, {}],
        "text": text,
    }
    assert b"2.50" in loaded
    assert json.loads(LoadFormat(schema)([{"plain": None, "struct": None}])) == {"plain": None, "struct": None}


def test_a_load_file_has_one_line_for_each_record_of_every_table() -> None:
    bad = read(line(b"ba\xffd")).outcome.record("gs://a/b")
    schemas = {
        definition.name: declared_table(definition.ddl).schema
        for definition in definitions("project", settings())
        if definition.kind is Kind.TABLE
    }
    [letter] = LoadFormat(schemas["dev_events_dataset.dead_letters"])([bad]).splitlines()
    assert json.loads(letter) == {**bad, "attributes": {}}
    event = json.dumps(samples.event("order", gift={"wrapped": True})).encode()
    row = read(line(event)).outcome.record("gs://a/b")
    lines = LoadFormat(schemas["historical_dataset.orders"])([row, row]).splitlines()
    assert [json.loads(text) for text in lines] == [{**row, "extras": {"gift": {"wrapped": True}}}] * 2
    assert datetime.fromisoformat(row["ingest"]["publish_time"]).tzinfo == UTC
