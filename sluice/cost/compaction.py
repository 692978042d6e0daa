"""The cost of the function `compact`, which replaces the objects of each hour by few large ones."""

import dataclasses
import math
from collections.abc import Iterator

from functions.archive.compacted_file import MAX_BYTES
from sluice.cost import deployment, prices
from sluice.cost.bill import BillLine, stored
from sluice.cost.prices import HOURS_OF_MONTH

OBJECTS = "compact: objects listed, read and written"
CPU = "compact: CPU and memory"
DELETED = "compact: deleted objects, kept for seven days"

REQUEST_SECONDS = 0.06
"""Seconds of a request for an object, as the benchmark has them for an upload; assumed."""
PART_BYTES = 8 * 2**20
"""Bytes of a compacted object that a request returns."""
OBJECT_CPU = 0.0027
"""Seconds of CPU in which `compact` reads and deletes an object, besides its events; measured."""
EVENT_CPU = 17e-6
"""Seconds of CPU for an event: decompressed, parsed, compressed and compared; measured."""
THREADS = 24
GIB = 1.0
MAX_SECONDS = 1_500
"""Maximum seconds of a run; there is one in an hour."""
RUN_SECONDS = 5.0
"""Seconds of a run besides its objects: its start, and the lists of the hours that it looks at again; assumed."""
LOOK_BACK_HOURS = 24
"""Hours before the end of the last run that each run lists again, with their checkpoints."""


@dataclasses.dataclass(frozen=True, slots=True)
class Compaction:
    """The compaction of the objects that are written in a month.

    Attributes:
        events: Number of events.
        written_objects: Number of objects as flushes write them.
        written_bytes: Their bytes.
        compacted_bytes: Bytes of the compacted objects, if all are compacted.
    """

    events: float
    written_objects: float
    written_bytes: float
    compacted_bytes: float

    @property
    def share(self) -> float:
        """Share of the objects that runs of their maximum time compact; the others stay as they are written."""
        return min(1.0, HOURS_OF_MONTH * (MAX_SECONDS - RUN_SECONDS) / self._seconds)

    @property
    def _seconds(self) -> float:
        """Seconds to compact all objects."""
        requests = 2 * self.written_objects * REQUEST_SECONDS / THREADS
        lists = 2 * self.written_objects / deployment.LISTED_OBJECTS * deployment.LIST_SECONDS
        return lists + max(requests, self.written_objects * OBJECT_CPU + self.events * EVENT_CPU)

    @property
    def _compacted_objects(self) -> float:
        """Number of the compacted objects; an hour with one object stays as it is."""
        large = HOURS_OF_MONTH * math.ceil(self.compacted_bytes / HOURS_OF_MONTH / MAX_BYTES)
        return self.share * min(self.written_objects, large)

    @property
    def objects(self) -> float:
        """Number of the objects after the compaction."""
        return self._compacted_objects + (1 - self.share) * self.written_objects

    @property
    def bytes(self) -> float:
        """Bytes of the objects after the compaction."""
        return self.share * self.compacted_bytes + (1 - self.share) * self.written_bytes

    def lines(self) -> Iterator[BillLine]:
        """Yield the lines of the bill."""
        originals, compacted = self.share * self.written_objects, self._compacted_objects
        pages = max(originals / deployment.LISTED_OBJECTS, HOURS_OF_MONTH)
        # Originals are listed before they are read, and again before their compacted object counts, with all compacted
        # objects of the hour.
        lists = 2 * pages + compacted + HOURS_OF_MONTH * LOOK_BACK_HOURS
        # A compacted object is written, and then marked as finished. A run lists the checkpoints, and writes its end.
        yield BillLine(OBJECTS, prices.CLASS_A, lists + 2 * compacted + 2 * HOURS_OF_MONTH)
        verified = self.share * self.compacted_bytes / PART_BYTES + compacted
        # A run reads the end of the last one, its metadata first, and checkpoints.
        yield BillLine(OBJECTS, prices.CLASS_B, originals + verified + HOURS_OF_MONTH * (2 + LOOK_BACK_HOURS))
        seconds = self.share * self._seconds + HOURS_OF_MONTH * RUN_SECONDS
        yield BillLine(CPU, prices.VCPU_SECONDS, seconds)
        yield BillLine(CPU, prices.GIB_SECONDS, seconds * GIB)
        yield stored(DELETED, prices.STANDARD, self.share * self.written_bytes, 0, deployment.SOFT_DELETE_DAYS)
