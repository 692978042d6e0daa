"""Schema evolution: the live tables follow their DDL while events keep coming."""

import contextlib
import json
import pathlib
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from functions.clients import bigquery_client
from functions.schema.ddl import declared_table
from functions.sql import render
from sluice.local.functions import Function, serving, unpacked
from sluice.local.stack import Stack
from tests.support.deployed_stack import Deploy, Warehouse
from tests.support.push_requests import event, wrapped
from tests.support.waiting import PATIENCE, wait_until

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def own_stack(deploy: Deploy) -> Iterator[Stack]:
    with deploy(f"evolve_{uuid.uuid4().hex[:8]}") as running:
        yield running


class Release:
    """A copy of the product with changed files, and its functions."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = unpacked(folder)

    def change(self, path: str, *changes: tuple[str, str]) -> None:
        file = self.folder / path
        text = file.read_text()
        for before, after in changes:
            assert before in text
            text = text.replace(before, after, 1)
        file.write_text(text)

    def serve(self, target: str, environment: dict[str, str]) -> contextlib.AbstractContextManager[Function]:
        return serving(target, self.folder.parent, environment, f"new-{target}", code=self.folder)


@pytest.fixture
def release(tmp_path: pathlib.Path) -> Release:
    return Release(tmp_path / "release")


def environment(stack: Stack, **settings: str) -> dict[str, str]:
    chosen = stack.settings
    return {
        **stack.environment,
        "ARCHIVE_BUCKET": chosen.archive_bucket,
        "DATASET": chosen.dataset,
        "HISTORICAL_DATASET": chosen.historical_dataset,
        **settings,
    }


def steps(answer: httpx.Response) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in answer.json()["objects"] if step["change"] != "unchanged"}


ADDITIVE = [
    ("  item_count INT64", '  gift_note STRING OPTIONS (description = "What the card says"),\n  item_count INT64'),
    (
        '    price NUMERIC NOT NULL OPTIONS (description = "Price of one unit")',
        '    price NUMERIC OPTIONS (description = "Net price of one unit"),\n    color STRING',
    ),
    ("    country STRING NOT NULL", "    country STRING"),
    ('("table_type", "orders")', '("table_type", "orders"), ("owner", "sales")'),
]


def test_additive_changes_are_made_in_place_while_events_keep_coming(own_stack: Stack, release: Release) -> None:
    stack = own_stack
    warehouse = Warehouse(stack)
    dataset = stack.settings.dataset
    release.change("sql/schema/orders.sql", *ADDITIVE)
    ids: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            event_id = str(uuid.uuid4())
            body = wrapped(event("order"), event_id)
            while httpx.post(stack.ingest.url, json=body, timeout=PATIENCE).status_code != 204:
                time.sleep(0.1)
            ids.append(event_id)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        wait_until(lambda: len(ids) >= 5, "events are sent")
        with release.serve("bootstrap", environment(stack, RETENTION_DAYS="120")) as bootstrap:
            planned = steps(httpx.get(bootstrap.url, timeout=PATIENCE))
            altered = httpx.post(bootstrap.url, timeout=PATIENCE)
            again = httpx.post(bootstrap.url, timeout=PATIENCE)
        sent = len(ids)
        wait_until(lambda: len(ids) >= sent + 5, "more events are sent")
    finally:
        stop.set()
        sender.join()
    diff = [
        "~ items.price NOT NULL -> NULLABLE",
        '~ items.price description "Price of one unit" -> "Net price of one unit"',
        "+ items.color STRING",
        "~ shipping_address.country NOT NULL -> NULLABLE",
        "+ gift_note STRING",
        '+ label owner "sales"',
        "~ partition expiration 90 days -> 120 days",
    ]
    assert (planned[f"{dataset}.orders"]["change"], planned[f"{dataset}.orders"]["diff"]) == ("alter", diff)
    done = steps(altered)
    assert (altered.status_code, done[f"{dataset}.orders"]["diff"]) == (200, diff)
    assert {step["change"] for step in done.values()} == {"altered", "replaced"}
    assert steps(again) == {}
    table = warehouse.client.get_table(f"{dataset}.orders")
    declared = {field.name: field for field in declared_table(_ddl(release)).schema}
    assert {field.name: field for field in table.schema} == declared
    assert table.labels["owner"] == "sales"
    [counted] = warehouse.query("SELECT COUNT(DISTINCT ingest.event_id) AS n FROM `{dataset}.orders`")
    assert counted.n == len(ids)
    [row] = warehouse.query("SELECT gift_note, items[0].color AS color FROM `{dataset}.orders_deduplicated` LIMIT 1")
    assert (row.gift_note, row.color) == (None, None)


def _ddl(release: Release) -> str:
    text = (release.folder / "sql" / "schema" / "orders.sql").read_text()
    return render(text, project="p", dataset="d", environment="dev", retention_days=120)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("total_amount NUMERIC", "total_amount STRING"), "~ total_amount NUMERIC NOT NULL -> STRING NOT NULL"),
        (("  item_count INT64", "  units INT64"), "- item_count INT64"),
        (("PARTITION BY event_date", "PARTITION BY DATE(order_date)"), "~ partitioning DAY of event_date"),
    ],
)
def test_change_that_is_not_additive_is_rejected_before_any_change(
    stack: Stack, release: Release, change: tuple[str, str], message: str
) -> None:
    warehouse = Warehouse(stack)
    dataset = stack.settings.dataset
    release.change("sql/schema/orders.sql", change)
    release.change("sql/schema/inventory.sql", ("  extras JSON", "  note STRING,\n  extras JSON"))
    before = [table.full_table_id for table in warehouse.client.list_tables(dataset)]
    with release.serve("bootstrap", environment(stack)) as bootstrap:
        answer = httpx.post(bootstrap.url, timeout=PATIENCE)
    assert answer.status_code == 409
    by_table = steps(answer)
    assert by_table[f"{dataset}.orders"]["change"] == "rejected"
    assert message in by_table[f"{dataset}.orders"]["error"]
    assert by_table[f"{dataset}.inventory"]["change"] == "alter"
    assert [table.full_table_id for table in warehouse.client.list_tables(dataset)] == before
    assert "note" not in {field.name for field in warehouse.client.get_table(f"{dataset}.inventory").schema}


@pytest.mark.check
def test_events_for_a_missing_column_wait_for_the_bootstrap(own_stack: Stack, release: Release) -> None:
    """The code is deployed before the bootstrap: such rows are rejected with 503, and redelivered by Pub/Sub."""
    stack = own_stack
    dataset = stack.settings.dataset
    schema = json.loads((release.folder / "jsonschemas" / "order.v1.json").read_text())
    schema["properties"]["gift_note"] = {"type": "string", "maxLength": 200}
    (release.folder / "jsonschemas" / "order.v1.json").write_text(json.dumps(schema))
    release.change("sql/schema/orders.sql", ADDITIVE[0])
    with (
        release.serve("ingest", environment(stack, FLUSH_TIMEOUT="2")) as ingest,
        release.serve("bootstrap", environment(stack)) as bootstrap,
    ):
        with_note, without = str(uuid.uuid4()), str(uuid.uuid4())
        body = wrapped(event("order", gift_note="Joyeux anniversaire"), with_note)
        assert httpx.post(ingest.url, json=wrapped(event("order"), without), timeout=PATIENCE).status_code == 204
        assert httpx.post(ingest.url, json=body, timeout=PATIENCE).status_code == 503
        assert httpx.post(bootstrap.url, timeout=PATIENCE).status_code == 200
        assert httpx.post(ingest.url, json=body, timeout=PATIENCE).status_code == 204
    client = bigquery_client(stack.settings)
    rows = client.query_and_wait(f"SELECT ingest.event_id AS id, gift_note FROM `{dataset}.orders_deduplicated`")
    assert {row.id: row.gift_note for row in rows} == {with_note: "Joyeux anniversaire", without: None}
    assert not list(client.query_and_wait(f"SELECT 1 FROM `{dataset}.dead_letters`"))
