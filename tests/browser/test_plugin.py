"""The plugin for tests of producers: a rejected event fails the test with place, rule and reason."""

import pathlib
import re

import pytest

from tests.browser.conftest import Console

pytestmark = pytest.mark.check

pytest_plugins = ["pytester"]

ROOT = pathlib.Path(__file__).parents[2]

TESTS = """
import pytest
from tests.support.samples import event

def test_accepted(sluice):
    sluice.publish(event("order", order_id="A-1"))
    row = sluice.events.good("order", test_id=sluice.test_id, order_id="A-1")
    assert (row.payload["order_id"], row.attributes["test_id"]) == ("A-1", sluice.test_id)

def test_rejected(sluice):
    sluice.publish(event("order", order_id="A-2", status="lost"))
    assert "lost" in sluice.events.bad("order", path="$.status", rule="enum").reason

def test_mistake(sluice):
    sluice.publish(event("order", order_id="A-3", status="lost"))
    sluice.events.good("order", order_id="A-3")

def test_nothing(sluice):
    sluice.events.good("order", timeout=0.1)

def test_other_fields(sluice):
    sluice.publish(event("order", order_id="A-4"))
    sluice.events.good("order", timeout=3, order_id="A-5")

def test_clear(sluice):
    sluice.clear()
    assert sluice.events.all() == []
"""


def test_rejected_events_fail_a_test_with_the_reason(
    pytester: pytest.Pytester, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_DATA_DIR", str(console.project / ".sluice"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(TESTS)
    done = pytester.runpytest_subprocess("-p", "no:xdist", "-p", "no:randomly")
    done.assert_outcomes(passed=3, failed=3)
    printed = " ".join(done.stdout.str().split())
    assert re.search(
        r"no good event order order_id='A-3'. Processed since the test began: order \S+: it was rejected:"
        r' contract: \$.status: enum: "lost" is not one of .* http://127.0.0.1:\d+/event\?id=\S+',
        printed,
    )
    done.stdout.fnmatch_lines(["no good event order: nothing was processed within 0.1 s. *"])
    done.stdout.fnmatch_lines(["  order *: order_id is 'A-4', not 'A-5'"])
