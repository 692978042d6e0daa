"""The cost of reading the archive of two years: as flushes have written it, and compacted."""

import dataclasses

from sluice.cost import deployment, prices
from sluice.cost.compaction import PART_BYTES, REQUEST_SECONDS, Compaction
from sluice.cost.prices import GIB, Price

MONTHS = 24

THREADS = 8
"""Threads of `sluice erase`."""

SMALL_OBJECT_CPU = 0.0019
"""Seconds of CPU in which `sluice erase` reads an object of a flush; measured with 21 events in each."""
ERASED_EVENT_CPU = 6.5e-6
"""Seconds of CPU in which it searches an event of a compacted object; measured."""
REPLAYED_EVENTS = 38_000
"""Events a second that a replay reads and processes, without the tables: docs/beam.md."""

NEARLINE_DAYS, COLDLINE_DAYS = 30, 90
"""Ages at which the objects of the second lifecycle move to a colder class."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """Requests, time and cost of reading objects.

    Attributes:
        requests: Number of requests.
        hours: Hours.
        usd: USD for the requests and what they return, if the objects are in STANDARD.
    """

    requests: float
    hours: float
    usd: float


@dataclasses.dataclass(frozen=True, slots=True)
class StoredArchive:
    """An archive of `MONTHS` months.

    Attributes:
        events: Events of a month.
        objects: Objects of a month.
        bytes: Bytes of a month, as they are stored.
        is_compacted: Whether its objects are compacted.
    """

    events: float
    objects: float
    bytes: float
    is_compacted: bool

    @classmethod
    def written(cls, month: Compaction) -> "StoredArchive":
        """Return the archive as flushes write it."""
        return cls(month.events, month.written_objects, month.written_bytes, is_compacted=False)

    @classmethod
    def compacted(cls, month: Compaction) -> "StoredArchive":
        """Return the archive after its compaction."""
        return cls(month.events, month.objects, month.bytes, is_compacted=True)

    @property
    def requests(self) -> float:
        """Requests that return all objects of a month."""
        return self.bytes / PART_BYTES + self.objects if self.is_compacted else self.objects

    def replay(self) -> Reading:
        """Return the reading of a month, one object after the other."""
        hours = (self.requests * REQUEST_SECONDS + self.events / REPLAYED_EVENTS) / 3600
        return Reading(self.requests, hours, self._usd(self.requests))

    def erase(self) -> Reading:
        """Return the search of all months for a person."""
        cpu = self.events * ERASED_EVENT_CPU if self.is_compacted else self.objects * SMALL_OBJECT_CPU
        seconds = max(self.requests * REQUEST_SECONDS / THREADS, cpu)
        return Reading(self.requests * MONTHS, seconds * MONTHS / 3600, self._usd(self.requests * MONTHS))

    def erase_usd_from_colder_classes(self) -> float:
        """Return the USD of `erase` if objects move to NEARLINE and to COLDLINE."""
        months = (NEARLINE_DAYS / 30, (COLDLINE_DAYS - NEARLINE_DAYS) / 30, MONTHS - COLDLINE_DAYS / 30)
        operations = (prices.CLASS_B, prices.NEARLINE_CLASS_B, prices.COLDLINE_CLASS_B)
        retrieved = (None, prices.NEARLINE_RETRIEVAL, prices.COLDLINE_RETRIEVAL)
        return sum(
            count * (self.requests * operation.usd_per_unit + self.bytes / GIB * (price.usd_per_unit if price else 0))
            for count, operation, price in zip(months, operations, retrieved, strict=True)
        )

    def colder_classes_usd(self) -> float:
        """Return the USD a month for the moves of objects to NEARLINE and to COLDLINE."""
        moves: tuple[Price, ...] = (prices.NEARLINE_CLASS_A, prices.COLDLINE_CLASS_A)
        return sum(self.objects * price.usd_per_unit for price in moves)

    def _usd(self, requests: float) -> float:
        return requests * prices.CLASS_B.usd_per_unit + (
            self.objects / deployment.LISTED_OBJECTS * prices.CLASS_A.usd_per_unit * requests / self.requests
        )
