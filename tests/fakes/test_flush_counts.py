"""The report of a flush counts each event once, whatever the services answer. Both writers have the same report."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fake_google.answers import Answer, error, insert_errors
from fake_google.scripted import Cloud
from functions.archive.writer import Archive
from functions.core.dead_letters import Stage, Violation
from functions.core.message import Message
from functions.ingest.batch_writer import BatchWriter, NotDurable, dead_letter_of
from functions.ingest.flush_report import FlushReport
from functions.ingest.group_commit import GroupCommit
from functions.ingest.http_client import bigquery_api, storage_api
from functions.ingest.retry import RetryBudget
from functions.ingest.scheduler import MAX_FLUSHES
from functions.ingest.warehouse import Warehouse
from tests.support.samples import NOW, event, message, process
from tests.support.waiting import PATIENCE, wait_until

EVENTS = [
    message(event("order", note="unknown", total_amount=0.12345678912), event_id="order-1"),
    message(event("order", note="unknown"), event_id="order-2"),
    message(event("inventory", note="unknown"), event_id="inventory"),
    message(b"{", event_id="bad"),
]
BYTES = sum(event.size for event in EVENTS)


def flush(commit: GroupCommit, caplog: pytest.LogCaptureFixture) -> tuple[dict[str, Any], list[object]]:
    """Return the fields of the log line of a flush of `EVENTS`, and the result of each event."""

    async def all_at_once() -> list[object]:
        return await asyncio.gather(*(commit(event) for event in EVENTS), return_exceptions=True)

    caplog.set_level(logging.INFO, "functions")
    results = asyncio.run(all_at_once())
    [line] = [record.__dict__["fields"] for record in caplog.records if record.message == "flush"]
    return line, results


def write(reports: list[FlushReport]) -> FlushReport:
    """Write `EVENTS` as a batch; the report is in the list even if that fails."""
    archive = Archive(storage_api(), "archive", {"order", "inventory", "user_activity"})
    warehouse = Warehouse(bigquery_api(), "project", "dataset")
    return BatchWriter(process, archive, warehouse, PATIENCE, reports.append).write(EVENTS, NOW)


def only(table: str, answer: Answer) -> Callable[[str, object], Answer]:
    return lambda name, _: answer if name == table else (200, {})


@pytest.fixture
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryBudget, "take", lambda *_, **__: False)


def test_all_counts_of_a_flush_add_up(
    cloud: Cloud, group_commit: Callable[..., GroupCommit], caplog: pytest.LogCaptureFixture
) -> None:
    cloud.on_insert = only("orders", insert_errors((1, "invalid")))
    commit = group_commit()
    line, results = flush(commit, caplog)
    assert results == [None] * 4
    assert (line["events"], line["message_bytes"]) == (4, BYTES)
    assert (line["rows"], line["dead_letters"]) == ({"orders": 1, "inventory": 1}, {"decode": 1, "warehouse": 1})
    assert line["rounded_numbers"] == 1
    assert (line["unknown_fields"], line["failed"], line["errors"], line["overloaded"]) == (2, 0, [], False)
    assert (commit.admission.events, commit.admission.size) == (0, 0)


@pytest.mark.usefixtures("no_retries")
def test_events_of_a_failing_table_are_counted_as_failed(
    cloud: Cloud, group_commit: Callable[..., GroupCommit], caplog: pytest.LogCaptureFixture
) -> None:
    cloud.on_insert = only("orders", error(503, "backendError"))
    commit = group_commit()
    line, results = flush(commit, caplog)
    assert [type(result) for result in results] == [NotDurable, NotDurable, type(None), type(None)]
    assert str(results[0]) == str(results[1])
    assert str(results[0]).startswith("orders: ")
    assert (line["rows"], line["dead_letters"], line["failed"]) == ({"inventory": 1}, {"decode": 1}, 2)
    assert line["errors"] == [str(results[0])]
    assert line["overloaded"]
    assert (commit.admission.events, commit.admission.size) == (0, 0)


@pytest.mark.usefixtures("no_retries")
@pytest.mark.parametrize("later", [(200, {}), error(404, "notFound")], ids=["success", "failure"])
def test_one_overloaded_table_makes_an_overloaded_flush(
    cloud: Cloud, group_commit: Callable[..., GroupCommit], caplog: pytest.LogCaptureFixture, later: Answer
) -> None:
    """The flush stays overloaded whatever other tables answer after that, and fewer flushes run at once."""
    commit = group_commit()

    def insert(table: str, _: object) -> Answer:
        if table == "orders":
            return error(503, "backendError")
        wait_until(lambda: commit.admission.events <= 2, "the orders have failed")
        return later

    cloud.on_insert = insert
    line, _ = flush(commit, caplog)
    assert line["overloaded"]
    assert commit._scheduler._max_flushes < MAX_FLUSHES


@pytest.mark.usefixtures("no_retries")
def test_rows_that_may_be_retried_fail_with_their_reason(
    cloud: Cloud, group_commit: Callable[..., GroupCommit], caplog: pytest.LogCaptureFixture
) -> None:
    cloud.on_insert = only("orders", insert_errors((0, "backendError")))
    line, results = flush(group_commit(), caplog)
    assert [type(result) for result in results] == [NotDurable, type(None), type(None), type(None)]
    assert line["errors"] == [str(results[0])]
    assert (line["failed"], line["rows"]) == (1, {"orders": 1, "inventory": 1})


def test_dead_letters_that_bigquery_rejects_fail(
    cloud: Cloud, group_commit: Callable[..., GroupCommit], caplog: pytest.LogCaptureFixture
) -> None:
    cloud.on_insert = only("dead_letters", insert_errors((0, "invalid")))
    line, results = flush(group_commit(), caplog)
    assert [type(result) for result in results] == [type(None)] * 3 + [NotDurable]
    assert line["errors"] == [str(results[3])] == ["dead_letters rejected a row: $.total_amount invalid"]


def test_the_batch_writer_has_the_same_counts(cloud: Cloud) -> None:
    cloud.on_insert = only("orders", insert_errors((1, "invalid")))
    reports: list[FlushReport] = []
    report = write(reports)
    assert reports == [report]
    assert (report.events, report.message_bytes) == (4, BYTES)
    assert (report.rows, report.dead_letters) == ({"orders": 1, "inventory": 1}, {"decode": 1, "warehouse": 1})
    assert report.rounded_numbers == 1
    assert (report.unknown_fields, report.failed, report.errors, report.overloaded) == (2, 0, [], False)
    [warehouse] = [row for row in cloud.rows("dead_letters") if row["stage"] == "warehouse"]
    assert warehouse["failed_at"] == "2026-11-23T12:00:00Z"
    ids = [row["insertId"] for table, rows in cloud.inserts if table == "orders" for row in rows]
    assert ids == [process(EVENTS[0], NOW).insert_id]


def test_the_batch_writer_measures_milliseconds(cloud: Cloud) -> None:
    cloud.latency = 0.2
    reports: list[FlushReport] = []
    write(reports)
    [report] = reports
    assert 200 <= report.archive_ms < PATIENCE * 1000
    assert 600 <= report.insert_ms < PATIENCE * 1000
    assert report.lag_ms > report.archive_ms + report.insert_ms


@pytest.mark.usefixtures("no_retries")
def test_the_batch_writer_names_each_reason_once(cloud: Cloud) -> None:
    cloud.on_insert = only("orders", insert_errors((0, "backendError"), (1, "timeout")))
    reports: list[FlushReport] = []
    with pytest.raises(NotDurable) as raised:
        write(reports)
    [report] = reports
    assert report.errors == [str(raised.value)]
    assert str(raised.value).startswith("2 of 2 rows: ")
    assert "; " in str(raised.value)
    assert report.durable + report.failed == 4


def test_an_unforeseen_error_makes_a_dead_letter_of_its_event(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: bytes) -> dict[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setattr("functions.core.pipeline.decode", broken)
    write([])
    letters = cloud.rows("dead_letters")
    assert len(letters) == 4
    assert {(letter["failed_at"], letter["code_version"], letter["errors"][0]["path"]) for letter in letters} == {
        ("2026-11-23T12:00:00Z", "tests", "$")
    }


def test_a_rejected_dead_letter_names_all_rules() -> None:
    letter = process(Message(b"{", {}, "m-1", NOW), NOW)
    with pytest.raises(NotDurable, match=r"^dead_letters rejected a row: \$\.a invalid, \$\.b stopped$"):
        dead_letter_of(letter, [Violation("$.a", "invalid", ""), Violation("$.b", "stopped", "")], NOW)
    row = process(EVENTS[0], NOW)
    later = NOW + timedelta(hours=1)
    dead = dead_letter_of(row, [Violation("$.a", "invalid", "")], later)
    assert (dead.failed_at, dead.stage) == (later, Stage.WAREHOUSE)
