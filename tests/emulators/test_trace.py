"""`sluice trace` shows everything about an event, on the emulators."""

import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from functions.core.message import SMOKE_TEST_ATTRIBUTE, Message
from functions.core.pipeline import EventPipeline
from functions.drain.drain import DrainReport
from functions.drain.ledger import Ledger, Pause, StoredLedger
from functions.drain.loads import Loads
from sluice.local.stack import Emulators
from sluice.trace import Trace, trace
from tests.support import command_line, samples
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.drained import Drained, drained
from tests.support.waiting import PATIENCE, wait_until

SLUICE = pathlib.Path(sys.executable).with_name("sluice")
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    """Shared: each test has events of its own."""
    with fresh_datasets(running_emulators, views=True) as fresh:
        yield fresh


def message(event_id: str, payload: bytes | None = None, **changes: Any) -> Message:
    event = samples.event("order", **{"order_date": NOW.isoformat(), **changes})
    data = json.dumps(event).encode() if payload is None else payload
    return Message(data, {"event_id": event_id, "producer": "shop"}, f"m-{event_id}", NOW)


def look(datasets: Datasets, event_id: str, **day: Any) -> Trace:
    return trace(event_id, datasets.client, datasets.storage, datasets.settings, **day)


def sluice(datasets: Datasets, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command_line.sluice(["trace", *arguments], {**datasets.environment, "COLUMNS": "80"})


def test_an_event_leads_to_its_row_and_its_raw_bytes(datasets: Datasets) -> None:
    sent = message("plain", gift=True)
    datasets.stream([sent, message("neighbour")], NOW)
    trace = look(datasets, "plain")
    [row], [archived] = trace.rows, trace.objects
    assert (row.table, row.day, row.message_id) == (f"{datasets.settings.dataset}.orders", NOW.date(), "m-plain")
    assert (row.publish_time, row.processed_at, row.schema_version, row.code_version) == (NOW, NOW, "1", "tests")
    assert (row.archive_uri, archived.problem) == (archived.uri, None)
    [envelope] = archived.envelopes
    assert envelope.message() == sent
    assert not trace.dead_letters


def test_duplicate_shown_by_the_views_is_named(datasets: Datasets) -> None:
    yesterday, age = NOW - timedelta(days=1), timedelta(days=89)
    sent = message("twice", order_date=(NOW - age).isoformat())
    datasets.stream([sent], yesterday)
    [uri] = [row.archive_uri for row in look(datasets, "twice").rows]
    again = EventPipeline.from_settings(datasets.settings)(sent, NOW).record(uri)  # later than insertIds are remembered
    assert datasets.client.insert_rows_json(f"{datasets.settings.dataset}.orders", [again], row_ids=[None]) == []
    tomorrow = NOW + timedelta(days=1)
    datasets.backfill(f"gs://{datasets.settings.archive_bucket}/raw/", now=tomorrow)
    trace = look(datasets, "twice")
    live, historical = datasets.settings.dataset, datasets.settings.historical_dataset
    shown = {(row.table, row.processed_at): row.shown_by for row in trace.rows}
    assert shown == {
        (f"{live}.orders", yesterday): [],
        (f"{live}.orders", NOW): [f"{live}.orders_deduplicated"],
        (f"{historical}.orders", tomorrow): [f"{live}.orders_all"],
    }
    for view in ("deduplicated", "all"):
        name = f"{live}.orders_{view}"
        query = f"SELECT processed_timestamp FROM `{name}` WHERE ingest.event_id = 'twice'"
        [row] = datasets.client.query_and_wait(query)
        assert [at for (_, at), views in shown.items() if name in views] == [row.processed_timestamp]


def test_a_long_event_id_hides_neither_itself_nor_others(datasets: Datasets) -> None:
    event_ids = ["before", "\N{GRINNING FACE}" * 128, "later"]
    for event_id in event_ids:  # by requests of their own: what the local BigQuery keeps for each broke this once
        datasets.stream([message(event_id)], NOW)
    assert [len(look(datasets, event_id).rows) for event_id in event_ids] == [1, 1, 1]


def test_a_dead_letter_says_why_and_an_object_that_is_gone_is_said(datasets: Datasets) -> None:
    datasets.stream([message("bad", status="lost")], NOW)
    trace = look(datasets, "bad")
    [letter] = trace.dead_letters
    assert (letter.stage, letter.errors[0]["path"], letter.errors[0]["rule"]) == ("contract", "$.status", "enum")
    assert letter.fingerprint
    [archived] = trace.objects
    datasets.storage.bucket(datasets.settings.archive_bucket).blob(archived.uri.split("/", 3)[3]).delete()
    trace = look(datasets, "bad")
    assert trace.is_found
    [archived] = trace.objects
    assert (archived.envelopes, archived.problem) == (
        (),
        "the object does not exist: it was deleted by its lifecycle or manually",
    )


def test_archived_event_without_a_row_is_traced_by_its_day(datasets: Datasets) -> None:
    archive = datasets.archive()
    outcome = EventPipeline.from_settings(datasets.settings)(message("never inserted"), NOW)
    archive.write(archive.name(NOW), [outcome], 10)
    assert not look(datasets, "never inserted").is_found
    assert not look(datasets, "never inserted", day=NOW.date() - timedelta(days=1)).is_found
    [archived] = look(datasets, "never inserted", day=NOW.date()).objects
    assert [envelope.message_id for envelope in archived.envelopes] == ["m-never inserted"]
    without = sluice(datasets, "never inserted")
    assert (without.returncode, without.stdout) == (1, "")
    assert "--date" in without.stderr
    done = sluice(datasets, "never inserted", "--date", f"{NOW:%Y-%m-%d}")
    assert done.returncode == 0, done.stderr
    assert "m-never inserted" in done.stdout
    nowhere = sluice(datasets, "nobody", "--date", f"{NOW:%Y-%m-%d}", "--json")
    assert nowhere.returncode == 1
    nothing = {name: list[Any]() for name in ("rows", "dead_letters", "pending", "replays", "objects", "problems")}
    assert json.loads(nowhere.stdout) == {"event_id": "nobody", "is_smoke_test": False, **nothing}


@pytest.fixture
def batch(running_emulators: Emulators) -> Iterator[Drained]:
    with drained(running_emulators) as opened:
        yield opened


def test_event_of_batch_mode_waits_for_its_load_job(batch: Drained, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = message("good"), message("bad", status="lost")
    for sent in (good, bad):
        batch.publish_data(sent.data, sent.attributes["event_id"])
    run = batch.new()
    run.pull(DrainReport(), run.system.monotonic() + PATIENCE)
    for sent, table in ((good, "orders"), (bad, "dead_letters")):
        trace = look(batch.datasets, sent.attributes["event_id"])
        [record], [archived] = trace.pending, trace.objects
        assert (record.table, record.job_id) == (f"{batch.settings.dataset}.{table}", None)
        assert (record.archive_uri, archived.envelopes[0].message().data) == (archived.uri, sent.data)
        assert (trace.rows, trace.dead_letters) == ([], [])
    later = NOW + timedelta(hours=1)
    ledger = StoredLedger(batch.datasets.storage.bucket(batch.settings.archive_bucket), PATIENCE)
    ledger.replace(Ledger(pauses={"dead_letters": Pause(1, later)}), 0)
    with monkeypatch.context() as patch:
        patch.setattr(Loads, "_start", lambda *_: None)
        run.loads.advance()
    paused = f"  in no load job yet; earlier attempts have failed, the next is after {later:%H:%M:%S} UTC\n"
    assert paused in sluice(batch.datasets, "bad").stdout
    shown, done = sluice(batch.datasets, "good"), sluice(batch.datasets, "good", "--json")
    [pending] = json.loads(done.stdout)["pending"]
    assert f"archived, waits to be loaded into {pending['table']}" in shown.stdout
    assert f"  load job {pending['job_id']}\n  {pending['load_uri']}\n" in shown.stdout
    run.loads.advance()
    wait_until(lambda: look(batch.datasets, "good").rows, "the job is done", pause=0.1)
    assert any("/orders/" in name for name in batch.load_objects()), "the next run deletes the file"
    assert look(batch.datasets, "good").pending == []


def test_a_load_file_that_cannot_be_read_is_named(batch: Drained) -> None:
    batch.datasets.storage.bucket(batch.settings.archive_bucket).blob(
        "load/orders/20260101T000000.000000Z-x-1.ndjson.gz"
    ).upload_from_string(b"damaged")
    nowhere = sluice(batch.datasets, "nobody")
    assert nowhere.returncode == 1
    assert "Not searched: gs://" in nowhere.stderr
    assert "-x-1.ndjson.gz: the load file cannot be read: Not a gzipped file" in nowhere.stderr


def test_event_of_the_smoke_test_is_marked(datasets: Datasets) -> None:
    run = f"smoke-{'0' * 32}"
    sent = message(f"{run}-order")
    sent.attributes[SMOKE_TEST_ATTRIBUTE] = run
    datasets.stream([sent], NOW)
    assert "an event of the smoke test" in sluice(datasets, f"{run}-order").stdout
    assert "reserved for `sluice smoke`" in sluice(datasets, f"{run}-inventory").stderr


def test_replays_of_an_event_are_listed_in_order(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    datasets.stream([message("back", status="lost")], NOW)
    repair = tmp_path / "repair.py"
    repair.write_text("def transform(payload, attributes):\n    return payload.replace(b'\"lost\"', b'\"pending\"')\n")
    for options in ((), ("--transform", str(repair))):
        replayed = command_line.sluice(["dead-letters", "replay", "--since", "1h", *options], datasets.environment)
        assert replayed.returncode == 0, replayed.stderr
    trace = look(datasets, "back")
    [letter], [row] = trace.dead_letters, trace.rows
    first, second = trace.replays
    assert (first["outcome"], first["new_fingerprint"]) == ("dead_letter", letter.fingerprint)
    assert (second["outcome"], second["table_name"], second["archive_uri"]) == ("row", row.table, row.archive_uri)
    shown = sluice(datasets, "back").stdout
    lines = pairwise(shown.splitlines())
    outcomes = [line.strip().partition(", with ")[0] for head, line in lines if head.startswith("replayed ")]
    assert outcomes == ["a dead letter with the same cause", f"a row of {row.table}"]
    assert "  message m-back, from the dead letters, by code " in shown
    assert [replay["source"] for replay in json.loads(sluice(datasets, "back", "--json").stdout)["replays"]] == [
        "dead_letter",
        "dead_letter",
    ]


PAYLOADS = {
    "JSON": (json.dumps(samples.event("order")).encode(), "payload", samples.event("order")),
    "text": (b'{"event_type": \x1b[2J', "payload_text", '{"event_type": \x1b[2J'),
    "bytes": (b"\xff\x00", "payload_base64", "/wA="),
}


@pytest.mark.check
@pytest.mark.parametrize("form", PAYLOADS)
def test_the_command_shows_any_payload_and_obeys_none(datasets: Datasets, form: str) -> None:
    payload, name, expected = PAYLOADS[form]
    event_id = f"payload [bold]{form}"
    datasets.stream([message(event_id, payload)], NOW)
    shown = sluice(datasets, event_id)
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout
    assert "producer: shop" in shown.stdout
    text = {"JSON": '  "order_id": "o-1",', "text": '{"event_type": \\x1b[2J', "bytes": "base64: /wA="}[form]
    assert text in shown.stdout
    [envelope] = json.loads(sluice(datasets, event_id, "--json").stdout)["objects"][0]["envelopes"]
    assert envelope[name] == expected
    assert envelope["attributes"] == {"event_id": event_id, "producer": "shop"}
