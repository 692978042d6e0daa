"""The insertIds of rows that a worker has appended lately."""

import threading
from collections.abc import Iterable


class RecentIds:
    """Remembers the last ids, as BigQuery does for `insertAll`: a bundle that fails comes again. Safe for threads.

    Args:
        capacity: Maximum number of ids; those that were neither added nor asked for the longest are forgotten.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._ids: dict[str, None] = {}

    def known(self, ids: Iterable[str]) -> set[str]:
        """Return the ids that are remembered, which they will be for longer then."""
        with self._lock:
            known = self._ids.keys() & set(ids)
            self._renew(known)
        return known

    def add(self, ids: Iterable[str]) -> None:
        """Remember ids."""
        with self._lock:
            self._renew(ids)

    def _renew(self, ids: Iterable[str]) -> None:
        for one in ids:
            self._ids.pop(one, None)
            self._ids[one] = None
        while len(self._ids) > self._capacity:
            del self._ids[next(iter(self._ids))]
