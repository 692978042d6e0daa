"""The writer of batches: what becomes of a batch when services or the code fail, and what its report says."""

from collections.abc import Callable
from typing import Any

import pytest

from fake_google.answers import Answer, error, insert_errors
from fake_google.scripted import Cloud
from functions.archive.writer import Archive
from functions.core.decode import decode
from functions.core.message import Message
from functions.ingest.batch_writer import BatchWriter, NotDurable
from functions.ingest.flush_report import FlushReport
from functions.ingest.http_client import ApiError, bigquery_api, storage_api
from functions.ingest.retry import RetryBudget
from functions.ingest.warehouse import Warehouse
from tests.support.samples import NOW, event, message, process
from tests.support.waiting import PATIENCE

ORDER = message(event("order"), event_id="order")
INVENTORY = message(event("inventory"), event_id="inventory")
BAD = message(b"{", event_id="bad")


class Writer:
    """A writer against the cloud, and its reports."""

    def __init__(self) -> None:
        self.reports: list[FlushReport] = []
        archive = Archive(storage_api(), "archive", {"order", "inventory", "user_activity"})
        warehouse = Warehouse(bigquery_api(), "project", "dataset")
        self._writer = BatchWriter(process, archive, warehouse, PATIENCE, self.reports.append)

    def __call__(self, *messages: Message) -> FlushReport:
        return self._writer.write(messages, NOW)


@pytest.fixture
def write(cloud: Cloud) -> Writer:
    assert not cloud.calls
    return Writer()


@pytest.fixture
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryBudget, "take", lambda *_, **__: False)


def reject(table: str, answer: Answer) -> Callable[[str, object], Answer]:
    return lambda name, _: answer if name == table else (200, {})


def test_a_batch_is_archived_first_and_dead_letters_come_last(cloud: Cloud, write: Writer) -> None:
    report = write(BAD, ORDER, INVENTORY)
    assert cloud.calls == ["upload", "insert dead_letters", "insert orders", "insert inventory"]
    [(name, archived)] = cloud.objects.items()
    assert [line["event_id"] for line in archived] == ["bad", "order", "inventory"]
    assert {row["ingest"]["archive_uri"] for row in cloud.rows("orders")} == {f"gs://archive/{name}"}
    assert (report.rows, report.dead_letters) == ({"orders": 1, "inventory": 1}, {"decode": 1})
    assert (report.events, report.durable, report.failed, report.errors) == (3, 3, 0, [])
    assert write.reports == [report]


def test_a_row_that_bigquery_rejects_is_a_dead_letter(cloud: Cloud, write: Writer) -> None:
    second = message(event("order", order_id="o-2"), event_id="second")
    cloud.on_insert = reject("orders", insert_errors((1, "invalid")))
    report = write(ORDER, second, INVENTORY)
    assert [row["ingest"]["event_id"] for row in cloud.rows("orders")] == ["order"]
    [letter] = cloud.rows("dead_letters")
    assert (letter["event_id"], letter["stage"], letter["errors"][0]["path"]) == (
        "second",
        "warehouse",
        "$.total_amount",
    )
    assert (report.rows, report.dead_letters) == ({"orders": 1, "inventory": 1}, {"warehouse": 1})
    assert cloud.calls[-1] == "insert dead_letters"


def fail_to_decode(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the code have a defect that one event meets."""

    def broken(data: bytes) -> dict[str, Any]:
        if data == BAD.data:
            raise error
        return decode(data)

    monkeypatch.setattr("functions.core.pipeline.decode", broken)


def test_an_unforeseen_error_of_an_event_is_a_dead_letter(
    cloud: Cloud, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error on Dataflow fails the batch, which is retried without end."""
    fail_to_decode(monkeypatch, ZeroDivisionError("quotes the payload"))
    report = write(ORDER, BAD)
    assert (report.rows, report.dead_letters, len(cloud.objects)) == ({"orders": 1}, {"enrich": 1}, 1)
    [[error]] = [letter["errors"] for letter in cloud.rows("dead_letters")]
    assert error["rule"] == "ZeroDivisionError"
    assert "test_batch.py" in error["message"]
    assert "quotes" not in error["message"]


def test_a_lack_of_memory_is_no_fault_of_an_event(cloud: Cloud, write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_decode(monkeypatch, MemoryError())
    with pytest.raises(MemoryError):
        write(ORDER, BAD)
    assert not cloud.calls
    assert write.reports[0].failed == 2


def test_a_batch_that_is_not_archived_has_no_rows(cloud: Cloud, write: Writer) -> None:
    cloud.on_upload = lambda _: error(403, "forbidden")
    with pytest.raises(ApiError, match="403 forbidden"):
        write(ORDER, INVENTORY)
    assert cloud.calls == ["upload"]
    [report] = write.reports
    assert (report.durable, report.failed, report.errors) == (0, 2, ["Forbidden: 403 forbidden"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (error(404, "notFound"), "NotFound: 404 notFound"),
        (insert_errors((1, "stopped")), "1 of 2 rows: inventory: stopped"),
    ],
)
@pytest.mark.usefixtures("no_retries")
def test_a_table_that_fails_fails_the_batch(cloud: Cloud, write: Writer, answer: Answer, reason: str) -> None:
    """The report has the durable events; a retried batch has the same insert ids and another object."""
    second = message(event("inventory", inventory_id="i-2"), event_id="second")
    cloud.on_insert = reject("inventory", answer)
    with pytest.raises((ApiError, NotDurable)):
        write(ORDER, INVENTORY, second)
    [failed] = write.reports
    assert (failed.rows["orders"], failed.errors) == (1, [reason])
    assert failed.durable + failed.failed == failed.events == 3
    cloud.on_insert = reject("", answer)
    report = write(ORDER, INVENTORY, second)
    assert (report.durable, report.failed, len(cloud.objects)) == (3, 0, 2)
    ids = [row["insertId"] for table, rows in cloud.inserts if table == "orders" for row in rows]
    assert (len(ids), len(set(ids))) == (2, 1)


@pytest.mark.parametrize(
    ("table", "answer"),
    [
        ("orders", (200, {"insertErrors": [{"index": 0, "errors": [{"message": "no such field: extras."}]}]})),
        ("dead_letters", insert_errors((0, "invalid"))),
    ],
)
def test_a_table_behind_the_code_makes_no_dead_letter(cloud: Cloud, write: Writer, table: str, answer: Answer) -> None:
    cloud.on_insert = reject(table, answer)
    with pytest.raises(NotDurable, match=table):
        write(ORDER, BAD)
    assert write.reports[0].failed >= 1


@pytest.mark.usefixtures("no_retries")
def test_a_report_says_that_a_service_was_overloaded(cloud: Cloud, write: Writer) -> None:
    cloud.on_insert = reject("orders", error(503, "backendError"))
    with pytest.raises(ApiError):
        write(ORDER)
    cloud.on_insert = reject("orders", error(403, "accessDenied"))
    with pytest.raises(ApiError):
        write(ORDER)
    assert [report.overloaded for report in write.reports] == [True, False]
