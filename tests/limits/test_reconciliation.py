"""Reconciliation takes memory only for the hour being compared: more hours take no more of it."""

import logging

import pytest

from tests.limits.reconciliation import Measured, measure

pytestmark = pytest.mark.check

logger = logging.getLogger(__name__)

MB = 10**6
PER_HOUR = 50_006
"""No multiple of what the stand-in repeats, as a day's 24th is none."""
PER_OBJECT = 500
"""Far more than there are, for what takes the time is their number."""


@pytest.fixture(scope="module")
def an_hour() -> Measured:
    """The memory and time that an hour takes."""
    return measure(PER_HOUR, 1, PER_OBJECT)


def test_reconciliation_of_an_hour_reports_every_missing_event(an_hour: Measured) -> None:
    assert an_hour.total.archived == PER_HOUR
    assert an_hour.total.missing == an_hour.lost > 0
    assert an_hour.total.matched == an_hour.total.rows == PER_HOUR - an_hour.lost
    assert an_hour.total.extra == an_hour.total.duplicates == 0


def test_reconciliation_of_fully_missing_hours_has_bounded_memory() -> None:
    lost = measure(PER_HOUR, 2, PER_OBJECT, one_lost_in=1)
    assert lost.total.missing == lost.total.archived == 2 * PER_HOUR
    assert lost.peak_bytes < 400 * MB


def test_runs_that_stop_in_between_add_up_to_the_whole() -> None:
    whole, parts = measure(5_000, 2, 25, one_lost_in=7), measure(5_000, 2, 25, one_lost_in=7, in_parts=True)
    assert parts.total == whole.total
    assert parts.total.missing == parts.lost
    assert parts.parts > 10


def test_another_hour_takes_no_more_memory(an_hour: Measured) -> None:
    two = measure(PER_HOUR, 2, PER_OBJECT)
    logger.info("%.0f MB for an hour, %.0f MB for two", an_hour.peak_bytes / MB, two.peak_bytes / MB)
    assert two.total.archived == 2 * PER_HOUR
    assert two.peak_bytes < an_hour.peak_bytes + 40 * MB
    assert two.peak_bytes < 300 * MB
