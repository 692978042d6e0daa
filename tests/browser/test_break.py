"""Break it: whatever is switched on or killed, nothing that was acknowledged is missing at the end."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Console, Visitor
from tests.support.waiting import wait_until

pytestmark = pytest.mark.check

SWITCHES = {
    "BigQuery down": "BigQuery is down",
    "Slow bucket": "the bucket is slow",
    "Duplicate everything": "everything is delivered twice",
}


@pytest.fixture
def page(console: Console, tab: Visitor) -> Page:
    """The page, while it publishes events."""
    page = tab.visit("/break")
    page.get_by_role("button", name="Publish 20 events a second").click()
    wait_until(
        lambda: state(console)["balance"]["acknowledged"], "an event is acknowledged", console.up.tail, pause=0.2
    )
    return page


def state(console: Console) -> Any:
    return console.json("/break.json")


def end(console: Console, page: Page) -> None:
    """End the traffic, and check that all of it has arrived."""
    page.get_by_role("button", name="Stop publishing").click()
    wait_until(lambda: not state(console)["rate"], "the page publishes nothing more", pause=1)
    wait_until(lambda: not state(console)["undelivered"], "all is acknowledged", lambda: state(console), pause=0.5)
    balance = state(console)["balance"]
    assert (balance["lost"], balance["rows"] + balance["dead_letters"]) == (0, state(console)["published"])
    expect(page.locator(".headline")).to_contain_text(re.compile(r"0 missing.*all [\d,]+ acknowledged messages"))


@pytest.mark.parametrize("switch", SWITCHES)
def test_nothing_is_missing_after_a_fault(console: Console, tab: Visitor, page: Page, switch: str) -> None:
    page.get_by_role("switch", name=switch).click()
    expect(page.locator("#counts")).to_contain_text(f"Now broken: {SWITCHES[switch]}")
    assert SWITCHES[switch] in console.sluice("status", "--data-dir", str(console.project / ".sluice"))
    before = state(console)
    if switch == "Duplicate everything":
        wait_until(
            lambda: state(console)["balance"]["repeated"] > before["balance"]["repeated"], "some came twice", pause=1
        )
    else:
        wait_until(lambda: state(console)["undelivered"] > before["undelivered"] + 100, "messages wait", pause=1)
    tab.check()
    page.get_by_role("switch", name=switch).click()
    expect(page.locator("#counts")).to_contain_text("Now broken: nothing")
    end(console, page)


def test_a_killed_function_recovers(console: Console, tab: Visitor, page: Page) -> None:
    before = state(console)
    page.get_by_role("button", name="Kill the function").click()
    wait_until(lambda: state(console)["workers"] not in ([], before["workers"]), "another process serves", pause=0.2)
    acknowledged = before["balance"]["acknowledged"]
    wait_until(lambda: state(console)["balance"]["acknowledged"] > acknowledged + 50, "it takes events", pause=0.5)
    pid = state(console)["workers"][0]
    expect(page.locator("#counts")).to_contain_text(f"process {pid} serves")
    tab.check()
    end(console, page)


def test_the_page_says_how_to_begin(visitor: Visitor) -> None:
    page = visitor.visit("/break")
    expect(page.get_by_role("switch", name="Slow bucket")).not_to_be_checked()
    visitor.check()
