"""Decides when the next flush starts: small and soon where the services are fast, few and large where they are slow."""

import collections
import math
from typing import NamedTuple

MAX_FLUSHES = 4
"""Maximum number of flushes that run at once."""
MAX_ARCHIVING = 2
"""Maximum number of them that are being archived, where a flush takes the most memory."""

INTERVAL = 0.07
"""Minimum seconds between the starts of two flushes that overlap. A shorter interval writes more, smaller objects."""
BACKLOG_THRESHOLD = 50
"""Number of queued events from which the shorter intervals below hold."""
BACKLOG_INTERVAL = 0.045
"""Minimum seconds where `BACKLOG_THRESHOLD` events are queued: an object for so many costs less than their requests."""

SHARE = 0.45
"""Share of a flush's duration that passes between two starts, so that about two flushes run at once."""
BACKLOG_SHARE = 0.3
"""The same share where `BACKLOG_THRESHOLD` events are queued, for about three flushes at once."""

FAST = 0.3
"""Seconds of a flush below which the services are fast enough for `BACKLOG_SHARE`. Slower ones get larger flushes."""

SLOW_SHARE = 1 / 3
"""Share of `flush_timeout` from which a flush counts as slow: fewer run at once from then on."""


class QueueState(NamedTuple):
    """The state of the queue, which is not empty.

    Attributes:
        events: Number of queued events.
        is_full: Whether they fill a batch.
        oldest: When the first of them was queued, in seconds of the scheduler's clock.
    """

    events: int
    is_full: bool
    oldest: float


class _Abandoned(NamedTuple):
    """Gives the times between which the requests of an overloaded flush still count as load."""

    since: float
    until: float


class FlushScheduler:
    """Decides when the next flush starts, from what the last ones took. Pure: all times are passed in.

    With no flush running, the next one starts at once. Beside a running flush, the next one starts when a share of a
    flush's duration has passed since the last start, so a service that slows down gets fewer and larger flushes.
    A flush that is slow or finds a service overloaded halves the number that may run at once; any other flush
    raises it again (additive increase, multiplicative decrease).

    Flushes may be kept apart, for fewer objects and requests. Then the first event after a pause is flushed at once,
    and the others wait for the interval's end, or until they fill a batch.

    Args:
        linger: Seconds after which an event's flush starts although the running one is not archived yet.
        flush_timeout: Maximum seconds of a flush.
        interval: Minimum seconds between the starts of two flushes whose events do not fill a batch.

    Attributes:
        running: Number of running flushes.
        archiving: Number of running flushes that are not archived yet.
    """

    def __init__(self, linger: float, flush_timeout: float, interval: float = 0.0) -> None:
        self.running = 0
        self.archiving = 0
        self._linger = linger
        self._interval = interval
        self._slow = flush_timeout * SLOW_SHARE
        self._max_flushes = float(MAX_FLUSHES)
        self._abandoned: list[_Abandoned] = []
        self._durations: collections.deque[float] = collections.deque(maxlen=3)
        self._duration = 0.0
        self._last_start = -math.inf

    def next_start(self, queue: QueueState, now: float) -> float | None:
        """Return the time from which the next flush may start; None while it has to wait for a running flush."""
        start = self._free_from(queue, now)
        if start is None or queue.is_full or not self._interval:
            return start
        return max(start, self._last_start + self._interval)

    def _free_from(self, queue: QueueState, now: float) -> float | None:
        """Return the same by the load of the services alone."""
        if not self.running:
            return -math.inf
        free = int(self._max_flushes) - self.running
        if free <= 0 or self.archiving >= MAX_ARCHIVING:
            return None
        abandoned = sorted(flush.until for flush in self._abandoned if flush.until > now)
        if len(abandoned) >= free:
            return abandoned[-free]
        times = [queue.oldest + max(self._linger, self._duration)]
        if not self.archiving:
            times.append(self._last_start + max(INTERVAL, self._duration * SHARE))
        if queue.is_full or queue.events >= BACKLOG_THRESHOLD:
            least = 0.0 if queue.is_full else BACKLOG_INTERVAL
            share = BACKLOG_SHARE if self._duration < FAST else SHARE
            times.append(self._last_start + max(least, self._duration * share))
        return min(times)

    def fair_share(self, in_flight: int) -> int:
        """Return the maximum number of events of the next flush, of so many in flight.

        Two slow flushes at once are of equal size: a large one beside a small one leaves the services idle, and the
        events that it makes room for would come back as another large one.
        """
        if not self.running or self._duration < FAST:
            return in_flight
        return math.ceil(in_flight / 2)

    def started(self, now: float) -> None:
        """Record the start of a flush."""
        self.running += 1
        self.archiving += 1
        self._last_start = now

    def archived(self) -> None:
        """Record that a running flush is archived, or that its archive failed."""
        self.archiving -= 1

    def ended(self, started: float, now: float, seconds: float, *, is_overloaded: bool) -> None:
        """Record the end of a flush.

        Requests that were given up still occupy the service. So an overloaded flush counts as a running one for as
        long again as it took, unless a flush that started later succeeds before.

        Args:
            started: When the flush started.
            now: When the flush ended.
            seconds: Seconds that the flush waited for the services.
            is_overloaded: Whether a service was overloaded: it did not answer in time, or said that it is unavailable.
        """
        self.running -= 1
        self._durations.append(seconds)
        self._duration = sorted(self._durations)[(len(self._durations) - 1) // 2]
        self._abandoned = [
            flush for flush in self._abandoned if flush.until > now and (is_overloaded or flush.since > started)
        ]
        if is_overloaded:
            self._abandoned.append(_Abandoned(now, now + seconds))
        if is_overloaded or seconds > self._slow:
            self._max_flushes = max(2.0, self._max_flushes / 2)
        else:
            self._max_flushes = min(float(MAX_FLUSHES), self._max_flushes + 1 / self._max_flushes)
