"""The pages of the warehouse and the queries as `sluice console` serves them: a query runs only if it is asked for."""

import asyncio
import dataclasses
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from starlette.applications import Starlette
from typer.testing import CliRunner

from functions.archive.pending import LoadFile
from functions.drain.drain import DrainReport
from functions.drain.ledger import Ledger, Pause, StoredLedger
from sluice.cli import app
from sluice.console.app import console_app
from sluice.console.sources import Sources
from sluice.local.stack import Emulators
from sluice.queries import queries
from tests.support.datasets import fresh_datasets
from tests.support.drained import drained
from tests.support.emulator_gaps import CANNOT_RUN
from tests.support.shop import Shop
from tests.support.waiting import PATIENCE

CHARTS = [query.name for query in queries().values() if query.chart and query.name not in CANNOT_RUN]


@dataclasses.dataclass(frozen=True)
class Console:
    """The console without a local stack.

    Attributes:
        app: Its application.
    """

    app: Starlette

    def get(self, path: str) -> httpx.Response:
        """Return the answer to a request."""

        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.get(path)

        return asyncio.run(answer())


@pytest.fixture(scope="module")
def console(shop: Shop) -> Console:
    """The console of the shop."""
    return Console(console_app(Sources(shop.settings, None)))


def test_a_query_runs_only_if_it_is_asked_for(console: Console) -> None:
    page = console.get("/query?name=low_stock&param.threshold=8")
    assert "The query has not run" in page.text
    assert "Price: 0 B for 0.000000 USD" in page.text
    assert console.get("/query.json?name=low_stock").json()["answer"] is None
    assert console.get("/query.json?name=low_stock&run=1").json()["answer"]["rows"]


@pytest.mark.parametrize("name", CHARTS)
def test_each_chart_is_drawn_from_the_answer_of_the_command(
    console: Console, shop: Shop, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET", shop.settings.dataset)
    monkeypatch.setenv("HISTORICAL_DATASET", shop.settings.historical_dataset)
    lines = CliRunner().invoke(app, ["sql", name, "--json"]).stdout.splitlines()
    answer = console.get(f"/query.json?name={name}&run=1").json()["answer"]
    assert answer["total"] == len(lines)
    assert answer["rows"] == [json.loads(line) for line in lines[:1_000]]
    assert ('role="img"' in console.get(f"/query?name={name}&run=1").text) == bool(lines)


@pytest.mark.parametrize(
    ("address", "status", "problem"),
    [
        ("name=revenue_by_day&param.days=-1", 400, "days: -1 is out of range; allowed is 0 to 3650"),
        ("name=revenue_by_day&param.day=1", 400, "revenue_by_day has no parameter day; it has days"),
        ("name=nothing", 404, "no query nothing; /queries lists all"),
        ("name=replace_table", 404, "query replace_table must not run alone: run `sluice restore --replace`"),
        ("name=snapshots", 404, "query snapshots is for maintenance: run `sluice sql snapshots`"),
        ("name=failed_jobs&run=1", 502, "error_result"),
    ],
)
def test_wrong_queries_say_what_is_wrong(console: Console, address: str, status: int, problem: str) -> None:
    answer = console.get(f"/query.json?{address}")
    assert answer.status_code == status
    assert problem in answer.json()["error"]
    page = console.get(f"/query?{address}")
    assert page.status_code == status
    assert ("<form" in page.text) == (status != 404)


def test_a_page_that_does_not_exist_is_named(console: Console) -> None:
    answer = console.get("/replay/run.json")
    assert (answer.status_code, answer.json()["error"]) == (
        404,
        "the console has no page /replay/run.json; /try, /break and replays exist on the local stack only",
    )
    page = console.get("/nothing")
    assert page.status_code == 404
    assert '<a href="/live">Live</a>' in page.text


def test_an_empty_list_says_whether_a_filter_is_the_reason(console: Console) -> None:
    assert "No event matches: remove a filter." in console.get("/events?limit=5&text=nothing").text
    assert "No dead letter matches: remove a filter." in console.get("/failures?offset=10000").text
    assert "remove a filter" not in console.get("/failures?state=open&stage=&type=&since=").text


def test_the_warehouse_counts_only_if_it_is_asked_for(console: Console, shop: Shop) -> None:
    tables = {table["name"]: table for table in console.get("/warehouse.json").json()["tables"]}
    assert (tables["orders"]["rows"], tables["orders"]["counts"]) == (len(shop.live["orders"]), None)
    assert "Days, newest row and duplicates need a query" in console.get("/warehouse").text
    tables = {table["name"]: table for table in console.get("/warehouse.json?run=1").json()["tables"]}
    for name, rows in shop.live.items():
        events = {(row["event_date"], row["ingest"]["event_id"]) for row in rows}
        days = sorted(row["event_date"] for row in rows)
        counts = tables[name]["counts"]
        assert (counts["row_count"], counts["duplicates"]) == (len(rows), len(rows) - len(events))
        assert (counts["first_day"], counts["last_day"]) == (days[0], days[-1])
    assert counts["duplicates"] > 0


def test_health_says_what_waits_to_be_loaded(running_emulators: Emulators) -> None:
    with fresh_datasets(running_emulators) as datasets:
        bucket = datasets.storage.bucket(datasets.settings.archive_bucket)
        file = LoadFile.new("orders", datetime.now(UTC) - timedelta(hours=26), "x", 1)
        bucket.blob(file.name).upload_from_string(b"")
        StoredLedger(bucket, 60).replace(Ledger(pauses={"orders": Pause(3, datetime.now(UTC))}), 0)
        console = Console(console_app(Sources(datasets.settings, None)))
        page, answers = console.get("/health").text, console.get("/health.json").json()["answers"]
    [waits] = [answer for answer in answers if answer["question"] == "What waits to be loaded?"]
    assert waits["state"] == "problem"
    assert waits["answer"].startswith("1 load files, the oldest of orders for 93,6")
    assert waits["answer"].endswith(" s; 3 load jobs of orders failed in a row.")
    assert "3 load jobs of orders failed in a row." in page
    assert "docs/operate.md#load-files-wait-too-long" in page


def test_an_event_that_waits_to_be_loaded_has_a_page(running_emulators: Emulators) -> None:
    with drained(running_emulators) as batch:
        batch.publish_data(b"{}", "waits")
        run = batch.new()
        run.pull(DrainReport(), run.system.monotonic() + PATIENCE)
        page = Console(console_app(Sources(batch.settings, None))).get("/event?id=waits").text
    assert f"<td>archived, waits to be loaded</td><td>{batch.settings.dataset}.dead_letters</td>" in page
    assert "/raw/dt=" in page


def test_a_table_says_what_its_columns_mean(console: Console, shop: Shop) -> None:
    historical = f"{shop.settings.historical_dataset}.orders"
    table = console.get(f"/table.json?name={historical}&run=1&days=3650").json()
    assert {"name": "order_id", "type": "STRING NOT NULL", "description": "The order; its events share it"} in table[
        "columns"
    ]
    assert (table["read_by"], table["expiration_days"]) == (["orders_all"], None)
    assert sum(day["row_count"] for day in table["counted"]["rows"]) == len(shop.historical["orders"])
    view = console.get("/table?name=stock_levels").text
    assert "Units: the sum of all changes, live and historical" in view
    assert "SELECT product_id" in view
    for name in ("nothing", "elsewhere.orders", "a.b.c", ""):
        assert console.get(f"/table.json?name={name}").status_code in {400, 404}, name
