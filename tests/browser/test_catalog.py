"""The catalogue of events in a browser."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Console, Visitor
from tests.support.samples import event
from tests.support.waiting import wait_until

pytestmark = pytest.mark.check


def test_catalogue_has_volume_fields_and_types_that_do_not_exist(console: Console, visitor: Visitor) -> None:
    before = {counted["name"]: counted["accepted"] for counted in console.json("/contracts.json")["types"]}
    console.publish(event("inventory"), {"event_type": "rocket"})
    wait_until(lambda: counts(console)["inventory"] > before["inventory"], "it is a row", console.up.tail, pause=0.2)
    wait_until(lambda: "rocket" in console.json("/contracts.json")["unknown"], "it is a dead letter", pause=0.2)
    page = visitor.visit("/contracts")
    expect(page.get_by_role("row", name="inventory")).to_contain_text(f"{counts(console)['inventory']:,}")
    visitor.check()
    page.get_by_role("link", name="inventory", exact=True).click()
    expect(page.get_by_role("row", name="$.reason")).to_contain_text("restock, sale, return, damage")
    visitor.check()
    assert console.json("/contract.json?type=inventory")["fields"][1]["column_type"] == "STRING NOT NULL"


def counts(console: Console) -> dict[str, int]:
    return {counted["name"]: counted["accepted"] for counted in console.json("/contracts.json")["types"]}
