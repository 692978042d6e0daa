"""Dates of the events of the simulated shop: in the last days up to now, or at the time of publication."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from functions.system import utc_now
from sluice.shop.generator import Generated, Scenario, simulate

_DAY = timedelta(days=1)
_PRECISE = timedelta(hours=1)
"""Maximum difference between a time of the simulated clock and the date that it becomes."""
_ROOM = 1.1
"""Factor on the pace of a scenario that fills its time: it starts slowly, before the first orders are delivered."""


def stretch_pace(scenario: Scenario, count: int, earliest: datetime, end: datetime) -> Scenario:
    """Return a scenario with more events per day if it would not fit between two times otherwise.

    Args:
        scenario: Settings of the scenario.
        count: Number of messages.
        earliest: The earliest date of an event.
        end: The latest one.
    """
    days = max((end - earliest) / _DAY, 1 / 86_400)
    needed = round(_good(scenario, count) / days * _ROOM)
    return dataclasses.replace(scenario, events_per_day=max(scenario.events_per_day, needed))


def history_until(
    scenario: Scenario, count: int, end: datetime, earliest: datetime | None = None
) -> Iterator[Generated]:
    """Yield the messages of a scenario whose last message has the time `end`.

    The same arguments give the same messages. A scenario's duration is known only at its end: it is generated in
    advance, up to three times, to find the start from which it ends at `end`, with the shop's busy hours at the right
    times of the day.

    Args:
        scenario: Settings of the scenario.
        count: Number of messages.
        end: Time of the last message, with a time zone.
        earliest: Minimum date of the events: if necessary, there are more events per day.

    Returns:
        The messages in order of time.
    """
    if earliest is not None:
        scenario = stretch_pace(scenario, count, earliest, end)
    start = end - _good(scenario, count) / scenario.events_per_day * _DAY
    last = _last_time(scenario, count, start)
    for _ in range(2):
        if abs(end - last) > _PRECISE:
            start += end - last
            last = _last_time(scenario, count, start)
    # Dates are moved by the difference that is left, and drawn together where the scenario is still too long.
    scale = 1.0 if earliest is None or last == start else min(1.0, (end - earliest) / (last - start))
    return itertools.islice(simulate(scenario, start, lambda time: end - (last - time) * scale), count)


def _good(scenario: Scenario, count: int) -> float:
    """Return the approximate number of valid messages."""
    return count * (1 - scenario.bad_share - scenario.duplicate_share)


def _last_time(scenario: Scenario, count: int, start: datetime) -> datetime:
    """Return the time of the simulated clock after a number of messages."""
    last = start

    def remember(time: datetime) -> datetime:
        nonlocal last
        last = time
        return time

    collections.deque(itertools.islice(simulate(scenario, start, remember), count), maxlen=0)
    return last


def live(scenario: Scenario, clock: Callable[[], datetime] = utc_now) -> Iterator[Generated]:
    """Yield an endless scenario in real time: an event has the time at which it is taken from the iterator.

    A consumer of `events_per_day` follows the clock's speed on average only. So the simulated clock gives the order of
    the events, and `clock` their dates.

    Args:
        scenario: Settings of the scenario.
        clock: Returns the time, with a time zone.

    Returns:
        The messages. None is dated in the future, except invalid ones that are meant to be.
    """
    return simulate(scenario, clock(), lambda _: clock())
