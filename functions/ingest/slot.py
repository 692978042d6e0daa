"""The slot that a running flush has in the scheduler."""

import asyncio
from collections.abc import Callable

from functions.ingest.scheduler import FlushScheduler


class FlushSlot:
    """Records in the scheduler how far a flush is, and starts the flushes that may start then.

    Args:
        scheduler: Has counted the flush as started.
        clock: Returns the time in seconds.
        start_flushes: Starts the flushes that may start now.

    Attributes:
        clock: Returns the time in seconds.
        started: When the flush started.
    """

    def __init__(
        self, scheduler: FlushScheduler, clock: Callable[[], float], start_flushes: Callable[[], None]
    ) -> None:
        self._scheduler = scheduler
        self.clock = clock
        self._start_flushes = start_flushes
        self.started = clock()
        self._processed = self.started
        self._is_free = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def service_seconds(self) -> float:
        """Seconds since the events were processed: the time of the services."""
        return self.clock() - self._processed

    def processed(self) -> None:
        """Record that the flush has processed its events."""
        self._processed = self.clock()

    def archived(self) -> None:
        """Record that the flush is archived, or that its archive failed."""
        self._scheduler.archived()
        self._start_flushes()

    def free_after(self, seconds: float) -> None:
        """Free the slot after so many seconds, although the flush is still running. Only the first call counts."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._free_early)

    def free(self, *, is_overloaded: bool) -> None:
        """Free the slot, unless it is free: another flush may have it."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_free:
            self._is_free = True
            now = self.clock()
            self._scheduler.ended(self.started, now, now - self._processed, is_overloaded=is_overloaded)

    def _free_early(self) -> None:
        self.free(is_overloaded=False)
        self._start_flushes()
