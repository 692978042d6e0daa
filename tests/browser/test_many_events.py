"""The console stays responsive with 100 000 events and 1 000 causes of dead letters.

The bounds are generous: no machine needs as long, but a page that lists everything does.
"""

import pathlib
import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Console, Visitor
from tests.support.samples import event
from tests.support.waiting import wait_until

pytestmark = pytest.mark.check

EVENTS, CAUSES = 100_000, 1_000

# Copies of one order and one dead letter, each with an id of its own, and each dead letter with a cause of its own.
FILL = f"""
INSERT INTO orders
SELECT * EXCEPT (n) REPLACE (
  CONCAT('order-', CAST(n AS STRING)) AS order_id,
  STRUCT(
    CONCAT('event-', CAST(n AS STRING)) AS event_id, ingest.message_id AS message_id,
    ingest.publish_time AS publish_time, ingest.schema_version AS schema_version, ingest.archive_uri AS archive_uri,
    ingest.code_version AS code_version, ingest.content_digest AS content_digest
  ) AS ingest
)
FROM orders, UNNEST(GENERATE_ARRAY(1, {EVENTS})) AS n;
INSERT INTO dead_letters
SELECT * EXCEPT (n) REPLACE (
  CONCAT('dead-', CAST(n AS STRING)) AS event_id, CONCAT('cause-', CAST(n AS STRING)) AS fingerprint,
  CONCAT('$.field', CAST(n AS STRING)) AS place
)
FROM dead_letters, UNNEST(GENERATE_ARRAY(1, {CAUSES})) AS n;
"""
MAX_PAINT_SECONDS = 20
MAX_ELEMENTS = 6_000
MAX_PAGE_BYTES = 500_000
MAX_GROWTH_KB = 150_000


@pytest.fixture(scope="module", autouse=True)
def _many(console: Console) -> None:
    console.publish(event("order"), event("order", status="lost"))
    wait_until(lambda: len(console.json("/events.json")["events"]) >= 2, "both are there", console.up.tail, pause=0.5)
    console.sluice("sql", "--query", FILL)


def test_pages_of_many_events_are_small_and_paint(tab: Visitor) -> None:
    for path in (
        "/live",
        "/events",
        "/failures",
        "/failure?fingerprint=cause-7",
        "/contracts",
        "/warehouse",
        "/health",
    ):
        page = tab.visit(path)
        expect(page.locator("h1")).to_be_visible()
        # The heading is in the document before the browser has painted it.
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
        painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        size = page.evaluate("performance.getEntriesByType('navigation')[0].decodedBodySize")
        elements = page.evaluate("document.querySelectorAll('*').length")
        assert painted < MAX_PAINT_SECONDS * 1_000, path
        assert 0 < size < MAX_PAGE_BYTES, path
        assert elements < MAX_ELEMENTS, path
    assert tab.complaints == []


def test_filters_find_one_among_many(console: Console, tab: Visitor) -> None:
    page = tab.visit("/events?verdict=good")
    expect(page.locator("#events tbody tr")).to_have_count(50)
    page.locator("#search").fill("event-77777")
    page.locator("#search").press("Enter")
    expect(page.locator("#events tbody tr")).to_have_count(1)
    page = tab.visit("/failures")
    expect(page.locator("[data-number=causes]")).to_have_text(f"{CAUSES + 1:,}")
    expect(page.locator("main tbody tr")).to_have_count(100)
    page.get_by_role("link", name="Next causes").click()
    expect(page.locator("main")).to_contain_text("101 to 200 of")
    assert console.json("/live.json?window=24h")["accepted"] == EVENTS + 1


def test_memory_of_the_console_is_bounded(console: Console) -> None:
    paths = ("/live.json?window=24h", "/events.json?limit=1000", "/failures.json?limit=1000", "/health.json")
    for path in paths:
        console.json(path)
    before = _resident_kb(console)
    for path in paths * 4:
        console.json(path)
    assert _resident_kb(console) - before < MAX_GROWTH_KB


def _resident_kb(console: Console) -> int:
    [pid] = [process.pid for process in console.stack.processes if process.name == "console"]
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])
