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

    def remembered(self, ids: Iterable[str]) -> set[str]:
        """Return the ids that are remembered, which they will be for longer then."""
        with self._lock:
            remembered = self._ids.keys() & set(ids)
            self._renew(remembered)
        return remembered

    def add(self, ids: Iterable[str]) -> None:
        """Remember ids."""
        with self._lock:
            self._renew(ids)

    def _renew(self, ids: Iterable[str]) -> None:
        for insert_id in ids:
            self._ids.pop(insert_id, None)
            self._ids[insert_id] = None
        while len(self._ids) > self._capacity:
            del self._ids[next(iter(self._ids))]
