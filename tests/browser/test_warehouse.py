"""The pages of the warehouse and of the queries in a browser."""

import json

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Console, Visitor, texts
from tests.support.waiting import wait_until

pytestmark = pytest.mark.check

EVENTS = 300


@pytest.fixture(scope="module", autouse=True)
def events(console: Console) -> None:
    """Fill the tables."""
    file = console.project / "shop.ndjson"
    file.write_text(console.sluice("generate", "--stdout", "--limit", str(EVENTS)))
    console.sluice("publish", str(file))
    wait_until(lambda: row_count(console) == EVENTS, "all are rows", console.up.tail, pause=0.5)


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("revenue_by_day", "revenue by day"),
        ("user_funnel", "users this far by activity type; in brackets the share of the step before"),
        ("low_stock", "current stock by product id and warehouse id"),
        ("cohort_retention", "retention by cohort and months later"),
    ],
)
def test_a_chart_and_its_table_have_the_numbers_of_the_command(
    console: Console, visitor: Visitor, name: str, figure: str
) -> None:
    rows = [json.loads(line) for line in console.sluice("sql", name, "--json").splitlines()]
    assert console.json(f"/query.json?name={name}")["answer"]["rows"] == rows
    page = visitor.visit(f"/query?name={name}")
    expect(page.get_by_role("img", name=figure)).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(len(rows))
    if name == "user_funnel":
        steps = [row for row in rows if row["users_this_far"] is not None]
        shares = [f" ({row['conversion']:.1%})" if row["conversion"] is not None else "" for row in steps]
        values = [f"{row['users_this_far']}{share}" for row, share in zip(steps, shares, strict=True)]
        assert [text.split(": ", 1)[1] for text in page.locator(".chart title").all_text_contents()] == values
    visitor.check()


def test_a_parameter_out_of_range_is_named_and_can_be_corrected(tab: Visitor) -> None:
    page = tab.visit("/query?name=revenue_by_day&param.days=4000")
    expect(page.get_by_role("alert")).to_have_text("days: 4000 is out of range; allowed is 0 to 3650")
    page.get_by_label("days").fill("3")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.get_by_label("Query", exact=True)).to_contain_text("sluice sql revenue_by_day --param days=3")


def test_tables_have_the_numbers_that_sql_gives(console: Console, visitor: Visitor) -> None:
    asked = "SELECT COUNT(*) AS total, MIN(event_date) AS first_day, MAX(processed_timestamp) AS newest FROM orders"
    counted = json.loads(console.sluice("sql", "--json", "--query", asked))
    page = visitor.visit("/warehouse")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="orders", exact=True))
    expect(row).to_contain_text(str(counted["total"]))
    expect(row).to_contain_text(counted["first_day"])
    expect(row).to_contain_text(counted["newest"][:19].replace("T", " "))
    visitor.check()
    row.get_by_role("link").click()
    expect(page.get_by_role("img", name="row count by day")).to_be_visible()
    expect(page.get_by_role("row", name="order_id")).to_contain_text("The order; its events share it")
    visitor.check()
    page.get_by_role("link", name="orders_all").click()
    assert "revenue_by_day" in texts(page, ".attributes a")
    page.get_by_role("link", name="revenue_by_day").click()
    expect(page.locator("h1")).to_have_text("How much do we sell each day?")


def test_all_queries_are_listed(visitor: Visitor) -> None:
    page = visitor.visit("/queries")
    expect(page.get_by_role("row", name="user_funnel")).to_contain_text("How far do people get in the shop?")
    visitor.check()


def row_count(console: Console) -> int:
    tables = console.json("/warehouse.json")["tables"]
    return sum(table["counts"]["row_count"] for table in tables if table["counts"])
