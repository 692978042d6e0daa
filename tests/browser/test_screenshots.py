"""The pictures of the documentation: `UPDATE_DOCS=1` takes them anew, of generated events."""

import io
import os
import pathlib
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import Console, Visitor
from tests.support.waiting import wait_until

pytestmark = pytest.mark.check

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "console.md"
IMAGES = PAGE.parent / "images"
MAX_BYTES = 60_000
_COLORS = 48

VIEWS = {
    "live": "/live",
    "events": "/events?verdict=bad&limit=14",
    "event": "/event?id={bad}",
    "failures": "/failures",
    "contracts": "/contract?type=order",
    "warehouse": "/warehouse",
    "query": "/query?name=user_funnel&run=1",
    "try": "/try",
    "break": "/break",
    "health": "/health",
}
"""Address of the page of each picture. `{bad}` is the id of a dead letter."""


@pytest.mark.skipif("UPDATE_DOCS" not in os.environ, reason="takes pictures with UPDATE_DOCS=1 only")
def test_pictures_are_taken(console: Console, tab: Visitor) -> None:
    console.sluice("generate", "--rate", "20", "--bad-share", "0.05", "--limit", "2400")
    wait_until(lambda: console.json("/events.json?verdict=bad")["events"], "a dead letter is there", pause=0.5)
    bad = next(
        event["event_id"]
        for event in console.json("/events.json?verdict=bad&limit=100")["events"]
        if event["stage"] == "contract"
    )
    tab.page.set_viewport_size({"width": 1_000, "height": 700})
    page = tab.visit("/health")
    page.get_by_role("button", name="Compare the last two hours now").click()
    for name, path in VIEWS.items():
        tab.visit(path.format(bad=bad))
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        page.wait_for_timeout(2_000)  # Charts and answers of forms are no elements that could be awaited.
        (IMAGES / f"console-{name}.png").write_bytes(_small(page.screenshot()))


def _small(png: bytes) -> bytes:
    """Return a picture with few colors, also the rare ones of lines."""
    answer = io.BytesIO()
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(_COLORS, Image.Quantize.MAXCOVERAGE)
    image.save(answer, "PNG", optimize=True)
    return answer.getvalue()


def test_pictures_are_small_and_all_shown() -> None:
    shown = re.findall(r"images/console-(\w+)\.png", PAGE.read_text())
    assert sorted(shown) == sorted(VIEWS)
    assert {path.name for path in IMAGES.iterdir()} == {f"console-{name}.png" for name in VIEWS}
    assert {path.name: path.stat().st_size for path in IMAGES.iterdir() if path.stat().st_size > MAX_BYTES} == {}
