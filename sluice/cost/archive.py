"""The cost of reading the archive of two years: as flushes have written it, and compacted."""

import dataclasses
import math
from collections.abc import Iterator

from functions.archive.compacted_file import MAX_BYTES
from sluice.cost import deployment, prices
from sluice.cost.prices import GIB, HOURS_OF_MONTH, Price
from sluice.cost.sluice import OBJECTS, Sluice

MONTHS = 24

REQUEST_SECONDS = 0.06
"""Seconds of a request for an object, as the benchmark has them for an upload; assumed."""
THREADS = 8
"""Threads of `sluice erase`."""
PART_BYTES = 8 * 2**20
"""Bytes of a compacted object that a request returns."""

SMALL_OBJECT_CPU = 0.0019
"""Seconds of CPU in which `sluice erase` reads an object of a flush; measured with 21 events in each."""
ERASED_EVENT_CPU = 5.9e-6
"""Seconds of CPU in which it searches an event of a compacted object; measured."""
REPLAYED_EVENTS = 38_000
"""Events a second that a replay reads and processes, without the tables: docs/beam.md."""
COMPACTED_OBJECT_CPU = 0.003
"""Seconds of CPU in which `compact` reads, writes and deletes an object of a flush; measured."""
COMPACT_THREADS = 24
COMPACT_GIB = 1.0

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
    def written(cls, sluice: Sluice) -> "StoredArchive":
        """Return the archive as flushes write it."""
        events, [objects] = sluice.workload.events_per_month, _units(sluice, OBJECTS)
        archived = sluice.measured.archived_bytes * sluice.workload.message_bytes / sluice.measured.message_bytes
        return cls(events, objects, objects * sluice.measured.object_bytes + events * archived, is_compacted=False)

    def compacted(self, sluice: Sluice) -> "StoredArchive":
        """Return the same archive, compacted."""
        size = self.bytes - self.objects * sluice.measured.object_bytes
        objects = HOURS_OF_MONTH * math.ceil(size / HOURS_OF_MONTH / MAX_BYTES)
        return dataclasses.replace(self, objects=objects, bytes=size, is_compacted=True)

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

    def compaction_usd(self) -> float:
        """Return the USD a month to compact it."""
        lists = 3 * max(self.objects / deployment.LISTED_OBJECTS, HOURS_OF_MONTH)
        seconds = self.objects * max(2 * REQUEST_SECONDS / COMPACT_THREADS, COMPACTED_OBJECT_CPU)
        return (
            lists * prices.CLASS_A.usd_per_unit
            + self.objects * prices.CLASS_B.usd_per_unit
            + seconds * (prices.VCPU_SECONDS.usd_per_unit + COMPACT_GIB * prices.GIB_SECONDS.usd_per_unit)
        )

    def _usd(self, requests: float) -> float:
        return requests * prices.CLASS_B.usd_per_unit + (
            self.objects / deployment.LISTED_OBJECTS * prices.CLASS_A.usd_per_unit * requests / self.requests
        )


def _units(sluice: Sluice, item: str) -> Iterator[float]:
    return (line.units for line in sluice.bill().lines if line.item == item)
