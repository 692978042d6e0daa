"""The pages of the stream in a browser: the traffic as it comes, the list of events, and one event."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Console, Visitor
from tests.support.samples import event
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.check


def test_live_page_shows_events_as_they_come(console: Console, tab: Visitor) -> None:
    page = tab.visit("/live")
    before = int(page.locator("[data-number=accepted]").inner_text().replace(",", ""))
    console.publish(*(event("order", order_id=f"live-{number}") for number in range(3)))
    expect(page.locator("[data-number=accepted]")).to_have_text(f"{before + 3:,}", timeout=PATIENCE * 1_000)
    expect(page.locator("#last tbody tr").first).to_contain_text("order")
    page.keyboard.press("p")
    expect(page.locator("#pause")).to_have_text("Go on")
    tab.check()


def test_events_are_those_of_the_tables(console: Console, visitor: Visitor) -> None:
    console.publish(event("order", order_id="accepted"), event("order", status="lost"), test_id="a test")
    address = "/events.json?test_id=a+test"
    wait_until(lambda: len(console.json(address)["events"]) >= 2, "both events are there", console.up.tail, pause=0.2)
    page = visitor.visit("/events?verdict=bad&test_id=a+test")
    expect(page.locator("#events tbody tr").first).to_contain_text("contract: enum at $.status")
    visitor.check()
    page.locator("#events tbody a").first.click()
    expect(page.locator(".payload .marked").first).to_contain_text('"status": "lost"')
    expect(page.locator("main")).to_contain_text("dead_letters")
    visitor.check()


def test_wrong_addresses_say_what_is_wrong(console: Console, tab: Visitor) -> None:
    page = tab.visit("/events?limit=0")
    expect(page.get_by_role("alert")).to_contain_text("`int` >= 1 - at `$.limit`")
    page = tab.visit("/event?id=nothing")
    expect(page.get_by_role("alert")).to_have_text("no table has an event nothing")
    assert console.json("/live.json")["rejected"] >= 0
