"""The insertIds of the rows that a worker has appended recently."""

import threading
import time
from collections.abc import Callable, Iterable


class RecentIds:
    """Remembers the last ids, as BigQuery does for `insertAll`, since a failed bundle is retried. It is thread-safe.

    Args:
        capacity: Maximum number of ids; the least recently used ones are forgotten.
        seconds: Seconds after its last use at which an id is forgotten: its row may be deleted, and its event
            published again.
        clock: Returns a time in seconds.
    """

    def __init__(self, capacity: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}
        """Time at which each id was last used, in the order of these times."""

    def remembered(self, ids: Iterable[str]) -> set[str]:
        """Return the ids that are remembered; this is a use of them."""
        with self._lock:
            self._forget()
            remembered = self._used.keys() & set(ids)
            self._renew(remembered)
        return remembered

    def add(self, ids: Iterable[str]) -> None:
        """Add ids; this is a use of them."""
        with self._lock:
            self._renew(ids)
            self._forget()

    def _renew(self, ids: Iterable[str]) -> None:
        now = self._clock()
        for insert_id in ids:
            self._used.pop(insert_id, None)
            self._used[insert_id] = now

    def _forget(self) -> None:
        oldest = self._clock() - self._seconds
        while self._used:
            insert_id, used = next(iter(self._used.items()))
            if used >= oldest and len(self._used) <= self._capacity:
                break
            del self._used[insert_id]
