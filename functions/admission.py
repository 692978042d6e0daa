"""How many events may be in flight: all that the settings allow, or fewer while the services do not keep up."""

import math

from functions.settings import Settings

PROBE = 10
"""Maximum number of events in flight after nothing became durable: enough to try each table."""

_SHRINK = 0.75
"""Factor on the number of events in flight at a failure: up to there the limit doubles afterwards."""

_SLOW_GROWTH = 1 / 8
"""Growth of the limit above that, for each event that becomes durable."""


class Overloaded(Exception):
    """Too many events are in flight. Nothing was done with this one, and Pub/Sub delivers it again later."""


class Admission:
    """Counts what is in flight, and rejects what is too much. Pure: all times are passed in.

    In flight are the requests that are being read, and the events that wait for a flush or are in one. The limit on
    these events follows the services as TCP's congestion window follows the network. When events fail because a
    service is overloaded, it shrinks by half of their share. When nothing at all becomes durable, it falls to
    `PROBE`. While events become durable, it doubles up to three quarters of what was in flight, and grows slowly from
    there to `max_in_flight`. What exceeds it is rejected before anything is done with it: then Pub/Sub backs off, and
    the service has time to catch up.

    Args:
        settings: The limits for services that keep up.

    Attributes:
        reading: Number of requests that are being read.
        events: Number of events that wait for a flush or are in one.
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

    def flush_ended(self, started: float, now: float, durable: int, failed: int, *, is_overloaded: bool) -> None:
        """Adapt the limit to what became of a flush; to be called before its events are released.

        Args:
            started: When the flush started.
            now: When the flush ended.
            durable: Number of its events that are durable.
            failed: Number of its events that are not.
            is_overloaded: Whether events failed because a service was overloaded.
        """
        if durable:
            self._last_success = now
        if not is_overloaded:
            growth = 1.0 if self.limit < self._slow_growth_from else _SLOW_GROWTH
            self.limit = min(self.limit + durable * growth, float(self._max_events))
        elif started > self._last_failure:  # Flushes that fail together are one failure.
            self._last_failure = now
            in_flight = min(self.limit, self.events)
            if durable or self._last_success > started:
                self.limit = max(in_flight * (1 - failed / (durable + failed) / 2), self._probe)
                self._slow_growth_from = self.limit
            else:
                if self.limit > self._probe:
                    self._slow_growth_from = in_flight * _SHRINK
                self.limit = self._probe
