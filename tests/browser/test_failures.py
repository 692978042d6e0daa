"""The pages of failures in a browser: causes, what a rule means, dry runs, replays and repairs."""

import json
import os
import pathlib
import re
import signal
import sys
import urllib.parse
import uuid
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from sluice.local.data_folder import VARIABLE
from sluice.local.process import free_port, running
from tests.browser.conftest import Console, Visitor, texts
from tests.support.samples import event
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.check

CLIENT = {"x-sluice-client": "test"}


def query(console: Console, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a query."""
    return [json.loads(line) for line in console.sluice("sql", "--query", sql, "--json").splitlines()]


def groups(console: Console, place: str, state: str = "open") -> list[dict[str, Any]]:
    """Return the causes with errors at a place."""
    listed = console.json(f"/failures.json?state={state}")["groups"]
    return [item["group"] for item in listed if item["group"]["place"] == place]


def failing(console: Console, place: str, *events: dict[str, Any]) -> str:
    """Publish events that are rejected at a place of their own, and return the address of their cause."""
    console.publish(*events)
    wait_until(
        lambda: [group["open_events"] for group in groups(console, place)] == [len(events)],
        "the events are dead letters",
        console.up.tail,
        pause=0.5,
    )
    return "/failure?" + urllib.parse.urlencode({"fingerprint": groups(console, place)[0]["fingerprint"]})


def passing(console: Console, address: str) -> int | None:
    """Return how many events of a cause a replay would load; None while the console starts again."""
    try:
        count: int = console.json(address.replace("/failure?", "/replay.json?"))["result"]["passing"]
    except httpx.TransportError:
        return None
    return count


def test_causes_are_those_of_the_table(console: Console, visitor: Visitor) -> None:
    sql = "SELECT COUNT(DISTINCT event_id) AS n FROM dead_letters WHERE place = '$.customer_id'"
    total = query(console, sql)[0]["n"] + 2
    console.publish(*(event("order", customer_id="", order_id=f"{uuid.uuid4()}") for _ in range(2)))
    wait_until(lambda: query(console, sql)[0]["n"] == total, "both are dead letters", console.up.tail, pause=0.5)
    selection = "since=1h&type=order&stage=contract"
    listed = console.json(f"/failures.json?{selection}")["groups"]
    [item] = [item for item in listed if item["group"]["place"] == "$.customer_id"]
    assert item["group"]["open_events"] == sum(item["trend"]) == total
    assert console.json("/failures.json?since=1h&type=inventory")["groups"] == []
    page = visitor.visit(f"/failures?{selection}")
    row = page.locator("tbody tr", has_text="$.customer_id")
    expect(row).to_contain_text("minLength")
    expect(row.get_by_role("img")).to_have_accessible_name(re.compile(r"Trend: up to \d+ in 2.5 min"))
    visitor.check()
    row.locator("a").first.click()
    expect(page.locator(".payload .marked")).to_contain_text('"customer_id": ""')
    expect(page.locator("main")).to_contain_text("Correct the value, or change the bounds.")
    page.get_by_role("button", name="What would a replay do today?").click()
    expect(page.locator("#dry-run")).to_contain_text(f"0 of {total} events would pass")
    visitor.check()
    page.get_by_role("link", name="minLength").first.click()
    expect(page.locator("h1")).to_have_text("Rule minLength")
    expect(page.locator("main")).to_contain_text("is too short or too long")
    visitor.check()


def test_replay_empties_the_group_once_the_contract_is_fixed(console: Console, tab: Visitor) -> None:
    address = failing(console, "$.status", *(event("order", status="lost", order_id=f"lost-{n}") for n in range(3)))
    contract = console.project / "jsonschemas" / "order.v1.json"
    contract.write_text(contract.read_text().replace('"delivered"]', '"delivered", "lost"]'))
    wait_until(lambda: "reloaded in" in console.up.tail(), "the stack has the contract", console.up.tail, pause=0.5)
    wait_until(lambda: passing(console, address) == 3, "the console answers again", console.up.tail, pause=0.5)
    page = tab.visit(address)
    page.get_by_role("button", name="Replay 3 open events").click()
    expect(page.locator("#answer")).to_contain_text("3 of 3 events passed.")
    tab.check()
    assert groups(console, "$.status") == []
    assert query(console, "SELECT COUNT(*) AS n FROM orders WHERE status = 'lost'") == [{"n": 3}]
    page.get_by_role("link", name="The cause").click()
    expect(page.locator("[data-number=open]")).to_have_text("0")
    assert texts(page, "tbody td:nth-child(3)")[-3:] == ["closed"] * 3
    tab.check()


def test_chosen_causes_are_replayed_while_the_page_counts(console: Console, tab: Visitor) -> None:
    """Old events pass a replay. A stopped BigQuery holds it up, so that there is something to see."""
    for number in range(2):
        old = {"event": event("order", order_date="2021-06-08T12:00:00Z", order_id=f"bulk-{number}")}
        httpx.post(f"{console.url}/api/events", json=old, headers=CLIENT).raise_for_status()
    wait_until(
        lambda: [group["open_events"] for group in groups(console, "$.order_date")] == [2],
        "both are dead letters",
        console.up.tail,
        pause=0.5,
    )
    failing(console, "$.order_id", event("order", order_id=""))
    failing(console, "$.shipping_address", event("order", order_id="bulk", shipping_address=7))
    bigquery = next(process.pid for process in console.stack.processes if process.name == "bigquery")
    page = tab.visit("/failures")
    for place in ("$.order_date", "$.order_id"):
        page.locator("tbody tr", has_text=place).get_by_role("checkbox").check()
    expect(page.locator("[data-chosen]")).to_have_text("2 chosen, 3 open events")
    tab.check()
    page.get_by_role("button", name="What would a replay of the chosen causes do?").click()
    expect(page.locator("#answer")).to_contain_text("2 of 3 events would pass")
    page.go_back()
    os.kill(bigquery, signal.SIGSTOP)
    try:
        page.get_by_role("button", name="Replay the chosen causes").click()
        expect(page.get_by_role("status")).to_contain_text("A replay is running")
        page.reload()
        expect(page.get_by_role("progressbar")).to_be_visible()
        tab.check()
        answer = httpx.post(f"{console.url}/replay", json={"all": True}, headers=CLIENT)
        assert (answer.status_code, "a replay is running" in answer.text) == (400, True)
    finally:
        os.kill(bigquery, signal.SIGCONT)
    expect(page.locator("#run")).to_contain_text("3 of 3 processed, 3 written, 0 errors.")
    expect(page.locator("#answer tbody tr")).to_have_count(2)
    page.get_by_role("link", name="All failures").click()
    expect(page.locator("#failures")).to_contain_text("3 of 3 processed, 3 written, 0 errors.")
    tab.check()
    assert query(console, "SELECT COUNT(*) AS n FROM orders_all WHERE order_id LIKE 'bulk-%'") == [{"n": 2}]
    places = ("$.order_date", "$.order_id", "$.shipping_address")
    assert [sum(group["open_events"] for group in groups(console, place)) for place in places] == [0, 1, 1]


def test_a_repaired_event_becomes_a_row(console: Console, tab: Visitor) -> None:
    address = failing(console, "$.total_amount", event("order", order_id="repaired", total_amount="12"))
    page = tab.visit(address)
    payload = page.get_by_label("Payload of")
    payload.fill(payload.input_value().replace('"12"', "-1"))
    page.get_by_role("button", name="Repair and resend").click()
    expect(page.locator("#answer")).to_contain_text("0 of 1 event")
    expect(page.locator("#answer")).to_contain_text("contract, minimum at $.total_amount")
    edited = "SELECT outcome FROM replays WHERE STARTS_WITH(transform, 'console')"
    assert query(console, edited) == [{"outcome": "dead_letter"}]
    page.locator("#answer tbody a", has_text=groups(console, "$.total_amount")[0]["fingerprint"][:8]).click()
    payload.fill(payload.input_value().replace('"total_amount": -1', '"total_amount": 12'))
    page.get_by_role("button", name="Repair and resend").click()
    expect(page.locator("#answer")).to_contain_text("1 of 1 event passed.")
    tab.check()
    assert groups(console, "$.total_amount") == []
    assert query(console, "SELECT total_amount = 12 AS repaired FROM orders WHERE order_id = 'repaired'") == [
        {"repaired": True}
    ]


def test_a_deployment_only_names_the_commands(console: Console, tab: Visitor, tmp_path: pathlib.Path) -> None:
    address = failing(console, "$.items", event("order", items=[]))
    port = free_port()
    command = [sys.executable, "-m", "sluice.cli", "console", "--port", str(port)]
    environment = {**console.stack.environment, VARIABLE: str(tmp_path / "none")}
    with running("console", command, tmp_path, environment) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_until(lambda: httpx.get(f"{url}/static/icon.svg").is_success)
        tab.page.goto(f"{url}{address}")
        replay = f"sluice dead-letters replay --fingerprint {address.partition('=')[2]}"
        expect(tab.page.locator("pre", has_text=replay)).to_contain_text(f"{replay} --dry-run\n{replay}\n")
        expect(tab.page.locator("form[method=post]")).to_have_count(0)
        tab.page.get_by_role("button", name="What would a replay do today?").click()
        expect(tab.page.locator("#dry-run")).to_contain_text("0 of 1 event would pass")
        tab.check()
        answer = httpx.get(f"{url}/replay.json?all=true", timeout=PATIENCE).json()
        assert answer["command"] == "sluice dead-letters replay --all"
        assert httpx.post(f"{url}/replay", json={"all": True}, headers=CLIENT).status_code == 405
        assert httpx.get(f"{url}/replay").status_code == 400
