"""The archive against the tables, on the emulators."""

import gzip
import json
import pathlib
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from google.cloud.storage import Blob
from typer.testing import CliRunner

from functions.archive import layout
from functions.archive.envelope import Envelope
from functions.core.contracts import Contracts
from functions.core.message import SMOKE_TEST_ATTRIBUTE, Message
from functions.core.pipeline import EventPipeline
from functions.core.privacy import Privacy
from functions.reconcile.findings import HourCounts, Reconciliation
from functions.reconcile.reconciler import Reconciler
from functions.reconcile.scheduled import recent_hours
from sluice.cli import app
from sluice.local.functions import serving
from sluice.local.stack import Emulators
from sluice.record_comparison import ContentComparison
from sluice.shop.generator import Scenario
from sluice.shop.timeline import history_until
from tests.support import command_line, samples
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.waiting import PATIENCE

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators) as fresh:
        yield fresh


@pytest.fixture
def bootstrapped(running_emulators: Emulators) -> Iterator[Datasets]:
    """Datasets with views, by which a repair knows what is open."""
    with fresh_datasets(running_emulators, views=True) as fresh:
        yield fresh


def order(event_id: str, age: timedelta = timedelta(), message_id: str | None = None, **changes: Any) -> Message:
    event = samples.event("order", **{"order_date": (NOW - age).isoformat(), **changes})
    return Message(json.dumps(event).encode(), {"event_id": event_id}, message_id or f"m-{event_id}", NOW)


def smoke_test() -> Message:
    run = f"smoke-{uuid.uuid4().hex}"
    sent = order(f"{run}-order")
    sent.attributes[SMOKE_TEST_ATTRIBUTE] = run
    return sent


def reconcile(datasets: Datasets, *, contents: bool = False) -> Reconciliation:
    compare = ContentComparison(Contracts.load(), Privacy.from_settings(datasets.settings)) if contents else None
    run = Reconciler(datasets.client, datasets.storage, datasets.settings, compare)
    return run(NOW - HOUR, datetime.now(UTC) + HOUR)


def delete(datasets: Datasets, table: str, condition: str) -> None:
    datasets.client.query_and_wait(f"DELETE FROM `{datasets.settings.dataset}.{table}` WHERE {condition}")


def test_archived_and_stored_events_are_counted_by_type_and_hour(datasets: Datasets) -> None:
    good = [order("a"), order("b"), order("late", timedelta(days=30))]
    bad = [order("bad", status="lost"), Message(b"{", {"event_id": "broken"}, "m-broken", NOW)]
    datasets.stream([*good, *bad], NOW)
    result = reconcile(datasets)
    hours = {hour for hour, _ in result.accounts}
    assert {hour.replace(minute=0, second=0, microsecond=0) for hour in hours} == hours
    by_type = {name: account for (_, name), account in result.accounts.items()}
    assert by_type == {
        "order": HourCounts(archived=4, matched=4, rows=3, dead_letters=1),
        "unknown": HourCounts(archived=1, matched=1, dead_letters=1),
    }
    assert result.is_complete


def test_two_contents_of_one_id_both_arrive_and_are_reported(bootstrapped: Datasets) -> None:
    states = [order("o-1", message_id=f"m-{status}", status=status) for status in ("pending", "shipped")]
    for number, message in enumerate([*states, order("b"), states[0]]):  # the last one is a redelivery
        bootstrapped.stream([message], NOW + timedelta(seconds=number % 3))
    [shown] = bootstrapped.client.query_and_wait(
        f"SELECT status FROM `{bootstrapped.settings.dataset}.orders_deduplicated` WHERE ingest.event_id = 'o-1'"
    )
    assert (bootstrapped.ids("live.orders"), shown.status) == (["b", "o-1", "o-1"], "shipped")
    result = reconcile(bootstrapped)
    assert (result.total.rows, result.total.conflicts, result.total.redelivered) == (3, 2, 1)
    assert {ref.event_id for ref in result.conflicting} == {"o-1"}
    assert result.summary()["conflicting_events"] == ["o-1", "o-1"]
    assert result.is_complete
    environment = {**bootstrapped.environment, "COLUMNS": "200"}
    for arguments, text in (
        (["reconcile", "--to", (datetime.now(UTC) + HOUR).isoformat()], "Same id, different content: o-1 (order)"),
        (["sql", "conflicting_event_ids"], "o-1"),
        (["trace", "o-1"], "2 events with different content have this id"),
    ):
        ran = CliRunner().invoke(app, arguments, env=environment)
        assert ran.exit_code == 0, ran.output
        assert text in ran.output


def test_event_without_row_and_dead_letter_is_missing_and_named(datasets: Datasets) -> None:
    datasets.stream([order("a"), order("gone"), order("gone too", timedelta(days=5)), order("bad", status="lost")], NOW)
    delete(datasets, "orders", "ingest.event_id LIKE 'gone%'")
    delete(datasets, "dead_letters", "TRUE")
    result = reconcile(datasets)
    [uri] = datasets.objects()
    assert sorted((ref.event_id, ref.event_type, ref.message_id, ref.archive_uri) for ref in result.missing) == [
        (name, "order", f"m-{name}", uri) for name in ("bad", "gone", "gone too")
    ]
    assert (result.total.archived, result.total.matched, result.total.missing) == (4, 1, 3)
    assert result.incomplete == {uri}
    assert not result.is_complete


def test_redelivered_event_with_one_row_is_not_missing(datasets: Datasets) -> None:
    first, again = order("a", message_id="m-1"), order("a", message_id="m-2")
    raw, process = datasets.archive(), EventPipeline.from_settings(datasets.settings)
    raw.write(raw.name(NOW), [process(first, NOW)], 10)
    datasets.stream([again], NOW)
    result = reconcile(datasets)
    assert result.total == HourCounts(archived=2, matched=1, redelivered=1, rows=1)
    assert result.is_complete


def test_duplicates_are_counted_in_their_hour_and_hide_nothing(datasets: Datasets) -> None:
    datasets.stream([order("a"), order("b")], NOW)
    table = f"{datasets.settings.dataset}.orders"
    datasets.client.query_and_wait(f"INSERT INTO `{table}` SELECT * FROM `{table}` WHERE ingest.event_id = 'a'")
    result = reconcile(datasets)
    assert result.total == HourCounts(archived=2, matched=2, rows=3, duplicates=1)
    assert result.is_complete


def test_deleted_rows_of_the_smoke_test_are_not_missing(datasets: Datasets) -> None:
    own = smoke_test()
    producers = order(own.event_id, message_id="m-1")
    datasets.stream([own, producers, order("smoke-alarm"), order("a")], NOW)
    [letter] = datasets.rows("live.dead_letters")
    assert (letter["event_id"], letter["errors"][0]["rule"]) == ("m-1", "reserved")
    delete(datasets, "orders", "ingest.event_id LIKE 'smoke-%'")
    delete(datasets, "dead_letters", "TRUE")
    result = reconcile(datasets)
    assert result.total == HourCounts(archived=3, matched=1, missing=2, rows=1)
    assert sorted(ref.event_id for ref in result.missing) == ["m-1", "smoke-alarm"]


def test_a_row_without_its_raw_bytes_is_extra(datasets: Datasets) -> None:
    datasets.stream([order("a")], NOW)
    datasets.stream([order("b")], NOW)
    table = f"{datasets.settings.dataset}.orders"
    first, second = sorted(datasets.objects())
    datasets.storage.bucket(datasets.settings.archive_bucket).delete_blob(first.split("/", 3)[3])
    datasets.client.query_and_wait(
        f"UPDATE `{table}` SET ingest.event_id = 'other' WHERE ingest.archive_uri = '{second}'"
    )
    result = reconcile(datasets)
    assert result.total == HourCounts(archived=1, missing=1, rows=2, extra=2)


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8bnot gzip",
        gzip.compress(b"{}\n")[:-4],
        gzip.compress(b'{"event_id":"a'),
        gzip.compress(b'{"event_id":"\xff","message_id":"m"}\n'),
    ],
    ids=["no gzip", "cut", "no JSON", "not UTF-8"],
)
@pytest.mark.parametrize("contents", [False, pytest.param(True, marks=pytest.mark.check)])
def test_unreadable_object_is_reported(datasets: Datasets, data: bytes, contents: bool) -> None:
    datasets.stream([order("a")], NOW)
    [uri] = datasets.objects()
    blob = datasets.storage.bucket(datasets.settings.archive_bucket).blob(uri.split("/", 3)[3])
    blob.upload_from_string(data)
    result = reconcile(datasets, contents=contents)
    [problem] = result.unreadable
    assert problem.startswith(f"{uri}: ")
    assert not result.is_complete


def test_object_whose_deliveries_all_have_rows_is_not_read(datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd event ids do not matter; an object whose event is dated on another day, or whose record is gone, is read."""
    odd_ids = ["é\n\t\\", "\U0001f600" * 128, "a", "a'\"`", " "]
    datasets.stream([*(order(event_id) for event_id in odd_ids), order("bad", status="lost")], NOW)
    read: list[str] = []
    download = Blob.download_as_bytes

    def remember(blob: Blob, *args: Any, **options: Any) -> bytes:
        read.append(blob.name)
        data: bytes = download(blob, *args, **options)
        return data

    monkeypatch.setattr(Blob, "download_as_bytes", remember)
    assert reconcile(datasets).total == HourCounts(archived=6, matched=6, rows=5, dead_letters=1)
    assert read == []
    datasets.stream([order("late", timedelta(days=5)), order("b")], NOW + timedelta(seconds=1))
    assert reconcile(datasets).total == HourCounts(archived=8, matched=8, rows=7, dead_letters=1)
    assert len(read) == 1
    delete(datasets, "dead_letters", "TRUE")
    assert reconcile(datasets).total == HourCounts(archived=8, matched=7, rows=7, missing=1)
    assert len(read) == 3


def test_a_row_counts_once_for_two_messages_of_its_event_in_an_object(datasets: Datasets) -> None:
    datasets.stream([order("a", timedelta(days=5)), order("a", timedelta(days=5), "m-again")], NOW)
    assert len(datasets.rows("live.orders")) == 1
    assert reconcile(datasets).total == HourCounts(archived=2, matched=2, rows=1)


def test_a_repaired_dead_letter_does_not_hide_a_row_that_is_gone(datasets: Datasets) -> None:
    """Its row names the same object: there are as many records as events."""
    datasets.stream([order("a"), order("b"), order("bad", status="lost")], NOW)
    table = f"{datasets.settings.dataset}.orders"
    for column, value in (("message_id", "m-bad"), ("event_id", "bad")):
        datasets.client.query_and_wait(f"UPDATE `{table}` SET ingest.{column} = '{value}' WHERE ingest.event_id = 'b'")
    result = reconcile(datasets)
    assert [ref.event_id for ref in result.missing] == ["b"]
    assert result.total == HourCounts(archived=3, matched=2, missing=1, rows=2, dead_letters=1)


def test_an_event_that_todays_contracts_reject_may_have_its_row(datasets: Datasets) -> None:
    """The contracts of its time accepted the row, which may be of any day."""
    datasets.stream([order("old", timedelta(days=40))], NOW)
    [uri] = datasets.objects()
    blob = datasets.storage.bucket(datasets.settings.archive_bucket).blob(uri.split("/", 3)[3])
    envelope = Envelope.from_message(order("old", timedelta(days=40), status="of old"), "order")
    blob.upload_from_string(gzip.compress(msgspec.json.encode(envelope)))
    assert reconcile(datasets).total == HourCounts(archived=1, matched=1, rows=1)


def test_rows_and_dead_letters_match_the_archived_events(datasets: Datasets) -> None:
    scenario = history_until(Scenario(3, bad_share=0.2, duplicate_share=0.1), 300, NOW)
    messages = [
        Message(generated.data, dict(generated.attributes), f"m-{number}", NOW)
        for number, generated in enumerate(scenario)
    ]
    extra = order("extra", gift={"note": 'a "b"', "n": [1, 2.5, None, 2**70]})
    datasets.stream([*messages, extra], NOW)
    result = reconcile(datasets, contents=True)
    assert result.different == []
    assert result.is_complete
    assert result.total.rows > 200
    assert result.total.dead_letters > 20


@pytest.mark.check
@pytest.mark.parametrize(
    "change",
    [
        "SET total_amount = total_amount + NUMERIC '0.000000001'",
        "SET shipping_address.city = 'elsewhere'",
        "SET order_date = TIMESTAMP_ADD(order_date, INTERVAL 1 MICROSECOND)",
    ],
)
def test_row_that_differs_from_its_archived_bytes_is_reported(datasets: Datasets, change: str) -> None:
    datasets.stream([order("a", gift=True), order("b", gift=True)], NOW)
    datasets.client.query_and_wait(f"UPDATE `{datasets.settings.dataset}.orders` {change} WHERE ingest.event_id = 'b'")
    assert reconcile(datasets).is_complete
    result = reconcile(datasets, contents=True)
    assert [ref.event_id for ref in result.different] == ["b"]
    assert result.total.different == 1
    assert not result.is_complete


@pytest.mark.parametrize("together", [True, False])
def test_event_without_a_row_is_restored_despite_a_shared_id(bootstrapped: Datasets, *, together: bool) -> None:
    """The id may be shared by an event of any type or a dead letter, in one object or several."""
    later = msgspec.structs.replace(
        order("a", message_id="m-2", total_amount=7), publish_time=NOW + timedelta(seconds=1)
    )
    stock = Message(
        json.dumps(samples.event("inventory", timestamp=NOW.isoformat())).encode(), {"event_id": "a"}, "m-3", NOW
    )
    bad = order("a", message_id="m-4", status="lost")
    messages = [order("a", message_id="m-1"), later, stock, bad, order("b")]
    for batch in [messages] if together else [[message] for message in messages]:
        bootstrapped.stream(batch, NOW)
    for table, condition in (
        ("orders", "ingest.message_id = 'm-2'"),
        ("inventory", "TRUE"),
        ("dead_letters", "TRUE"),
    ):
        delete(bootstrapped, table, condition)
    result = reconcile(bootstrapped)
    assert sorted(ref.message_id for ref in result.missing) == ["m-2", "m-3", "m-4"]
    repaired = sluice(bootstrapped, "--repair", "--json", "--to", (datetime.now(UTC)).isoformat())
    assert repaired.returncode == 0, repaired.stderr
    assert reconcile(bootstrapped).is_complete
    assert len(bootstrapped.ids("live.orders")) == 3


def test_removed_superseded_content_is_not_missing_nor_restored(bootstrapped: Datasets) -> None:
    for number, amount in enumerate((7, 9)):
        sent = msgspec.structs.replace(
            order("a", message_id=f"m-{number}", total_amount=amount), publish_time=NOW + timedelta(seconds=number)
        )
        bootstrapped.stream([sent], NOW + timedelta(seconds=number))
    settings = {**bootstrapped.environment, "COLUMNS": "200"}
    arguments = ["sql", "deduplicate_partition", "--param", "table=orders", "--param", f"day={NOW:%Y-%m-%d}"]
    assert CliRunner().invoke(app, arguments, env=settings).exit_code == 0
    assert reconcile(bootstrapped).is_complete
    bootstrapped.backfill(f"gs://{bootstrapped.settings.archive_bucket}/raw/", now=NOW + timedelta(minutes=1))
    assert [row["total_amount"] for row in bootstrapped.rows("live.orders")] == [9]


def sluice(datasets: Datasets, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**datasets.environment, "COLUMNS": "160", "FLUSH_TIMEOUT": "0.01"}
    return command_line.sluice(["reconcile", "--from", "1h", *arguments], environment)


def test_command_names_and_repairs_missing_events(bootstrapped: Datasets) -> None:
    datasets = bootstrapped
    smoke = smoke_test()
    gone = [order("gone"), order("old", timedelta(days=89)), order("bad", status="lost")]
    datasets.stream([order("a"), *gone, smoke], NOW)
    delete(datasets, "orders", "ingest.event_id != 'a'")
    delete(datasets, "dead_letters", "TRUE")
    done = sluice(datasets)
    assert done.returncode == 1
    assert "Missing: gone (order), gs://" in done.stderr
    trial = sluice(datasets, "--repair", "--dry-run")
    assert trial.returncode == 1
    assert "would be loaded: 2 rows, 1 dead letters; already present: 1" in trial.stderr
    assert datasets.ids("live.orders") == ["a"]
    repaired = sluice(datasets, "--repair", "--json")
    assert repaired.returncode == 0, repaired.stderr
    answer = json.loads(repaired.stdout)
    assert (answer["complete"], answer["total"]["missing"], answer["repair"]["unfinished"]) == (False, 3, 0)
    assert {event["event_id"] for event in answer["missing"]} == {"gone", "old", "bad"}
    assert (answer["repair"]["smoke_tests"], datasets.ids("live.orders")) == (1, ["a", "gone", "old"])
    after = sluice(datasets, "--contents", "--json", "--to", "2999-01-01")
    assert after.returncode == 0, after.stderr
    assert datetime.fromisoformat(json.loads(after.stdout)["to"]) <= datetime.now(UTC), "nothing is said of later times"
    [hour] = json.loads(after.stdout)["hours"]
    counts = ("event_type", "archived", "matched", "missing", "rows", "dead_letters", "duplicates", "different")
    assert [hour[name] for name in counts] == ["order", 4, 4, 0, 3, 1, 0, 0]
    assert len(datasets.objects()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "2026-07-02", "--to", "2026-07-01"], "is not before"),
        (["--dry-run"], "without it, nothing is written"),
        (["--from", "yesterday"], "is not a time"),
    ],
)
def test_wrong_option_is_reported(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["reconcile", *arguments], env={"ARCHIVE_BUCKET": "bucket", "COLUMNS": "300"})
    assert result.exit_code == 2
    assert message in result.output


def test_function_logs_the_fields_of_the_alerts(
    datasets: Datasets, running_emulators: Emulators, tmp_path: pathlib.Path
) -> None:
    datasets.stream([order("a")], NOW)
    [uri] = datasets.objects()
    bucket = datasets.storage.bucket(datasets.settings.archive_bucket)
    start, end = recent_hours(NOW)
    assert (end - start, NOW - end >= HOUR) == (2 * HOUR, True)
    earlier = layout.first_name_at(start + HOUR) + "-instance-00000001.ndjson.gz"
    bucket.copy_blob(bucket.blob(uri.split("/", 3)[3]), bucket, earlier)
    delete(datasets, "orders", "TRUE")
    environment = {**running_emulators.environment, **datasets.environment}
    with serving("reconcile", tmp_path, environment, "reconcile") as function:
        answer = httpx.post(function.url, timeout=PATIENCE)
        again = httpx.post(function.url, timeout=PATIENCE)
        assert httpx.get(function.url).status_code == 405
        logged = [
            json.loads(line) for line in function.child.log.read_text().splitlines() if '"reconciliation"' in line
        ]
    assert (answer.status_code, again.status_code) == (200, 200)
    [part] = answer.json()["parts"]
    assert (part["archived"], part["missing"], part["missing_events"]) == (1, 1, ["a"])
    [line] = logged
    assert line["severity"] == "ERROR"
    assert {name: line[name] for name in part} == part
    assert again.json() == {"until": part["end"], "parts": []}, "it begins where the last run ended"
    checkpoints = [json.loads(blob.download_as_bytes()) for blob in bucket.list_blobs(prefix="reconciled/")]
    assert [checkpoint["total"]["missing"] for checkpoint in checkpoints] == [0, 1]
    assert checkpoints[0]["end"] == checkpoints[1]["start"], "where the first run begins, should it fail"


def test_function_logs_the_skipped_time_after_a_long_pause(
    datasets: Datasets, running_emulators: Emulators, tmp_path: pathlib.Path
) -> None:
    bucket = datasets.storage.bucket(datasets.settings.archive_bucket)
    last = NOW.replace(minute=0, second=0, microsecond=0) - timedelta(days=10)
    before = recent_hours(datetime.now(UTC))
    bucket.blob(f"reconciled/{last:%Y%m%dT%H%M%S.%fZ}.json").upload_from_string("{}")
    environment = {**running_emulators.environment, **datasets.environment}
    with serving("reconcile", tmp_path, environment, "reconcile") as function:
        answer = httpx.post(function.url, timeout=PATIENCE)
        again = httpx.post(function.url, timeout=PATIENCE)
        logged = [json.loads(line) for line in function.child.log.read_text().splitlines() if "skips what" in line]
    parts = answer.json()["parts"]
    [line] = logged
    assert (line["severity"], line["start"], line["end"]) == ("ERROR", last.isoformat(), parts[0]["start"])
    start, end = (datetime.fromisoformat(time) for time in (parts[0]["start"], parts[-1]["end"]))
    after = recent_hours(datetime.now(UTC))
    assert (end - start, end in {before[1], after[1]}) == (timedelta(days=7), True)
    assert again.json()["parts"] == [] or before != after
