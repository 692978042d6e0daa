"""The page of health in a browser: its answers are those of the stack."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Console, Visitor
from tests.support.samples import event
from tests.support.waiting import wait_until

pytestmark = pytest.mark.check


def test_health_says_what_runs_and_what_is_lost(console: Console, visitor: Visitor) -> None:
    before = console.json("/health.json")["events_per_day"]
    console.publish(event("order"), event("order", status="lost"))
    wait_until(
        lambda: console.json("/health.json")["events_per_day"] >= before + 2,
        "both are there",
        console.up.tail,
        pause=0.2,
    )
    page = visitor.visit("/health")
    expect(page.get_by_role("row", name="Is it running?")).to_contain_text(
        f"All {len(console.stack.processes)} processes"
    )
    expect(page.locator("#checks")).to_contain_text("Tables and views have the same columns.")
    visitor.check()
    page.get_by_role("button", name="Compare the last two hours now").click()
    archived = console.json("/health.json")["comparisons"][0]["total"]["archived"]
    expect(page.get_by_role("row", name="Is anything lost?")).to_contain_text(f"None of {archived} events is missing")
    counted = console.sluice("sql", "--csv", "--query", _RECORDS).split()
    assert counted == ["records", str(archived)]
    visitor.check()
    page.locator("#alerts").get_by_role("link", name="docs/operate.md#events-are-missing").click()
    expect(page.locator(":target")).to_have_text("Events are missing")
    visitor.check()


_RECORDS = """SELECT (SELECT COUNT(*) FROM orders) + (SELECT COUNT(*) FROM dead_letters) AS records"""


def test_health_finds_what_is_lost(console: Console, tab: Visitor) -> None:
    console.publish(event("inventory"))
    wait_until(lambda: _inventory(console) == "1", "it is a row", console.up.tail, pause=0.2)
    console.sluice("sql", "--query", "DELETE FROM inventory WHERE TRUE")
    page = tab.visit("/health")
    page.get_by_role("button", name="Compare the last two hours now").click()
    expect(page.get_by_role("row", name="Is anything lost?")).to_contain_text("1 of")
    expect(page.locator("#alerts").get_by_role("row", name="Events are missing")).to_contain_text("would ring")
    tab.check()


def _inventory(console: Console) -> str:
    return console.sluice("sql", "--csv", "--query", "SELECT COUNT(*) AS n FROM inventory").split()[1]
