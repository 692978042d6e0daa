"""Limits the events in flight: to the maximum of the settings, or to fewer while the services do not keep up."""

import math
from typing import NamedTuple

from functions.settings import Settings

PROBE = 10
"""Maximum number of events in flight after a flush of which nothing became durable."""

_FAST_GROWTH_TO = 100.0
"""Minimum number of events up to which the limit doubles. At low traffic, few in flight say little of the services."""

_SHRINK = 0.75
"""Factor on the number of events in flight where the services do not keep up. Up to there the limit doubles again."""

_SLOW_GROWTH = 1 / 8
"""Growth of the limit above that, for each event that becomes durable."""

LATE_SHARE = 1 / 3
"""Share of `flush_timeout` from which the wait for a flush counts as late."""


class Overloaded(Exception):
    """Too many events are in flight. Nothing was done with this one, and Pub/Sub delivers it again later."""


class FlushResult(NamedTuple):
    """The result of a flush.

    Attributes:
        started: When it started, in seconds of the group commit's clock.
        ended: When it ended.
        waited: Seconds that its first event was queued.
        in_flight: Number of events in flight when it started.
        events: Number of its events.
        durable: Number of its events that are durable.
        is_overloaded: Whether events failed because a service was overloaded.
    """

    started: float
    ended: float
    waited: float
    in_flight: int
    events: int
    durable: int
    is_overloaded: bool


class Admission:
    """Counts requests and events in flight, and rejects those above a limit. Pure: all times are passed in.

    In flight are the requests that are being read, and the events that are not durable yet. The limit on these events
    follows the services as TCP's congestion window follows the network:

    - Events waited long for their flush: the limit shrinks to three quarters of what was in flight.
    - More than half of a flush failed because a service is overloaded: it shrinks by half of that share.
    - Nothing of it became durable, nor of any other flush meanwhile: it falls to `PROBE`.
    - Otherwise it doubles up to three quarters of what was in flight at the last failure, and then grows slowly.

    What exceeds the limit is rejected before anything is done with it. Then Pub/Sub backs off, and the services have
    time to catch up.

    Args:
        settings: The limits for services that keep up.

    Attributes:
        reading: Number of requests that are being read.
        events: Number of events that wait for a flush or are in one, and are neither durable nor failed.
        size: Bytes of both.
        limit: Maximum number of events, now.
        rejected: Number of rejections so far.
    """

    def __init__(self, settings: Settings) -> None:
        self.reading = 0
        self.events = 0
        self.size = 0
        self.limit = float(settings.max_in_flight)
        self.rejected = 0
        self._max_events = settings.max_in_flight
        self._max_size = settings.max_in_flight_bytes
        self._probe = float(min(PROBE, self._max_events))
        self._late = settings.flush_timeout * LATE_SHARE
        self._slow_growth_from = self.limit
        self._last_success = -math.inf
        self._last_failure = -math.inf

    def read(self, size: int) -> None:
        """Count a request as being read.

        Raises:
            Overloaded: It would exceed a limit.
        """
        self._check(1, size)
        self.reading += 1
        self.size += size

    def read_more(self, size: int) -> None:
        """Count more bytes of a request that is being read.

        Raises:
            Overloaded: They would exceed a limit.
        """
        self._check(0, size)
        self.size += size

    def has_read(self, size: int) -> None:
        """Count a request of so many bytes as read."""
        self.reading -= 1
        self.size -= size

    def admit(self, size: int) -> None:
        """Count an event as in flight.

        Raises:
            Overloaded: It would exceed a limit.
        """
        self._check(1, size)
        self.events += 1
        self.size += size

    def release(self, events: int, size: int) -> None:
        """Count events as no longer in flight."""
        self.events -= events
        self.size -= size

    def reject(self) -> Overloaded:
        """Count a rejection, and return its error."""
        self.rejected += 1
        limit = "" if self.limit == self._max_events else f", limited to {self.limit:.0f} while the services recover"
        return Overloaded(f"{self.events + self.reading} events, {self.size} bytes in flight{limit}")

    def _check(self, events: int, size: int) -> None:
        """Reject what exceeds a limit. A message that is alone is admitted whatever its size."""
        in_flight = self.events + self.reading + events
        is_too_much = in_flight > self._max_events or (in_flight > 1 and self.size + size > self._max_size)
        if is_too_much or (events and self.events >= self.limit):
            raise self.reject()

    def flush_ended(self, flush: FlushResult) -> None:
        """Adapt the limit to the result of a flush."""
        if flush.durable:
            self._last_success = flush.ended
        failed = 1 - flush.durable / flush.events
        in_flight = min(self.limit, flush.in_flight)
        is_overloaded = flush.is_overloaded and failed > 1 / 2
        if not is_overloaded and flush.waited < self._late:
            growth = 1.0 if self.limit < self._slow_growth_from else _SLOW_GROWTH
            self.limit = min(self.limit + flush.durable * growth, float(self._max_events))
        elif flush.started < self._last_failure:
            pass  # Flushes that fail together are one failure.
        elif is_overloaded and not flush.durable and self._last_success < flush.started:
            self._last_failure = flush.ended
            if self.limit > self._probe:
                self._slow_growth_from = max(in_flight * _SHRINK, _FAST_GROWTH_TO)
            self.limit = self._probe
        else:
            self._last_failure = flush.ended
            factor = 1 - failed / 2 if is_overloaded else _SHRINK
            self.limit = max(in_flight * factor, float(flush.durable), self._probe)
            self._slow_growth_from = max(self.limit, _FAST_GROWTH_TO)
